// Package bearer reads the Authorization header, for requests of customers' backends and for calls of
// administrators, so that both accept the same. It checks the form of the header, and looks up no secret.
// This package is not part of the public API and may change in any release.
package bearer

import (
	"strings"

	"github.com/countersign/countersign/pkg/secret"
)

// Error says why a header is rejected. It holds no part of the secret and may be shown to anyone.
type Error string

// Error returns the text.
func (e Error) Error() string { return string(e) }

const (
	// ErrSeveral rejects several Authorization headers, since a proxy may have checked another one.
	ErrSeveral = Error("authorization: want one value")
	// ErrScheme rejects other schemes than Bearer, and a secret without a scheme.
	ErrScheme = Error("authorization: want Bearer and the secret")
)

// Parse returns the secret in the values of the Authorization headers, without checking it. It returns the
// zero value when there is no header, or none with a secret. The form follows RFC 6750, section 2.1: the
// scheme Bearer, in any case (RFC 9110, section 11.1), spaces but no tabs, and the secret. Blanks around
// the value are ignored.
func Parse(values []string) (secret.Secret, error) {
	if len(values) > 1 {
		return secret.Secret{}, ErrSeveral
	}
	value := ""
	if len(values) == 1 {
		value = strings.Trim(values[0], " \t")
	}
	if value == "" {
		return secret.Secret{}, nil
	}
	scheme, rest, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return secret.Secret{}, ErrScheme
	}
	if rest = strings.TrimLeft(rest, " "); rest == "" {
		return secret.Secret{}, nil
	}
	return secret.New(rest), nil
}
