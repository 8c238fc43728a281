package management_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// TestB13_TestedBeforeItIsSwitchedOn: while a scope is not enforced, every request is allowed. The verdict is
// the one that enforcement would give; B12 and B14.
func TestB13_TestedBeforeItIsSwitchedOn(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	if _, err := w.GetApp(t.Context(), &pb.GetAppRequest{AppId: app}); failureOf(err) != noApp {
		t.Errorf("an app never heard of: %v", err)
	}
	w.authorize(t, "", &pb.AuthorizeRequest{AppId: app, Scope: events}, allow(pb.Reason_REASON_APP_NOT_CONFIGURED, false, ""))
	made := w.create(t, app, "a", events)
	id := made.GetToken().GetTokenId()
	if got := w.app(t, app); len(got.GetEnforcedScopes()) != 0 || got.GetTrialEndTime() != nil {
		t.Errorf("B12: a new app has %v", got)
	}
	// GDPR is authenticated by any ACTIVE token.
	verdicts := []struct {
		token  string
		scope  pb.Scope
		reason pb.Reason
		id     string
		good   bool
	}{
		{made.GetSecret(), events, pb.Reason_REASON_TOKEN_VALID, id, true},
		{made.GetSecret(), gdpr, pb.Reason_REASON_TOKEN_VALID, id, true},
		{made.GetSecret(), sessions, pb.Reason_REASON_SCOPE_NOT_GRANTED, id, false},
		{"", events, pb.Reason_REASON_TOKEN_MISSING, "", false},
		{"", gdpr, pb.Reason_REASON_TOKEN_MISSING, "", false},
		{made.GetSecret()[:50], events, pb.Reason_REASON_TOKEN_MALFORMED, "", false},
	}
	wantVerdicts := func(after string, enforced ...pb.Scope) {
		t.Helper()
		for _, v := range verdicts {
			on := false
			for _, scope := range enforced {
				on = on || scope == v.scope
			}
			want := allow(v.reason, on, v.id)
			if on && !v.good {
				want = deny(v.reason, v.id)
			}
			w.authorize(t, after, &pb.AuthorizeRequest{AppId: app, Token: v.token, Scope: v.scope}, want)
		}
	}
	wantVerdicts(made.GetConsistencyToken())
	for _, scopes := range [][]pb.Scope{{events}, {gdpr, events}, {gdpr}, {}, {events, gdpr}} {
		done := w.enforce(t, app, scopes...)
		if !sameScopes(done.GetApp().GetEnforcedScopes(), scopes...) || (len(done.GetWarnings()) > 0) != (len(scopes) > 0) {
			t.Errorf("got %v for %v", done, scopes)
		}
		if got := w.app(t, app); !proto.Equal(got, done.GetApp()) {
			t.Errorf("read as %v, answered as %v", got, done.GetApp())
		}
		wantVerdicts(done.GetConsistencyToken(), scopes...)
	}
}

// TestB15_DryRun: a dry run returns the app as the change would make it, and changes nothing (AIP-163).
func TestB15_DryRun(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	w.create(t, app, "a", events)
	before := w.app(t, app)
	held := w.contents(t)
	dry := check.Must(w.SetEnforcement(t.Context(), &pb.SetEnforcementRequest{
		AppId: app, Scopes: []pb.Scope{events}, TrialEndTime: in(time.Hour), ValidateOnly: true, RequestId: "r1",
		Etag: before.GetEtag(),
	}))(t)
	if got := dry.GetApp(); !sameScopes(got.GetEnforcedScopes(), events) || got.GetTrialEndTime() == nil ||
		len(dry.GetWarnings()) == 0 || dry.GetConsistencyToken() != "" {
		t.Errorf("got %v", dry)
	}
	none := check.Must(w.SetEnforcement(t.Context(), &pb.SetEnforcementRequest{AppId: app, ValidateOnly: true}))(t)
	if !proto.Equal(none.GetApp(), before) || len(none.GetWarnings()) != 0 {
		t.Errorf("nothing to change: got %v", none)
	}
	w.wantSame(t, held)
	if got := w.app(t, app); !proto.Equal(got, before) {
		t.Errorf("the app became %v", got)
	}
	// A dry run does not use its request_id up.
	check.Must(w.SetEnforcement(t.Context(), &pb.SetEnforcementRequest{
		AppId: app, Scopes: []pb.Scope{events}, AllowRejections: true,
		RequestId: "r1",
	}))(t)
}

// TestB17_TrialEndsByItself: a trial ends on every validator at its time, also while the store is down.
func TestB17_TrialEndsByItself(t *testing.T) {
	for _, down := range []bool{false, true} {
		t.Run(map[bool]string{false: "store up", true: "store down"}[down], func(t *testing.T) {
			w := newWorld(t)
			app := newApp()
			w.create(t, app, "a", events, sessions)
			w.enforce(t, app, sessions)
			end := in(2 * time.Second)
			end.Nanos = end.Nanos / 1e6 * 1e6
			done := check.Must(w.SetEnforcement(t.Context(), &pb.SetEnforcementRequest{
				AppId: app, Scopes: []pb.Scope{events}, AllowRejections: true,
				TrialEndTime: end,
			}))(t)
			got := done.GetApp()
			if !proto.Equal(got.GetTrialEndTime(), end) || !sameScopes(got.GetEnforcedScopes(), events) ||
				!sameScopes(got.GetScopesAfterTrial(), sessions) {
				t.Errorf("got %v", got)
			}
			inTrial := func(scope pb.Scope) *pb.AuthorizeRequest {
				return &pb.AuthorizeRequest{AppId: app, Scope: scope, MinRevision: done.GetConsistencyToken()}
			}
			// All validators have the change before the store stops.
			for _, validator := range w.validators {
				if answer := check.Must(validator.Authorize(t.Context(),
					inTrial(events)))(t); answer.GetDecision() != pb.Decision_DECISION_DENY {
					t.Errorf("in the trial EVENTS gets %v", answer)
				}
				if answer := check.Must(validator.Authorize(t.Context(),
					inTrial(sessions)))(t); answer.GetDecision() != pb.Decision_DECISION_ALLOW {
					t.Errorf("in the trial SESSIONS gets %v", answer)
				}
			}
			if down {
				w.Redis.Stop()
			}
			for i, validator := range w.validators {
				watch(t, func() bool {
					asked := time.Now()
					answer := check.Must(validator.Authorize(t.Context(), inTrial(events)))(t)
					if answer.GetEnforced() {
						if asked.After(end.AsTime()) {
							t.Errorf("validator %d enforces %v after the end", i, asked.Sub(end.AsTime()))
						}
						return false
					}
					if time.Now().Before(end.AsTime()) || answer.GetDecision() != pb.Decision_DECISION_ALLOW {
						t.Errorf("validator %d: %v before the end", i, answer)
					}
					return true
				})
				if answer := check.Must(validator.Authorize(t.Context(),
					inTrial(sessions)))(t); answer.GetDecision() != pb.Decision_DECISION_DENY {
					t.Errorf("after the trial SESSIONS gets %v", answer)
				}
			}
			if !down {
				if got := w.app(t, app); !sameScopes(got.GetEnforcedScopes(), sessions) || got.GetTrialEndTime() != nil ||
					len(got.GetScopesAfterTrial()) != 0 {
					t.Errorf("after the trial the app is %v", got)
				}
			}
		})
	}
}

// TestB18_GoogleTagManager is denied when it carries a token or its scope is enforced.
func TestB18_GoogleTagManager(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	made := w.create(t, app, "a", events)
	on := w.enforce(t, app, events)
	const gtm, unsupported = pb.Source_SOURCE_GOOGLE_TAG_MANAGER, pb.Reason_REASON_SOURCE_NOT_SUPPORTED
	denied := deny(unsupported, "")
	denied.Enforced = false
	for _, tt := range []struct {
		token  string
		scope  pb.Scope
		source pb.Source
		want   *pb.AuthorizeResponse
	}{
		{"", events, gtm, deny(unsupported, "")},
		{made.GetSecret(), events, gtm, deny(unsupported, "")},
		{"", sessions, gtm, allow(unsupported, false, "")},
		{made.GetSecret(), sessions, gtm, denied},
		{"nonsense", sessions, gtm, denied},
		{made.GetSecret(), events, 99, allow(pb.Reason_REASON_TOKEN_VALID, true, made.GetToken().GetTokenId())},
		{"", events, -1, deny(pb.Reason_REASON_TOKEN_MISSING, "")},
	} {
		w.authorize(t, on.GetConsistencyToken(), &pb.AuthorizeRequest{
			AppId: app, Token: tt.token, Scope: tt.scope,
			Source: tt.source,
		}, tt.want)
	}
	w.authorize(t, "", &pb.AuthorizeRequest{AppId: newApp(), Token: made.GetSecret(), Scope: events, Source: gtm},
		allow(pb.Reason_REASON_APP_NOT_CONFIGURED, false, ""))
}

// TestB28_DeleteApp: the tokens are revoked for ever. The app counts as not configured until it is used
// again.
func TestB28_DeleteApp(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	made := w.create(t, app, "a", events)
	id := made.GetToken().GetTokenId()
	w.enforce(t, app, events)
	_, err := w.DeleteApp(t.Context(), &pb.DeleteAppRequest{AppId: app})
	wantFailure(t, err, precondition("ENFORCED", "apps/"+app))
	w.enforce(t, app)

	done := check.Must(w.DeleteApp(t.Context(), &pb.DeleteAppRequest{AppId: app}))(t)
	request := &pb.AuthorizeRequest{AppId: app, Token: made.GetSecret(), Scope: events}
	w.authorize(t, done.GetConsistencyToken(), request, allow(pb.Reason_REASON_APP_NOT_CONFIGURED, false, ""))
	for name, call := range map[string]func() error{
		"GetApp": func() error { _, err := w.GetApp(t.Context(), &pb.GetAppRequest{AppId: app}); return err },
		"DeleteApp": func() error {
			_, err := w.DeleteApp(t.Context(), &pb.DeleteAppRequest{AppId: app})
			return err
		},
	} {
		if err := call(); failureOf(err) != noApp {
			t.Errorf("%s: got %v", name, err)
		}
	}
	_, err = w.GetToken(t.Context(), &pb.GetTokenRequest{AppId: app, TokenId: id})
	wantFailure(t, err, noToken)
	if tokens := w.list(t, app, true); len(tokens) != 0 {
		t.Errorf("it lists %v", tokens)
	}
	_, err = w.ImportTokens(t.Context(), &pb.ImportTokensRequest{AppId: app, Imports: []*pb.TokenImport{
		{Name: "again", Credential: &pb.TokenImport_Secret{Secret: made.GetSecret()}},
	}})
	wantFailure(t, err, secretTaken)

	revived := w.create(t, app, "a", events)
	on := w.enforce(t, app, events)
	w.authorize(t, on.GetConsistencyToken(), request, deny(pb.Reason_REASON_TOKEN_REVOKED, id))
	request.Token = revived.GetSecret()
	w.authorize(t, on.GetConsistencyToken(), request, allow(pb.Reason_REASON_TOKEN_VALID, true,
		revived.GetToken().GetTokenId()))
	if got := w.app(t, app); got.GetActiveTokenCount() != 1 || got.GetRevokedTokenCount() != 1 {
		t.Errorf("got %v", got)
	}
}
