package identity

import (
	"context"
	"errors"

	"google.golang.org/grpc/metadata"

	"github.com/countersign/countersign/pkg/bearer"
	"github.com/countersign/countersign/pkg/secret"
)

// Bearer is a Source of callers who send `authorization: Bearer <admin key>` (RFC 6750, section 2.1). The
// function returns the identity of a key of at most secret.MaxLength bytes, and false for an unknown key. The
// key is empty for a call that sends none.
type Bearer func(key string) (Identity, bool)

// Identify implements Source.
func (known Bearer) Identify(ctx context.Context) (Identity, error) {
	incoming, _ := metadata.FromIncomingContext(ctx)
	sent, err := bearer.Parse(incoming.Get("authorization"))
	if errors.Is(err, bearer.ErrScheme) {
		return Identity{}, CredentialError("authorization: want Bearer and an admin key")
	}
	if err != nil {
		return Identity{}, CredentialError(err.Error())
	}
	key := sent.Reveal()
	if len(key) > secret.MaxLength {
		return Identity{}, CredentialError("authorization: want an admin key")
	}
	caller, ok := known(key)
	switch {
	case ok:
		return caller, nil
	case key == "":
		return Identity{}, CredentialError("no credential: send authorization: Bearer <admin key>")
	default:
		return Identity{}, CredentialError("the admin key is not known")
	}
}

// Anyone is the Source of `--insecure-dev`: every caller may call every method, with any admin key or none.
type Anyone struct{}

// Identify implements Source.
func (Anyone) Identify(ctx context.Context) (Identity, error) {
	return Bearer(func(string) (Identity, bool) {
		return Identity{Name: "insecure-dev", Role: anything}, true
	}).Identify(ctx)
}
