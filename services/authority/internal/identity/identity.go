// Package identity says who calls the authority and what the caller may do (B26): named keys from a file,
// roles viewer, admin and validator, everything else denied.
package identity

import (
	"context"
	"errors"

	"google.golang.org/grpc/metadata"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/bearer"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

// Identity is a known caller.
type Identity struct {
	Name string
	Role adminkeys.Role
}

// Source knows identities by what they send. Its methods must be safe for concurrent use.
type Source interface {
	// Identify returns the identity that a bearer credential belongs to; false when it is nobody's.
	Identify(credential string) (Identity, bool)
}

// Anyone is the source of `--insecure-dev`: every caller may do everything.
type Anyone struct{}

// Identify implements Source.
func (Anyone) Identify(string) (Identity, bool) {
	return Identity{Name: "insecure-dev", Role: anything}, true
}

type contextKey struct{}

// From returns the identity that Guard has put into a context.
func From(ctx context.Context) Identity {
	id, _ := ctx.Value(contextKey{}).(Identity)
	return id
}

// authenticate reads the credential of a call: `authorization: Bearer <admin key>` (RFC 6750, section 2.1).
func authenticate(ctx context.Context, source Source) (Identity, error) {
	incoming, _ := metadata.FromIncomingContext(ctx)
	sent, err := bearer.Parse(incoming.Get("authorization"))
	if errors.Is(err, bearer.ErrScheme) {
		return Identity{}, apierr.Unauthenticated("authorization: want Bearer and an admin key")
	}
	if err != nil {
		return Identity{}, apierr.Unauthenticated("%s", err)
	}
	credential := sent.Reveal()
	if len(credential) > secret.MaxLength {
		return Identity{}, apierr.Unauthenticated("authorization: want an admin key")
	}
	caller, known := source.Identify(credential)
	if !known {
		if credential == "" {
			return Identity{}, apierr.Unauthenticated("no credential: send authorization: Bearer <admin key>")
		}
		return Identity{}, apierr.Unauthenticated("the admin key is not known")
	}
	return caller, nil
}
