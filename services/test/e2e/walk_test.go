package e2e

import (
	"testing"

	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

// TestWalk is the life of an app over plain gRPC: create, enforce, authorize with the token, with a wrong
// one, with none, and for the wrong scope; revoke; authorize again. It asks both validators (B12, B13, B18,
// B19, B25).
func TestWalk(t *testing.T) {
	w := start(t, cluster.Options{})
	const app = "pezwd5bre2xb"
	ask := func(token string, scope countersignv1.Scope) *countersignv1.AuthorizeRequest {
		return &countersignv1.AuthorizeRequest{AppId: app, Token: token, Scope: scope}
	}
	w.expect("before anything", "", ask("", events), allow, countersignv1.Reason_REASON_APP_NOT_CONFIGURED)

	first := check.Must(w.management.CreateToken(w.admin, &countersignv1.CreateTokenRequest{
		AppId: app, Name: "backend", Scopes: []countersignv1.Scope{events},
	}))(t)
	second := check.Must(w.management.CreateToken(w.admin, &countersignv1.CreateTokenRequest{
		AppId: app, Name: "ads", Scopes: []countersignv1.Scope{adRevenue, events},
	}))(t)
	since := second.GetConsistencyToken()
	w.expect("not enforced, no token", since, ask("", events), allow, countersignv1.Reason_REASON_TOKEN_MISSING)
	w.expect("not enforced, the token", since, ask(first.GetSecret(), events), allow, countersignv1.Reason_REASON_TOKEN_VALID)
	w.expect("not enforced, wrong scope", since, ask(first.GetSecret(), sessions), allow,
		countersignv1.Reason_REASON_SCOPE_NOT_GRANTED)

	since = check.Must(w.management.SetEnforcement(w.admin, &countersignv1.SetEnforcementRequest{
		AppId: app, Scopes: []countersignv1.Scope{events, adRevenue}, AllowRejections: true,
	}))(t).GetConsistencyToken()
	w.expect("the token", since, ask(first.GetSecret(), events), allow, countersignv1.Reason_REASON_TOKEN_VALID)
	w.expect("none", since, ask("", events), deny, countersignv1.Reason_REASON_TOKEN_MISSING)
	w.expect("one that nobody made", since, ask(secret.Mint().Reveal(), events), deny,
		countersignv1.Reason_REASON_TOKEN_UNKNOWN)
	w.expect("a mistyped one", since, ask(first.GetSecret()[1:], events), deny, countersignv1.Reason_REASON_TOKEN_MALFORMED)
	w.expect("the wrong scope", since, ask(first.GetSecret(), adRevenue), deny, countersignv1.Reason_REASON_SCOPE_NOT_GRANTED)
	w.expect("a scope that is not enforced", since, ask("", sessions), allow, countersignv1.Reason_REASON_TOKEN_MISSING)
	w.expect("Google Tag Manager", since, &countersignv1.AuthorizeRequest{
		AppId: app, Scope: events,
		Source: countersignv1.Source_SOURCE_GOOGLE_TAG_MANAGER,
	},
		deny, countersignv1.Reason_REASON_SOURCE_NOT_SUPPORTED)

	since = check.Must(w.management.RevokeToken(w.admin, &countersignv1.RevokeTokenRequest{
		AppId: app, TokenId: first.GetToken().GetTokenId(),
	}))(t).GetConsistencyToken()
	w.expect("revoked", since, ask(first.GetSecret(), events), deny, countersignv1.Reason_REASON_TOKEN_REVOKED)
	w.expect("the other one", since, ask(second.GetSecret(), events), allow, countersignv1.Reason_REASON_TOKEN_VALID)
}
