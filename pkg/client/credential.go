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

// DefaultMaxForm is how many bytes of a form FormSecret reads at most by default.
const DefaultMaxForm = 64 << 10

// BearerSecret returns the secret in a request's Authorization header, and the zero value when the request
// has none. It fails for another scheme than Bearer and for several headers (RFC 6750, section 2.1). The
// errors of this function, and of HeaderSecret, QuerySecret and FormSecret, hold no part of the secret.
func BearerSecret(r *http.Request) (secret.Secret, error) {
	return bearer.Parse(r.Header.Values("Authorization"))
}

// HeaderSecret returns a function for Middleware.Secret that takes the secret from a header. The function
// fails for several headers of that name.
func HeaderSecret(name string) func(*http.Request) (secret.Secret, error) {
	return func(r *http.Request) (secret.Secret, error) {
		return single(r.Header.Values(name), "header", name)
	}
}

// QuerySecret returns a function for Middleware.Secret that takes the secret from a query parameter. The
// function fails for several parameters of that name. Prefer a header, because URLs end up in logs (RFC
// 6750, section 2.3).
func QuerySecret(name string) func(*http.Request) (secret.Secret, error) {
	return func(r *http.Request) (secret.Secret, error) {
		return parameter(r.URL.RawQuery, "query parameter", name)
	}
}

// FormSecret returns a function for Middleware.Secret that takes the secret from a form field in the
// request's body (application/x-www-form-urlencoded). It reads at most maxBytes of the body; 0 means
// DefaultMaxForm. The handler can read the whole body again. The function fails for several fields of that
// name and for a longer body. A body of another type carries no secret. If the form was parsed before
// (ParseForm), the function sees only fields that net/http could decode.
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

// rewound is a body that is read again from its beginning.
type rewound struct {
	io.Reader
	io.Closer
}

// bodyError is the error of reading a request's body.
type bodyError struct{ cause error }

// Error returns the text.
func (e *bodyError) Error() string { return "the body cannot be read: " + e.cause.Error() }

// Unwrap returns the cause.
func (e *bodyError) Unwrap() error { return e.cause }

// status returns the HTTP status for the sender.
func (e *bodyError) status() int {
	var tooLarge *http.MaxBytesError
	if errors.As(e.cause, &tooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

// parameter returns the single value of a name in a query or form. Other names may be badly encoded.
// url.ParseQuery is not used, because it drops badly encoded values: of two values it could leave one,
// which then looks single.
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

// malformed is a secret that no app can have, because it is too long (B03).
var malformed = secret.New(strings.Repeat("?", secret.MaxLength+1))
