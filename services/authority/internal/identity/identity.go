// Package identity finds out who calls the authority and what the caller may do (B26). Today a caller is a
// named key in a file with the role viewer, admin or validator. This package is not part of the public API
// and may change in any release.
package identity

import (
	"context"
	"errors"

	"github.com/countersign/countersign/pkg/apierr"
)

// Role is what a caller may do.
type Role string

// The roles. Viewer and Admin may call the management service, Validator the fleet's service.
const (
	Viewer    Role = "viewer"    // read
	Admin     Role = "admin"     // read and change
	Validator Role = "validator" // report to the fleet

	// anything is the role of a caller who may call every method.
	anything Role = "anything"
)

// Identity is a known caller.
type Identity struct {
	Name string
	Role Role
}

// Source finds out who makes a call. Its methods must be safe for concurrent use.
type Source interface {
	// Identify returns the caller of an incoming call. It reads what the call has sent from ctx: the
	// metadata, or the certificate of the peer.
	//
	// For a credential that is missing or wrong it returns a CredentialError, and the call ends with
	// UNAUTHENTICATED. Any other error means that the credential cannot be checked now, and the call ends
	// with UNAVAILABLE.
	//
	// On a stream it is called for each message.
	Identify(ctx context.Context) (Identity, error)
}

// CredentialError says that the credential of a call is missing or wrong. The caller reads its words, so they
// never hold the credential.
type CredentialError string

// Error returns the words.
func (e CredentialError) Error() string { return string(e) }

// notChecked is the reason of UNAVAILABLE for a credential that cannot be checked now.
const notChecked = "IDENTITY_NOT_CHECKED"

// identify returns the caller of a call, or the error that the caller gets.
func identify(ctx context.Context, source Source) (Identity, error) {
	caller, err := source.Identify(ctx)
	if err == nil {
		return caller, nil
	}
	var bad CredentialError
	if errors.As(err, &bad) {
		return Identity{}, apierr.Unauthenticated("%s", bad)
	}
	return Identity{}, apierr.Unavailable(notChecked, "the credential cannot be checked now; repeat the call").Because(err)
}

type contextKey struct{}

// From returns the caller that Guard has put into a context.
func From(ctx context.Context) Identity {
	id, _ := ctx.Value(contextKey{}).(Identity)
	return id
}
