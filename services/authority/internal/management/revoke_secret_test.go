package management_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// share imports one secret into apps and returns the ids of its tokens, by app.
func (w *world) share(t testing.TB, secret string, apps ...string) map[string]string {
	t.Helper()
	tokens := map[string]string{}
	for _, app := range apps {
		done := must(w.ImportTokens(t.Context(), &pb.ImportTokensRequest{AppId: app, Imports: []*pb.TokenImport{
			{Name: "shared", Scopes: []pb.Scope{events}, Credential: &pb.TokenImport_Secret{Secret: secret}},
		}}))(t)
		tokens[app] = done.GetTokens()[0].GetTokenId()
	}
	return tokens
}

// newApps returns ids of apps in ascending order, in different partitions.
func newApps(n int) []string {
	var apps []string
	used := map[int]bool{}
	for len(apps) < n {
		app := newApp()
		hash := policy.HashApp(app)
		if partition := hash.Partition(record.DefaultPartitions); !used[partition] {
			used[partition] = true
			apps = append(apps, app)
		}
	}
	slices.Sort(apps)
	return apps
}

// TestB10_RevokeSecret: a leaked secret is revoked in every app that has it, whatever the state of its token.
func TestB10_RevokeSecret(t *testing.T) {
	w := newWorld(t)
	for name, paste := range map[string]func(string) string{
		"as it is":               func(s string) string { return s },
		"with white space on it": func(s string) string { return "\t " + s + "\r\n" },
	} {
		t.Run(name, func(t *testing.T) {
			leaked := foreign()
			apps := newApps(4)
			tokens := w.share(t, leaked, apps...)
			must(w.update(t.Context(), apps[1], &pb.Token{TokenId: tokens[apps[1]], State: disabled}, "state"))(t)
			must(w.update(t.Context(), apps[2], &pb.Token{TokenId: tokens[apps[2]], ExpireTime: in(-1)}, "expire_time"))(t)
			bystander := w.create(t, apps[0], "bystander", events)

			done := must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: paste(leaked)}))(t)
			if len(done.GetTokens()) != 4 || len(done.GetConsistencyTokens()) != 4 {
				t.Fatalf("got %v", done)
			}
			for i, found := range done.GetTokens() {
				app := apps[i]
				if found.GetAppId() != app || found.GetToken().GetTokenId() != tokens[app] || found.GetToken().GetState() != revoked {
					t.Errorf("got %v, want token %s of %s", found, tokens[app], app)
				}
				w.authorize(t, done.GetConsistencyTokens()[i], &pb.AuthorizeRequest{AppId: app, Token: leaked, Scope: events},
					allow(pb.Reason_REASON_TOKEN_REVOKED, false, tokens[app]))
			}
			if w.get(t, apps[0], bystander.GetToken().GetTokenId()).GetState() != active {
				t.Error("another token was revoked too")
			}
			// Once more: all are revoked already.
			again := must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: leaked}))(t)
			if len(again.GetTokens()) != 4 || again.GetTokens()[3].GetToken().GetState() != revoked {
				t.Errorf("once more: %v", again)
			}
		})
	}
}

// TestB10_MintedSecret needs neither app nor token.
func TestB10_MintedSecret(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	made := w.create(t, app, "a", events)
	done := must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: made.GetSecret()}))(t)
	if len(done.GetTokens()) != 1 || done.GetTokens()[0].GetToken().GetTokenId() != made.GetToken().GetTokenId() {
		t.Errorf("got %v", done)
	}
	// A deleted app has no token any more; its digests are remembered as revoked.
	must(w.DeleteApp(t.Context(), &pb.DeleteAppRequest{AppId: app}))(t)
	again := must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: made.GetSecret()}))(t)
	if len(again.GetTokens()) != 1 || again.GetTokens()[0].GetToken().GetState() != pb.TokenState_TOKEN_STATE_REVOKED ||
		again.GetTokens()[0].GetToken().GetTokenId() != made.GetToken().GetTokenId() || len(again.GetConsistencyTokens()) != 1 {
		t.Errorf("after its app was deleted: %v", again)
	}
}

// TestB10_LockoutInOne of several apps changes none, and names the app.
func TestB10_LockoutInOne(t *testing.T) {
	w := newWorld(t)
	for position := range 3 {
		t.Run(fmt.Sprint("app ", position), func(t *testing.T) {
			leaked := foreign()
			apps := newApps(3)
			w.share(t, leaked, apps...)
			w.enforce(t, apps[position], events)
			held := w.contents(t)
			_, err := w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: leaked})
			wantFailure(t, err, precondition("LOCKOUT", "apps/"+apps[position]))
			if !strings.Contains(err.Error(), apps[position]) || !strings.Contains(err.Error(), "EVENTS") || strings.Contains(err.Error(), leaked) {
				t.Errorf("the error says %v", err)
			}
			w.wantSame(t, held)
			done := must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: leaked, AllowLockout: true}))(t)
			if len(done.GetTokens()) != 3 {
				t.Errorf("got %v", done)
			}
		})
	}
}

// answerIn returns what a call that failed in part has told.
func answerIn(t testing.TB, err error) *pb.RevokeSecretResponse {
	t.Helper()
	for _, detail := range status.Convert(err).Details() {
		if answer, ok := detail.(*pb.RevokeSecretResponse); ok {
			return answer
		}
	}
	t.Fatalf("no RevokeSecretResponse in %v", err)
	return nil
}

// TestB10_OneAppThatCannotBeChanged stops none of the others, whichever it is. The error names it and what was done, and
// the call can be repeated.
func TestB10_OneAppThatCannotBeChanged(t *testing.T) {
	w := newWorld(t)
	for position := range 3 {
		t.Run(fmt.Sprint("app ", position), func(t *testing.T) {
			leaked := foreign()
			apps := newApps(3)
			tokens := w.share(t, leaked, apps...)
			broken := apps[position]
			hash := policy.HashApp(broken)
			log := record.KeysOf(hash.Partition(record.DefaultPartitions)).Log
			saved := must(w.redis.Dump(t.Context(), log).Result())(t)
			if err := w.redis.Set(t.Context(), log, "not a log", 0).Err(); err != nil {
				t.Fatal(err)
			}
			_, err := w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{
				Secret: leaked, RequestId: "r" + broken, WaitForPropagation: durationpb.New(time.Millisecond),
			})
			if status.Code(err) != codes.Unavailable || apierr.ReasonOf(err) != apierr.OutcomeUnknown ||
				strings.Contains(err.Error(), "nothing was changed") || !strings.Contains(err.Error(), broken) || strings.Contains(err.Error(), leaked) {
				t.Errorf("got %s %v, want UNAVAILABLE %s that names %s", apierr.ReasonOf(err), err, apierr.OutcomeUnknown, broken)
			}
			answer := answerIn(t, err)
			if len(answer.GetFailures()) != 1 || answer.GetFailures()[0].GetAppId() != broken || answer.GetFailures()[0].GetReason() == "" {
				t.Errorf("failures: %v, want %s", answer.GetFailures(), broken)
			}
			if len(answer.GetTokens()) != 2 || len(answer.GetConsistencyTokens()) != 2 || answer.GetReceipt() == nil {
				t.Errorf("of the others is told %v", answer)
			}
			for i, done := range answer.GetTokens() {
				if done.GetAppId() == broken || done.GetToken().GetState() != revoked || done.GetToken().GetTokenId() != tokens[done.GetAppId()] {
					t.Errorf("revoked is %v", done)
				}
				w.authorize(t, answer.GetConsistencyTokens()[i], &pb.AuthorizeRequest{AppId: done.GetAppId(), Token: leaked, Scope: events},
					allow(pb.Reason_REASON_TOKEN_REVOKED, false, tokens[done.GetAppId()]))
			}
			if err := w.redis.RestoreReplace(t.Context(), log, 0, saved).Err(); err != nil {
				t.Fatal(err)
			}
			done := must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: leaked, RequestId: "r" + broken}))(t)
			if len(done.GetTokens()) != 3 || len(done.GetConsistencyTokens()) != 3 || len(done.GetFailures()) != 0 {
				t.Errorf("got %v", done)
			}
			for app, id := range tokens {
				if got := w.get(t, app, id).GetState(); got != revoked {
					t.Errorf("the token of %s is %s", app, got)
				}
			}
		})
	}
}

// TestB10_RememberedSecret: a secret that was revoked so long ago that only its digest is remembered is answered as revoked.
func TestB10_RememberedSecret(t *testing.T) {
	w := newWorld(t)
	app, leaked := newApp(), foreign()
	w.share(t, leaked, app)
	w.write(t, app, func(d *record.Document) {
		d.Memory = d.Memory.With(d.Tokens[0].Token)
		d.Tokens = nil
	})
	done := must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: leaked}))(t)
	if len(done.GetTokens()) != 1 || done.GetTokens()[0].GetAppId() != app || done.GetTokens()[0].GetToken().GetState() != revoked {
		t.Fatalf("got %v", done)
	}
	w.authorize(t, done.GetConsistencyTokens()[0], &pb.AuthorizeRequest{AppId: app, Token: leaked, Scope: events},
		allow(pb.Reason_REASON_TOKEN_REVOKED, false, ""))
	if got := must(w.GetApp(t.Context(), &pb.GetAppRequest{AppId: app}))(t).GetApp(); got.GetRememberedDigestCount() != 1 || got.GetRevokedTokenCount() != 0 {
		t.Errorf("the app is %v", got)
	}
	_, err := w.ImportTokens(t.Context(), &pb.ImportTokensRequest{AppId: app, Imports: []*pb.TokenImport{
		{Name: "again", Credential: &pb.TokenImport_Secret{Secret: leaked}},
	}})
	wantFailure(t, err, failure{codes.AlreadyExists, "SECRET_TAKEN", ""})
}
