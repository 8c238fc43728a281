package identity_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/authority/internal/identity"
)

// witness knows no key, and records each key that it is asked for.
type witness []string

func (w *witness) find(key string) (identity.Identity, bool) {
	*w = append(*w, key)
	return identity.Identity{}, false
}

// B26: no over-long key reaches the lookup, and a caller that has sent nothing learns what to send.
func TestB26_WhatReachesTheSource(t *testing.T) {
	longest := strings.Repeat("a", secret.MaxLength)
	for _, tt := range []struct {
		name    string
		sent    []string
		reaches bool
		says    string
	}{
		{"nothing", nil, true, "no credential"},
		{"a scheme alone", []string{"authorization", "Bearer"}, true, "no credential"},
		{"an unknown key", []string{"authorization", "Bearer key"}, true, "is not known"},
		{"the longest", []string{"authorization", "Bearer " + longest}, true, "is not known"},
		{"longer than that", []string{"authorization", "Bearer " + longest + "a"}, false, "want an admin key"},
		{"two", []string{"authorization", "Bearer a", "authorization", "Bearer a"}, false, "want one value"},
		{"another scheme", []string{"authorization", "Basic a"}, false, "want Bearer"},
	} {
		var asked witness
		_, _, err := call(identity.Bearer(asked.find), full("GetApp"), tt.sent...)
		if code := status.Code(grpcError(err)); code != codes.Unauthenticated || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want UNAUTHENTICATED that says %q", tt.name, err, tt.says)
		}
		if reached := len(asked) > 0; reached != tt.reaches {
			t.Errorf("%s: reached the source: %v", tt.name, reached)
		}
	}
}

// A keys file that cannot be read differs from one without keys: the error says why.
func TestB26_UnreadableKeysFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing")
	if keys, err := identity.LoadKeys(nil, path); keys != nil || !errors.Is(err, fs.ErrNotExist) ||
		!strings.Contains(err.Error(), path) {
		t.Errorf("%v, %v", keys, err)
	}
}

// later is a Source that cannot check a credential now.
type later struct{ cause error }

func (l later) Identify(context.Context) (identity.Identity, error) {
	return identity.Identity{}, l.cause
}

// B26: a credential that cannot be checked now is UNAVAILABLE, not UNAUTHENTICATED, and the caller does not
// read the cause.
func TestB26_CredentialThatCannotBeCheckedNow(t *testing.T) {
	cause := errors.New("10.0.0.7: connection refused")
	_, reached, err := call(later{cause}, full("GetApp"), "authorization", "Bearer key")
	got := status.Convert(grpcError(err))
	if got.Code() != codes.Unavailable || reached || !errors.Is(err, cause) || strings.Contains(got.Message(), cause.Error()) {
		t.Errorf("%v (handler reached: %t), want UNAVAILABLE without the cause", got, reached)
	}
	bad := fmt.Errorf("one of two sources: %w", identity.CredentialError("the certificate has expired"))
	_, _, err = call(later{bad}, full("GetApp"))
	if got := status.Convert(grpcError(err)); got.Code() != codes.Unauthenticated ||
		got.Message() != "the certificate has expired" {
		t.Errorf("%v, want UNAUTHENTICATED with the words of the CredentialError", got)
	}
}
