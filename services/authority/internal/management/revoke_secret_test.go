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
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// share imports one secret into apps, and returns the ids of its tokens by app.
func (w *world) share(t testing.TB, secret string, apps ...string) map[string]string {
	t.Helper()
	tokens := map[string]string{}
	for _, app := range apps {
		done := check.Must(w.ImportTokens(t.Context(), &pb.ImportTokensRequest{AppId: app, Imports: []*pb.TokenImport{
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
			check.Must(w.update(t.Context(), apps[1], &pb.Token{TokenId: tokens[apps[1]], State: disabled}, "state"))(t)
			check.Must(w.update(t.Context(), apps[2], &pb.Token{TokenId: tokens[apps[2]], ExpireTime: in(-1)}, "expire_time"))(t)
			bystander := w.create(t, apps[0], "bystander", events)

			done := check.Must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: paste(leaked)}))(t)
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
			// A second call finds all revoked.
			again := check.Must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: leaked}))(t)
			if len(again.GetTokens()) != 4 || again.GetTokens()[3].GetToken().GetState() != revoked {
				t.Errorf("once more: %v", again)
			}
		})
	}
}

// TestB10_MintedSecret: the call needs neither app nor token.
func TestB10_MintedSecret(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	made := w.create(t, app, "a", events)
	done := check.Must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: made.GetSecret()}))(t)
	if len(done.GetTokens()) != 1 || done.GetTokens()[0].GetToken().GetTokenId() != made.GetToken().GetTokenId() {
		t.Errorf("got %v", done)
	}
	// A deleted app has no tokens. Its digests are remembered as revoked.
	check.Must(w.DeleteApp(t.Context(), &pb.DeleteAppRequest{AppId: app}))(t)
	again := check.Must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: made.GetSecret()}))(t)
	if len(again.GetTokens()) != 1 || again.GetTokens()[0].GetToken().GetState() != pb.TokenState_TOKEN_STATE_REVOKED ||
		again.GetTokens()[0].GetToken().GetTokenId() != made.GetToken().GetTokenId() || len(again.GetConsistencyTokens()) != 1 {
		t.Errorf("after its app was deleted: %v", again)
	}
}

// TestB10_LockoutInOne: a lockout in one app stops no other app. The error names the app, the reason, and
// what was done. The same request with allow_lockout does the rest.
func TestB10_LockoutInOne(t *testing.T) {
	w := newWorld(t)
	for position := range 3 {
		t.Run(fmt.Sprint("app ", position), func(t *testing.T) {
			leaked := foreign()
			apps := newApps(3)
			tokens := w.share(t, leaked, apps...)
			kept := apps[position]
			w.enforce(t, kept, events)
			request := &pb.RevokeSecretRequest{Secret: leaked, RequestId: "r" + kept}
			for range 2 {
				_, err := w.RevokeSecret(t.Context(), request)
				wantFailure(t, err, precondition("LOCKOUT", "apps/"+kept))
				wantWords(t, err, append(slices.Clone(apps), "EVENTS", "2 apps", "app "+kept+": ")...)
				if strings.Contains(err.Error(), leaked) {
					t.Errorf("the error says %v", err)
				}
				answer := answerIn(t, err)
				if len(answer.GetTokens()) != 2 || len(answer.GetConsistencyTokens()) != 2 ||
					len(answer.GetFailures()) != 1 || answer.GetFailures()[0].GetAppId() != kept ||
					answer.GetFailures()[0].GetReason() != "LOCKOUT" {
					t.Errorf("got %v", answer)
				}
				for app, id := range tokens {
					if got := w.get(t, app, id).GetState(); (got == revoked) == (app == kept) {
						t.Errorf("the token of %s is %s", app, got)
					}
				}
			}
			request.AllowLockout = true
			done := check.Must(w.RevokeSecret(t.Context(), request))(t)
			if len(done.GetTokens()) != 3 || len(done.GetFailures()) != 0 {
				t.Errorf("got %v", done)
			}
		})
	}
}

// TestB10_LockoutsInAll: nothing is changed, and each app is named.
func TestB10_LockoutsInAll(t *testing.T) {
	w := newWorld(t)
	leaked := foreign()
	apps := newApps(2)
	w.share(t, leaked, apps...)
	for _, app := range apps {
		w.enforce(t, app, events)
	}
	held := w.contents(t)
	_, err := w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: leaked})
	wantFailure(t, err, precondition("LOCKOUT", "apps/"+apps[0]))
	wantWords(t, err, "app "+apps[0]+": ", "app "+apps[1]+": ", "EVENTS")
	if answer := answerIn(t, err); len(answer.GetTokens()) != 0 || len(answer.GetFailures()) != 2 {
		t.Errorf("got %v", answer)
	}
	w.wantSame(t, held)
}

// TestB10_RepeatedUnderOneID: a request is repeated with its id until every app is done, also when the
// obstacle differs from call to call. A token that it has revoked never counts as a failure.
func TestB10_RepeatedUnderOneID(t *testing.T) {
	w := newWorld(t)
	leaked := foreign()
	apps := newApps(3)
	tokens := w.share(t, leaked, apps...)
	free, other, kept := apps[0], apps[1], apps[2]
	w.enforce(t, kept, events)
	mend := w.breakLog(t, other)
	request := &pb.RevokeSecretRequest{Secret: leaked, RequestId: "same"}

	_, err := w.RevokeSecret(t.Context(), request)
	wantFailure(t, err, failure{codes.Unavailable, apierr.OutcomeUnknown, ""})
	wantWords(t, err, "1 apps ("+free+")", other+" ("+apierr.StoreUnavailable+")", kept+" (LOCKOUT)", "repeat the call")
	mend()
	_, err = w.RevokeSecret(t.Context(), request)
	wantFailure(t, err, precondition("LOCKOUT", "apps/"+kept))
	wantWords(t, err, free, other, "2 apps", "app "+kept+": ", "EVENTS")

	// A revoked token is done, also where no change can be made.
	mend = w.breakLog(t, other)
	request.AllowLockout = true
	done := check.Must(w.RevokeSecret(t.Context(), request))(t)
	mend()
	if len(done.GetTokens()) != 3 || len(done.GetConsistencyTokens()) != 3 || len(done.GetFailures()) != 0 {
		t.Errorf("got %v", done)
	}
	for _, one := range done.GetTokens() {
		if one.GetToken().GetTokenId() != tokens[one.GetAppId()] || one.GetToken().GetState() != revoked {
			t.Errorf("revoked is %v", one)
		}
	}
	for app, id := range tokens {
		if got := w.get(t, app, id).GetState(); got != revoked {
			t.Errorf("the token of %s is %s", app, got)
		}
	}
}

// TestB10_RevokedBeforeWithTheID: a revoked token is no failure, although the id was used for another leaked
// secret.
func TestB10_RevokedBeforeWithTheID(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	first, second := w.create(t, app, "a", events).GetSecret(), w.create(t, app, "b", events)
	check.Must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: first, RequestId: "same"}))(t)
	_, err := w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: second.GetSecret(), RequestId: "same"})
	wantFailure(t, err, invalid("request_id"))
	wantWords(t, err, "app "+app+": ")
	check.Must(w.RevokeToken(t.Context(), &pb.RevokeTokenRequest{AppId: app, TokenId: second.GetToken().GetTokenId()}))(t)
	done := check.Must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: second.GetSecret(), RequestId: "same"}))(t)
	if len(done.GetTokens()) != 1 || done.GetTokens()[0].GetToken().GetState() != revoked {
		t.Errorf("got %v", done)
	}
}

// breakLog makes changes of one partition fail until the returned function is called.
func (w *world) breakLog(t testing.TB, app string) (mend func()) {
	t.Helper()
	hash := policy.HashApp(app)
	log := record.KeysOf(hash.Partition(record.DefaultPartitions)).Log
	saved := check.Must(w.redis.Dump(t.Context(), log).Result())(t)
	if err := w.redis.Set(t.Context(), log, "not a log", 0).Err(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := w.redis.RestoreReplace(t.Context(), log, 0, saved).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// wantWords checks that an error has some words.
func wantWords(t testing.TB, err error, words ...string) {
	t.Helper()
	for _, part := range words {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("%q is not in %v", part, err)
		}
	}
}

// answerIn returns the response in the error of a call that failed in part.
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

// TestB10_OneAppThatCannotBeChanged: it stops no other app, whichever it is. The error names the app and what
// was done, and the call can be repeated.
func TestB10_OneAppThatCannotBeChanged(t *testing.T) {
	w := newWorld(t)
	for position := range 3 {
		t.Run(fmt.Sprint("app ", position), func(t *testing.T) {
			leaked := foreign()
			apps := newApps(3)
			tokens := w.share(t, leaked, apps...)
			broken := apps[position]
			mend := w.breakLog(t, broken)
			_, err := w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{
				Secret: leaked, RequestId: "r" + broken, WaitForPropagation: durationpb.New(time.Millisecond),
			})
			if status.Code(err) != codes.Unavailable || apierr.ReasonOf(err) != apierr.OutcomeUnknown ||
				strings.Contains(err.Error(), "nothing was changed") || !strings.Contains(err.Error(), broken) ||
				strings.Contains(err.Error(), leaked) {
				t.Errorf("got %s %v, want UNAVAILABLE %s that names %s", apierr.ReasonOf(err), err, apierr.OutcomeUnknown, broken)
			}
			answer := answerIn(t, err)
			if len(answer.GetFailures()) != 1 || answer.GetFailures()[0].GetAppId() != broken ||
				answer.GetFailures()[0].GetReason() == "" {
				t.Errorf("failures: %v, want %s", answer.GetFailures(), broken)
			}
			if len(answer.GetTokens()) != 2 || len(answer.GetConsistencyTokens()) != 2 || answer.GetReceipt() == nil {
				t.Errorf("of the others is told %v", answer)
			}
			for i, done := range answer.GetTokens() {
				if done.GetAppId() == broken || done.GetToken().GetState() != revoked ||
					done.GetToken().GetTokenId() != tokens[done.GetAppId()] {
					t.Errorf("revoked is %v", done)
				}
				w.authorize(t, answer.GetConsistencyTokens()[i], &pb.AuthorizeRequest{
					AppId: done.GetAppId(), Token: leaked,
					Scope: events,
				},
					allow(pb.Reason_REASON_TOKEN_REVOKED, false, tokens[done.GetAppId()]))
			}
			mend()
			done := check.Must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: leaked, RequestId: "r" + broken}))(t)
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

// TestB10_RememberedSecret: a secret whose token was dropped, and whose digest is remembered, counts as
// revoked.
func TestB10_RememberedSecret(t *testing.T) {
	w := newWorld(t)
	app, leaked := newApp(), foreign()
	w.share(t, leaked, app)
	w.write(t, app, func(d *record.Document) {
		d.Memory = d.Memory.With(d.Tokens[0].Token)
		d.Tokens = nil
	})
	done := check.Must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: leaked}))(t)
	if len(done.GetTokens()) != 1 || done.GetTokens()[0].GetAppId() != app ||
		done.GetTokens()[0].GetToken().GetState() != revoked {
		t.Fatalf("got %v", done)
	}
	w.authorize(t, done.GetConsistencyTokens()[0], &pb.AuthorizeRequest{AppId: app, Token: leaked, Scope: events},
		allow(pb.Reason_REASON_TOKEN_REVOKED, false, ""))
	got := check.Must(w.GetApp(t.Context(), &pb.GetAppRequest{AppId: app}))(t).GetApp()
	if got.GetRememberedDigestCount() != 1 || got.GetRevokedTokenCount() != 0 {
		t.Errorf("the app is %v", got)
	}
	_, err := w.ImportTokens(t.Context(), &pb.ImportTokensRequest{AppId: app, Imports: []*pb.TokenImport{
		{Name: "again", Credential: &pb.TokenImport_Secret{Secret: leaked}},
	}})
	wantFailure(t, err, failure{codes.AlreadyExists, "SECRET_TAKEN", ""})
}
