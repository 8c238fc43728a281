package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/cmdline"
)

// halfRevoker is an authority that cannot revoke a leaked secret in every app.
type halfRevoker struct {
	fake
	answer *countersignv1.RevokeSecretResponse
}

// RevokeSecret implements countersignv1.AuthorityServiceServer.
func (f *halfRevoker) RevokeSecret(
	context.Context, *countersignv1.RevokeSecretRequest,
) (*countersignv1.RevokeSecretResponse, error) {
	return nil, apierr.Unavailable(apierr.OutcomeUnknown, "not everywhere").With(f.answer)
}

// TestB10_PartlyRevoked: the command shows what was revoked, names each app that was not changed, and fails
// with advice on how to go on.
func TestB10_PartlyRevoked(t *testing.T) {
	f := &halfRevoker{answer: &countersignv1.RevokeSecretResponse{
		Tokens: []*countersignv1.RevokedToken{{AppId: "done", Token: &countersignv1.Token{
			TokenId: "tok_1", Name: "shared", State: countersignv1.TokenState_TOKEN_STATE_REVOKED,
		}}},
		Failures: []*countersignv1.RevokeFailure{{
			AppId: "failed", Reason: "STORE_UNAVAILABLE",
			Message: "the store cannot be read",
		}},
		UnverifiedAppIds: []string{"damaged"}, Incomplete: true,
	}}
	f.serve(t, f)
	file := filepath.Join(t.TempDir(), "leaked")
	if err := os.WriteFile(file, []byte("legacy-secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, output := range []string{"table", "json"} {
		got := run(t, "token", "revoke", "--secret-file", file, "--output", output)
		if got.code != cmdline.ExitFailed || !strings.Contains(got.out, "done") || !strings.Contains(got.out, "tok_1") {
			t.Errorf("%s: %+v", output, got)
		}
		for _, part := range []string{"OUTCOME_UNKNOWN", "--request-id"} {
			if !strings.Contains(got.errors, part) {
				t.Errorf("%s: %q is not in %q", output, part, got.errors)
			}
		}
		for _, part := range []string{"failed", "STORE_UNAVAILABLE", "damaged"} {
			if !strings.Contains(got.out+got.errors, part) {
				t.Errorf("%s: %q is not in %+v", output, part, got)
			}
		}
	}
}
