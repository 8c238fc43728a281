package management_test

import (
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/ledger"
)

// TestB10_FindToken: a secret leads to its tokens in every app and every state, and nothing is changed.
func TestB10_FindToken(t *testing.T) {
	c := newCounted(t)
	secret := foreign()
	apps := newApps(4)
	tokens := c.share(t, secret, apps...)
	check.Must(c.update(t.Context(), apps[1], &pb.Token{TokenId: tokens[apps[1]], State: disabled}, "state"))(t)
	check.Must(c.RevokeToken(t.Context(), &pb.RevokeTokenRequest{AppId: apps[2], TokenId: tokens[apps[2]]}))(t)
	check.Must(c.DeleteApp(t.Context(), &pb.DeleteAppRequest{AppId: apps[3]}))(t)
	c.apps[apps[0]] = &history{uses: []ledger.LastUse{
		{TokenID: tokens[apps[0]], Scope: policy.Scope(events), Minute: time.Now().Truncate(time.Minute)},
	}}
	held := c.contents(t)
	found := check.Must(c.service.FindToken(t.Context(), &pb.FindTokenRequest{Secret: "\n " + secret + "\n"}))(t)
	c.wantSame(t, held)
	if len(found.GetTokens()) != len(apps) || found.GetIncomplete() || len(found.GetUnverifiedAppIds()) != 0 {
		t.Fatalf("got %v", found)
	}
	for i, state := range []pb.TokenState{active, disabled, revoked, revoked} {
		got := found.GetTokens()[i]
		if got.GetAppId() != apps[i] || got.GetToken().GetTokenId() != tokens[apps[i]] || got.GetToken().GetState() != state {
			t.Errorf("got %v, want app %s, %v", got, apps[i], state)
		}
		if (len(got.GetToken().GetLastUses()) == 1) != (i == 0) || got.GetToken().GetName() != "shared" {
			t.Errorf("app %d: %v", i, got)
		}
	}
	_, err := c.service.FindToken(t.Context(), &pb.FindTokenRequest{Secret: foreign()})
	wantFailure(t, err, noSecret)
}

// TestB08_RevokeDryRun: a dry run says who would notice, and changes nothing.
func TestB08_RevokeDryRun(t *testing.T) {
	c := newCounted(t)
	app := newApp()
	id := c.create(t, app, "a", events, sessions).GetToken().GetTokenId()
	next := check.Must(c.RotateToken(t.Context(), &pb.RotateTokenRequest{AppId: app, TokenId: id}))(t).GetToken().GetTokenId()
	c.enforce(t, app, events)
	minute := time.Now().Add(-time.Hour).Truncate(time.Minute)
	c.apps[app] = &history{uses: []ledger.LastUse{
		{TokenID: id, Scope: policy.Scope(events), Minute: minute}, {TokenID: id, Scope: policy.Scope(sessions), Minute: minute},
	}}
	try := func(id string) (*pb.Token, string) {
		t.Helper()
		held := c.contents(t)
		got := check.Must(c.service.RevokeToken(t.Context(),
			&pb.RevokeTokenRequest{AppId: app, TokenId: id, ValidateOnly: true, RequestId: "r1"}))(t)
		c.wantSame(t, held)
		if got.GetConsistencyToken() != "" || got.GetReceipt() != nil {
			t.Errorf("a dry run answers %v", got)
		}
		return got.GetToken(), strings.Join(got.GetWarnings(), "\n")
	}
	want := func(text string, words ...string) {
		t.Helper()
		for _, word := range words {
			if !strings.Contains(text, word) {
				t.Errorf("%q lacks %q", text, word)
			}
		}
	}
	token, warnings := try(id)
	if token.GetState() != revoked {
		t.Errorf("the token would be %v", token)
	}
	want(warnings, "Last used for EVENTS at "+minute.UTC().Format(time.RFC3339), "is rejected", "Last used for SESSIONS",
		"not enforced", "Its successor "+next+" is active")
	if strings.Contains(warnings, "Locked out") {
		t.Errorf("the successor is left, and yet: %q", warnings)
	}
	check.Must(c.RevokeToken(t.Context(), &pb.RevokeTokenRequest{AppId: app, TokenId: id}))(t)
	_, warnings = try(next)
	want(warnings, "No use of the token is known", "It replaces "+id+", which is revoked",
		"Locked out: no active token would be left")
	_, warnings = try(id)
	want(warnings, "revoked already")
	c.away = true
	_, warnings = try(next)
	want(warnings, "cannot be read")
}
