package client

import (
	"net/http"
	"strings"

	"github.com/countersign/countersign/pkg/secret"
)

// BearerToken returns the secret that a request carries in its Authorization header (RFC 6750, section 2.1); the zero
// value when it carries none. Credentials of another scheme are a token that nobody knows, not a missing one.
func BearerToken(r *http.Request) secret.Secret {
	value := r.Header.Get("Authorization")
	if scheme, rest, _ := strings.Cut(value, " "); strings.EqualFold(scheme, "Bearer") {
		value = strings.TrimSpace(rest)
	}
	return secret.New(value)
}
