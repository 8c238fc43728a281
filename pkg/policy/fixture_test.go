package policy_test

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
)

const (
	events   policy.Scope = 1
	sessions policy.Scope = 2
	revenue  policy.Scope = 3
	gdpr     policy.Scope = 4
	// future is a scope of a later release.
	future policy.Scope = 63

	none = policy.Source(0)
	gtm  = policy.SourceGoogleTagManager

	// now is the time of most decisions, in milliseconds.
	now int64 = 1_800_000_000_000
)

// The secrets of the fixture, by their names in the tables. A token's id is its secret's name.
const (
	tokEvents          = "tok_events"
	tokEventsSessions  = "tok_events_sessions"
	tokFuture          = "tok_future"
	tokUnscoped        = "tok_unscoped"
	tokDisabled        = "tok_disabled"
	tokRevoked         = "tok_revoked"
	tokExpired         = "tok_expired"
	tokExpiring        = "tok_expiring"
	tokDisabledExpired = "tok_disabled_expired"
	tokRevokedExpired  = "tok_revoked_expired"
	tokRevokedUnscoped = "tok_revoked_unscoped"
	tokImported        = "tok_imported"
	tokImportedRevoked = "tok_imported_revoked"
	tokImportedLong    = "tok_imported_4096"
	// Secrets of no token of the app.
	noToken     = ""
	otherApp    = "another app's"
	mistyped    = "mistyped"
	foreign     = "foreign"
	atLimit     = "4096 bytes"
	beyondLimit = "4097 bytes"
)

// texts are the texts that requests send, by the names above.
var texts = func() map[string]string {
	texts := map[string]string{
		noToken:            "",
		tokImported:        "legacy-secret-0123456789",
		tokImportedRevoked: "legacy-secret-9876543210",
		tokImportedLong:    strings.Repeat("legacy", secret.MaxLength)[:secret.MaxLength],
		foreign:            "some-other-products-secret",
		atLimit:            strings.Repeat("k", secret.MaxLength),
		beyondLimit:        strings.Repeat("k", secret.MaxLength+1),
	}
	for _, name := range []string{
		tokEvents, tokEventsSessions, tokFuture, tokUnscoped, tokDisabled, tokRevoked, tokExpired, tokExpiring,
		tokDisabledExpired, tokRevokedExpired, tokRevokedUnscoped, otherApp,
	} {
		texts[name] = secret.Mint().Reveal()
	}
	texts[mistyped] = flipLast(texts[tokEvents])
	return texts
}()

// flipLast changes the last character.
func flipLast(text string) string {
	last := byte('0')
	if text[len(text)-1] == last {
		last = '1'
	}
	return text[:len(text)-1] + string(last)
}

// token is a token of the fixture.
func token(id string, state policy.State, expireMillis int64, scopes ...policy.Scope) policy.Token {
	return policy.Token{
		ID: id, Digest: secret.DigestOf(texts[id]), Scopes: policy.ScopesOf(scopes...),
		State: state, ExpireMillis: expireMillis,
	}
}

// minted are the tokens of an app of the fixture, one of each kind.
func minted() []policy.Token {
	return []policy.Token{
		token(tokEvents, policy.Active, 0, events),
		token(tokEventsSessions, policy.Active, 0, events, sessions),
		token(tokFuture, policy.Active, 0, future),
		token(tokUnscoped, policy.Active, 0),
		token(tokDisabled, policy.Disabled, 0, events),
		token(tokRevoked, policy.Revoked, 0, events),
		token(tokExpired, policy.Active, now, events),
		token(tokExpiring, policy.Active, now+1, events),
		token(tokDisabledExpired, policy.Disabled, now-1, events),
		token(tokRevokedExpired, policy.Revoked, now-1, events),
		token(tokRevokedUnscoped, policy.Revoked, 0),
	}
}

// withImported are the same tokens and some that came from another system.
func withImported() []policy.Token {
	tokens := minted()
	for _, t := range []policy.Token{
		token(tokImported, policy.Active, 0, events),
		token(tokImportedRevoked, policy.Revoked, 0, events),
		token(tokImportedLong, policy.Active, 0, events),
	} {
		t.Imported = true
		tokens = append(tokens, t)
	}
	return tokens
}

// enforce is enforcement without a trial.
func enforce(scopes ...policy.Scope) policy.Enforcement {
	return policy.Enforcement{Scopes: policy.ScopesOf(scopes...)}
}

func newPolicy(t testing.TB, e policy.Enforcement, tokens ...policy.Token) *policy.Policy {
	t.Helper()
	p, err := policy.New(e, tokens, false)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func deletedPolicy(t testing.TB, e policy.Enforcement, tokens ...policy.Token) *policy.Policy {
	t.Helper()
	p, err := policy.New(e, tokens, true)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
