package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/cmdline"
)

func secretIn(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTokenFind(t *testing.T) {
	f := &scripted{found: func(*countersignv1.FindTokenRequest) (*countersignv1.FindTokenResponse, error) {
		return &countersignv1.FindTokenResponse{Tokens: []*countersignv1.FoundToken{
			{AppId: "one", Token: &countersignv1.Token{
				TokenId: "tok_1", Name: "a\x1b[2J", State: active,
				LastUses: []*countersignv1.LastUse{{Scope: events, UseTime: timestamppb.New(time.Now().Add(-3 * time.Minute))}},
			}},
			{AppId: "two", Token: &countersignv1.Token{State: countersignv1.TokenState_TOKEN_STATE_REVOKED}},
		}}, nil
	}}
	f.serve(t, f)
	file := secretIn(t, "  legacy-secret \n")
	got := run(t, "token", "find", "--secret-file", file)
	if table := strings.Join(strings.Fields(got.out), " "); got.code != cmdline.ExitDone ||
		table != `APP TOKEN NAME STATE LAST USE one tok_1 a\x1b[2J ACTIVE 3 min ago two - - REVOKED -` {
		t.Errorf("%q, %+v", table, got)
	}
	if r := f.requests()[0].(*countersignv1.FindTokenRequest); r.GetSecret() != "legacy-secret" {
		t.Errorf("asked for %q", r.GetSecret())
	}
	f.found = func(*countersignv1.FindTokenRequest) (*countersignv1.FindTokenResponse, error) {
		return nil, apierr.NotFound("SECRET_NOT_FOUND", "no app has a token with this secret")
	}
	if got := run(t, "token", "find", "--secret-file", file); got.code != cmdline.ExitFailed || got.out != "" ||
		got.errors != "countersign: NOT_FOUND: no app has a token with this secret\n" {
		t.Errorf("%+v", got)
	}
	// What could not be read is named, and the command fails, also when a token was found.
	f.found = func(*countersignv1.FindTokenRequest) (*countersignv1.FindTokenResponse, error) {
		return &countersignv1.FindTokenResponse{
			Tokens:           []*countersignv1.FoundToken{{AppId: "one", Token: &countersignv1.Token{TokenId: "tok_1"}}},
			UnverifiedAppIds: []string{"damaged"}, Incomplete: true,
		}, nil
	}
	got = run(t, "token", "find", "--secret-file", file)
	if got.code != cmdline.ExitFailed || !strings.Contains(got.out, "tok_1") ||
		!strings.Contains(got.errors, "damaged") || !strings.Contains(got.errors, "a part of the store could not be read") {
		t.Errorf("%+v", got)
	}
}

// TestB16_RevokeDryRun: nothing is sent that could revoke, by id and by secret. An authority that does not
// know dry runs, and would revoke, is not asked.
func TestB16_RevokeDryRun(t *testing.T) {
	f := &scripted{
		found: func(*countersignv1.FindTokenRequest) (*countersignv1.FindTokenResponse, error) {
			return &countersignv1.FindTokenResponse{Tokens: []*countersignv1.FoundToken{
				{AppId: "one", Token: &countersignv1.Token{TokenId: "tok_1", State: active}},
				{AppId: "two", Token: &countersignv1.Token{State: countersignv1.TokenState_TOKEN_STATE_REVOKED}},
			}}, nil
		},
		revoke: func(r *countersignv1.RevokeTokenRequest) (*countersignv1.RevokeTokenResponse, error) {
			if !r.GetValidateOnly() {
				t.Errorf("revoked: %v", r)
			}
			return &countersignv1.RevokeTokenResponse{
				Token:    &countersignv1.Token{TokenId: r.GetTokenId(), State: countersignv1.TokenState_TOKEN_STATE_REVOKED},
				Warnings: []string{"it was used 12 times in the last hour"},
			}, nil
		},
	}
	f.serve(t, f)
	byID := []string{"token", "revoke", "--app=one", "--token=tok_1", "--dry-run"}
	if got := run(t, byID...); got.code != cmdline.ExitFailed || !strings.Contains(got.errors, "older than this command") ||
		len(f.requests()) != 1 {
		t.Errorf("%+v, %v", got, f.requests())
	}
	f.readiness = func(*countersignv1.GetReadinessRequest) (*countersignv1.GetReadinessResponse, error) {
		return &countersignv1.GetReadinessResponse{}, nil
	}
	for _, args := range [][]string{byID, {"token", "revoke", "--secret-file", secretIn(t, "legacy"), "--dry-run"}} {
		got := run(t, args...)
		if got.code != cmdline.ExitDone || !strings.Contains(got.errors, "Warning: it was used 12 times in the last hour\n") ||
			!strings.Contains(got.errors, "Dry run: nothing was changed.") || !strings.Contains(got.out, "tok_1") ||
			!strings.Contains(got.out, "REVOKED") {
			t.Errorf("%q: %+v", args, got)
		}
	}
	f.revoke = func(*countersignv1.RevokeTokenRequest) (*countersignv1.RevokeTokenResponse, error) {
		return nil, apierr.Precondition("LOCKOUT", "apps/one", "no active token would be left for EVENTS")
	}
	if got := run(t, "token", "revoke", "--secret-file", secretIn(t, "legacy"), "--dry-run"); got.code != cmdline.ExitFailed ||
		!strings.Contains(got.errors, "app one would not be changed: FAILED_PRECONDITION: no active token would be left") {
		t.Errorf("%+v", got)
	}
}
