// Package bearer reads the Authorization header: one reading for requests that customers' backends send and
// for calls of administrators, so that neither takes what the other refuses. It knows headers and nothing
// else: it looks no secret up.
package bearer

import (
	"strings"

	"github.com/countersign/countersign/pkg/secret"
)

// Error says why a credential is refused. It holds no part of the credential and may be shown to anyone.
type Error string

// Error returns the words.
func (e Error) Error() string { return string(e) }

const (
	// ErrSeveral refuses more than one Authorization header: a proxy may have checked another one than we
	// would.
	ErrSeveral = Error("authorization: want one value")
	// ErrScheme refuses a secret without a scheme, and every other scheme.
	ErrScheme = Error("authorization: want Bearer and the secret")
)

// Parse returns the secret that the values of the Authorization headers carry; the zero value when there is
// no header, or no secret in it. The form is that of RFC 6750, section 2.1: the scheme Bearer, in any case
// (RFC 9110, section 11.1), spaces (no tabs), and the secret, which is returned unchecked. Blanks around
// the whole value count for nothing.
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
