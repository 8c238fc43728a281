package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/countersign/countersign/pkg/bearer"
	"github.com/countersign/countersign/pkg/secret"
)

// DefaultMaxForm is the default limit, in bytes, on the size of a form that FormSecret reads.
const DefaultMaxForm = 64 << 10

// BearerSecret returns the secret in a request's Authorization header. It returns the zero value when the
// request has no such header. It fails when the scheme is not Bearer, and when the request has several such
// headers (RFC 6750, section 2.1). The errors of this function, and of HeaderSecret, QuerySecret and
// FormSecret, hold no part of the secret.
func BearerSecret(r *http.Request) (secret.Secret, error) {
	return bearer.Parse(r.Header.Values("Authorization"))
}

// HeaderSecret returns a function for Middleware.Secret that takes the secret from a header. The function
// fails when a request has several headers with this name.
func HeaderSecret(name string) func(*http.Request) (secret.Secret, error) {
	return func(r *http.Request) (secret.Secret, error) {
		return single(r.Header.Values(name), "header", name)
	}
}

// QuerySecret returns a function for Middleware.Secret that takes the secret from a query parameter. The
// function fails when a request has several parameters with this name. Prefer a header, because URLs end up
// in logs (RFC 6750, section 2.3).
func QuerySecret(name string) func(*http.Request) (secret.Secret, error) {
	return func(r *http.Request) (secret.Secret, error) {
		return parameter(r.URL.RawQuery, "query parameter", name)
	}
}

// FormSecret returns a function for Middleware.Secret that takes the secret from a form field in the
// request's body (application/x-www-form-urlencoded). It reads at most maxBytes of the body; 0 means
// DefaultMaxForm. The handler can read the whole body again. The function fails when the form has several
// fields with this name, and when the body is longer than maxBytes. In a body of another content type it
// finds no secret. If the form was parsed before (ParseForm), the function sees only fields that net/http
// could decode.
func FormSecret(name string, maxBytes int64) func(*http.Request) (secret.Secret, error) {
	if maxBytes <= 0 {
		maxBytes = DefaultMaxForm
	}
	return func(r *http.Request) (secret.Secret, error) {
		if kind, _, _ := mime.ParseMediaType(
			r.Header.Get("Content-Type"),
		); kind != "application/x-www-form-urlencoded" ||
			r.Body == nil {
			return secret.Secret{}, nil
		}
		if r.PostForm != nil { // the body was read before
			return single(r.PostForm[name], "form field", name)
		}
		tooLong := bearer.Error(fmt.Sprintf("form: want at most %d bytes", maxBytes))
		if r.ContentLength > maxBytes {
			return secret.Secret{}, tooLong
		}
		read, err := io.ReadAll(io.LimitReader(r.Body, maxBytes+1))
		r.Body = rewound{io.MultiReader(bytes.NewReader(read), r.Body), r.Body}
		switch {
		case err != nil:
			return secret.Secret{}, &bodyError{err}
		case int64(len(read)) > maxBytes:
			return secret.Secret{}, tooLong
		}
		return parameter(string(read), "form field", name)
	}
}

// rewound is a request's body that can be read again from its beginning.
type rewound struct {
	io.Reader
	io.Closer
}

// bodyError says that a request's body could not be read.
type bodyError struct{ cause error }

// Error returns the text.
func (e *bodyError) Error() string { return "the body cannot be read: " + e.cause.Error() }

// Unwrap returns the cause.
func (e *bodyError) Unwrap() error { return e.cause }

// status returns the HTTP status for the answer to the sender: 413 when the body is too large, otherwise 400.
func (e *bodyError) status() int {
	var tooLarge *http.MaxBytesError
	if errors.As(e.cause, &tooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

// parameter returns the value of a name in a query or form. It fails when the name has several values, or one
// that is badly encoded. Pairs with other names may be badly encoded. url.ParseQuery is not used, because it
// drops badly encoded pairs. Two values, one of them badly encoded, would then look like a single value.
func parameter(encoded, place, name string) (secret.Secret, error) {
	var values []string
	for pair := range strings.SplitSeq(encoded, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if key, err := url.QueryUnescape(key); err != nil || key != name {
			continue
		}
		value, err := url.QueryUnescape(value)
		if err != nil || strings.Contains(pair, ";") {
			return secret.Secret{}, bearer.Error(place + " " + name + ": want it percent-encoded")
		}
		values = append(values, value)
	}
	return single(values, place, name)
}

func single(values []string, place, name string) (secret.Secret, error) {
	switch len(values) {
	case 0:
		return secret.Secret{}, nil
	case 1:
		return secret.New(values[0]), nil
	}
	return secret.Secret{}, bearer.Error(place + " " + name + ": want one value")
}

// malformed is a secret that belongs to no app, because it is too long (B03).
var malformed = secret.New(strings.Repeat("?", secret.MaxLength+1))
