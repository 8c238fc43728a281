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

// DefaultMaxForm is how many bytes of a form FormSecret reads when it is not told otherwise.
const DefaultMaxForm = 64 << 10

// BearerSecret returns the secret that a request carries in its Authorization header; the zero value when
// it carries none. Any scheme but Bearer, and more than one header, are an error (RFC 6750, section 2.1).
// Errors of this function, and of the others that find a secret, hold no part of it.
func BearerSecret(r *http.Request) (secret.Secret, error) {
	return bearer.Parse(r.Header.Values("Authorization"))
}

// HeaderSecret returns a function that finds the secret in a header of its own. Several such headers are an
// error.
func HeaderSecret(name string) func(*http.Request) (secret.Secret, error) {
	return func(r *http.Request) (secret.Secret, error) {
		return single(r.Header.Values(name), "header", name)
	}
}

// QuerySecret returns a function that finds the secret in a query parameter. Several of that name are an
// error. URLs end up in logs: a header is the better place where there is a choice (RFC 6750, section 2.3).
func QuerySecret(name string) func(*http.Request) (secret.Secret, error) {
	return func(r *http.Request) (secret.Secret, error) {
		return parameter(r.URL.RawQuery, "query parameter", name)
	}
}

// FormSecret returns a function that finds the secret in a field of a form that is the request's body
// (application/x-www-form-urlencoded). It reads at most maxBytes of the body, 0 being DefaultMaxForm; the
// handler can read all of it again. Several fields of that name, and a longer body, are an error. A request
// with another body carries no secret. Of a form that was parsed before (ParseForm), the fields count that
// net/http has kept: it leaves out those that it cannot decode.
func FormSecret(name string, maxBytes int64) func(*http.Request) (secret.Secret, error) {
	if maxBytes <= 0 {
		maxBytes = DefaultMaxForm
	}
	return func(r *http.Request) (secret.Secret, error) {
		if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/x-www-form-urlencoded" || r.Body == nil {
			return secret.Secret{}, nil
		}
		if r.PostForm != nil { // it was read before
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

// rewound is a body whose beginning was read and is read again.
type rewound struct {
	io.Reader
	io.Closer
}

// bodyError says that the body of a request could not be read.
type bodyError struct{ cause error }

// Error returns the words.
func (e *bodyError) Error() string { return "the body cannot be read: " + e.cause.Error() }

// Unwrap returns the cause.
func (e *bodyError) Unwrap() error { return e.cause }

// status is what the sender reads.
func (e *bodyError) status() int {
	var tooLarge *http.MaxBytesError
	if errors.As(e.cause, &tooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

// parameter finds the one value of a name in a query or form. Of other names it does not ask that they are
// well encoded: url.ParseQuery drops what is not, and a value that it drops must not make a second one the
// only one.
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

// malformed is a secret that no app can have (B03): too long, so that it is not even looked up.
var malformed = secret.New(strings.Repeat("?", secret.MaxLength+1))
