package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
)

// The reference below is B19 again, sentence by sentence, with lists and words in place of bit sets, digests
// and maps. It is slow on purpose, and shares with the package only the numbers of the answer.

type referenceToken struct {
	id       string
	text     string
	scopes   []int
	state    string
	expires  bool
	expiry   int64
	imported bool
}

type referenceApp struct {
	missing, deleted bool
	enforced         []int
	trial            bool
	trialEnd         int64
	afterTrial       []int
	tokens           []referenceToken
}

type referenceRequest struct {
	text       string
	wellFormed bool
	scope      int
	source     int32
	now        int64
}

func referenceDecide(app referenceApp, r referenceRequest) policy.Decision {
	if app.missing || app.deleted {
		return policy.Decision{Allow: true, Reason: policy.AppNotConfigured}
	}
	enforcedNow := app.enforced
	if app.trial && app.trialEnd <= r.now {
		enforcedNow = app.afterTrial
	}
	enforced := slices.Contains(enforcedNow, r.scope)
	if r.source == 1 {
		carriesToken := len(r.text) > 0
		return policy.Decision{
			Allow: !carriesToken && !enforced, Reason: policy.SourceNotSupported, Enforced: enforced,
		}
	}
	reason, id := referenceVerdict(app, r)
	valid := reason == policy.TokenValid || reason == policy.TokenValidUnscoped
	return policy.Decision{Allow: valid || !enforced, Reason: reason, Enforced: enforced, TokenID: id}
}

func referenceVerdict(app referenceApp, r referenceRequest) (policy.Reason, string) {
	if r.text == "" {
		return policy.TokenMissing, ""
	}
	appHasImported := slices.ContainsFunc(app.tokens, func(t referenceToken) bool { return t.imported })
	if len(r.text) > 4096 || !r.wellFormed && !appHasImported {
		return policy.TokenMalformed, ""
	}
	for _, t := range app.tokens {
		if t.text != r.text {
			continue
		}
		if t.state == "REVOKED" {
			return policy.TokenRevoked, t.id
		}
		if t.state == "DISABLED" {
			return policy.TokenDisabled, t.id
		}
		if t.expires && t.expiry <= r.now {
			return policy.TokenExpired, t.id
		}
		if len(t.scopes) == 0 {
			return policy.TokenValidUnscoped, t.id
		}
		if r.scope == 4 || slices.Contains(t.scopes, r.scope) {
			return policy.TokenValid, t.id
		}
		return policy.ScopeNotGranted, t.id
	}
	return policy.TokenUnknown, ""
}

// sendable is a text for requests and tokens, whose form is known.
type sendable struct {
	text       string
	wellFormed bool
}

// There are enough for policies whose lookups use binary search.
var sendables = func() (all []sendable) {
	for range 40 {
		text := secret.Mint().Reveal()
		all = append(all, sendable{text, true}, sendable{flipLast(text), false})
	}
	return append(all,
		sendable{"legacy", false}, sendable{secret.MintAdminKey().Reveal(), false},
		sendable{strings.Repeat("k", 4096), false}, sendable{strings.Repeat("k", 4097), false},
	)
}()

// drawScopes prefers few numbers, so that requests hit them.
func drawScopes(t *rapid.T, label string) []int {
	return rapid.SliceOfNDistinct(drawScope, 0, 4, rapid.ID[int]).Draw(t, label)
}

var drawScope = rapid.OneOf(rapid.IntRange(1, 5), rapid.IntRange(62, 63), rapid.IntRange(1, 63))

// drawMoment prefers times around now.
var drawMoment = rapid.OneOf(rapid.Int64Range(now-2, now+2), rapid.Int64())

func drawApp(t *rapid.T) referenceApp {
	app := referenceApp{
		missing:  rapid.IntRange(0, 15).Draw(t, "missing") == 0,
		deleted:  rapid.IntRange(0, 15).Draw(t, "deleted") == 0,
		enforced: drawScopes(t, "enforced"),
	}
	if app.trial = rapid.Bool().Draw(t, "trial"); app.trial {
		app.trialEnd = drawMoment.Filter(isSet).Draw(t, "trial end")
		app.afterTrial = drawScopes(t, "after trial")
	}
	mayImport := rapid.Bool().Draw(t, "has imported")
	few := rapid.Permutation(sendables).Draw(t, "texts")[:rapid.IntRange(0, len(sendables)-1).Draw(t, "tokens")]
	for i, s := range few {
		token := referenceToken{
			id: fmt.Sprintf("tok%d", i), text: s.text, scopes: drawScopes(t, "scopes"),
			state:    rapid.SampledFrom([]string{"ACTIVE", "ACTIVE", "ACTIVE", "DISABLED", "REVOKED"}).Draw(t, "state"),
			expires:  rapid.Bool().Draw(t, "expires"),
			imported: mayImport && rapid.Bool().Draw(t, "imported"),
		}
		if token.expires {
			token.expiry = drawMoment.Filter(isSet).Draw(t, "expiry")
		}
		app.tokens = append(app.tokens, token)
	}
	return app
}

// isSet reports whether a time is set; 0 stands for never.
func isSet(millis int64) bool { return millis != 0 }

// build makes a policy from the reference's.
func (app referenceApp) build(t *rapid.T) *policy.Policy {
	if app.missing {
		return nil
	}
	states := map[string]policy.State{"ACTIVE": policy.Active, "DISABLED": policy.Disabled, "REVOKED": policy.Revoked}
	tokens := make([]policy.Token, 0, len(app.tokens))
	for _, token := range app.tokens {
		tokens = append(tokens, policy.Token{
			ID: token.id, Digest: secret.DigestOf(token.text), Scopes: scopeSet(token.scopes),
			State: states[token.state], ExpireMillis: token.expiry, Imported: token.imported,
		})
	}
	p, err := policy.New(policy.Enforcement{
		Scopes: scopeSet(app.enforced), TrialEndMillis: app.trialEnd, After: scopeSet(app.afterTrial),
	}, tokens, app.deleted)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func scopeSet(numbers []int) (set policy.ScopeSet) {
	for _, n := range numbers {
		set |= policy.ScopesOf(policy.Scope(n))
	}
	return set
}

func TestB19_AgreesWithTheReference(t *testing.T) {
	seen, byHalves := map[policy.Reason]int{}, 0
	rapid.Check(t, func(t *rapid.T) {
		app := drawApp(t)
		p := app.build(t)
		// Several requests to one app, since making the app is slow.
		for range 20 {
			s := rapid.SampledFrom(append(sendables, sendable{})).Draw(t, "sent")
			if n := len(app.tokens); n > 0 && rapid.Bool().Draw(t, "of a token") {
				s.text = app.tokens[rapid.IntRange(0, n-1).Draw(t, "token")].text
				s.wellFormed = slices.Contains(sendables, sendable{s.text, true})
			}
			r := referenceRequest{
				text: s.text, wellFormed: s.wellFormed,
				scope:  drawScope.Draw(t, "scope"),
				source: rapid.OneOf(rapid.Int32Range(0, 2), rapid.Int32()).Draw(t, "source"),
				now:    drawMoment.Draw(t, "now"),
			}
			asked := policy.Request{
				Token: secret.New(r.text), Scope: policy.Scope(r.scope), Source: policy.Source(r.source), NowMillis: r.now,
			}
			got := policy.Decide(p, asked)
			if want := referenceDecide(app, r); got != want {
				t.Fatalf("got %+v, want %+v", got, want)
			}
			claim := policy.ClaimOf(asked.Token)
			if late := policy.DecideClaim(p, asked, &claim); late != got {
				t.Fatalf("for a token that was looked at before %+v, want %+v", late, got)
			}
			seen[got.Reason]++
			if got.TokenID != "" && len(app.tokens) > 2*16 {
				byHalves++
			}
		}
	})
	for name, reason := range reasons {
		if seen[reason] == 0 && !t.Failed() && !testing.Short() {
			t.Errorf("%s was never drawn", name)
		}
	}
	if byHalves == 0 && !t.Failed() && !testing.Short() {
		t.Error("no token of a policy with more than 32 was ever found")
	}
}
