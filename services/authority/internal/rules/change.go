package rules

import (
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
)

// Update is a change of a token's fields (B07). A nil field stays as it is.
type Update struct {
	TokenID string
	Name    *string
	Note    *string
	Scopes  *policy.ScopeSet
	// State is policy.Active or policy.Disabled.
	State *policy.State
	// ExpireMillis is in milliseconds since the Unix epoch; 0 is never. A time in the past expires the token
	// at once.
	ExpireMillis *int64
	// AllowLockout skips the guard of B16.
	AllowLockout bool
	// Check is called with the token before it is changed, to compare its etag. Its error ends the call.
	Check func(*record.Token) error
}

// Apply returns the document after the update. It returns nil without an error when the update changes
// nothing.
func (u Update) Apply(before *record.Document, by By) (*record.Document, error) {
	i, err := Find(before, u.TokenID)
	if err != nil {
		return nil, err
	}
	if err := u.Check(&before.Tokens[i]); err != nil {
		return nil, err
	}
	after := edit(before, by)
	t := &after.Tokens[i]
	if t.State == policy.Revoked {
		return nil, unmet("TOKEN_REVOKED", "apps/"+before.AppID+"/tokens/"+u.TokenID,
			"token %s is revoked, which is final", u.TokenID)
	}
	if u.Scopes != nil {
		if err := u.checkScopes(after, t, by); err != nil {
			return nil, err
		}
		t.Scopes = *u.Scopes
	}
	set(&t.Name, u.Name)
	set(&t.Note, u.Note)
	set(&t.State, u.State)
	if u.ExpireMillis != nil {
		setExpiry(after, t, *u.ExpireMillis, by)
	}
	if *t == before.Tokens[i] {
		return nil, nil
	}
	t.UpdateMillis = by.millis()
	if err := guardLockout(before, after, by, u.AllowLockout); err != nil {
		return nil, err
	}
	return u.withLive(before, after, t.ID, by)
}

// withLive checks that a token may come back to life or take another name (B01). A token that is disabled
// instead of expired needs no check, since it takes nothing from another token.
func (u Update) withLive(before, after *record.Document, id string, by By) (*record.Document, error) {
	old, err := Find(before, id)
	if err != nil {
		return nil, err
	}
	i, err := Find(after, id)
	if err != nil {
		return nil, err
	}
	was, t := &before.Tokens[old], &after.Tokens[i]
	back := !countsAsLive(was, by.millis()) && t.StateAt(by.millis()) == policy.Active
	if back || t.Name != was.Name {
		return withAdded(after, by, back, named{id: id})
	}
	return forget(after, by), nil
}

func (u Update) checkScopes(after *record.Document, t *record.Token, by By) error {
	if *u.Scopes == 0 && t.Scopes != 0 {
		return invalid("token.scopes", "a scoped token cannot become unscoped, which would widen it")
	}
	return checkScopes(after, *u.Scopes, "token.scopes", by)
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// Revoke revokes tokens for ever (B08). It returns nil without an error when all of them are revoked already.
func Revoke(before *record.Document, by By, allowLockout bool, tokenIDs ...string) (*record.Document, error) {
	after := edit(before, by)
	changed := false
	for _, id := range tokenIDs {
		i, err := Find(before, id)
		if err != nil {
			return nil, err
		}
		changed = revoke(&after.Tokens[i], by) || changed
	}
	if !changed {
		return nil, nil
	}
	if err := guardLockout(before, after, by, allowLockout); err != nil {
		return nil, err
	}
	return forget(after, by), nil
}

func revoke(t *record.Token, by By) bool {
	if t.State == policy.Revoked {
		return false
	}
	t.State, t.RevokeMillis, t.UpdateMillis = policy.Revoked, by.millis(), by.millis()
	return true
}

// Delete deletes an app: its tokens are revoked, its settings forgotten, its digests remembered (B28).
func Delete(before *record.Document, by By) (*record.Document, error) {
	if before == nil || before.Deleted {
		return nil, NoApp()
	}
	if before.Enforcement.Ever(by.millis()) != 0 {
		return nil, unmet("ENFORCED", "apps/"+before.AppID, "the app has enforcement; switch it off before deleting the app")
	}
	after := edit(before, by)
	for i := range after.Tokens {
		revoke(&after.Tokens[i], by)
	}
	after.Enforcement, after.Deleted = policy.Enforcement{}, true
	return forget(after, by), nil
}

// NoApp is the Error of a call about an app that does not exist.
func NoApp() error {
	return missing("APP_NOT_FOUND", "there is no such app, or it was deleted")
}

// Enforce sets the enforced scopes, for good or until trialEnd, in milliseconds since the Unix epoch (B12,
// B17). It returns nil without an error when nothing would change.
func Enforce(before *record.Document, by By, appID string, scopes policy.ScopeSet, trialEnd int64,
) (*record.Document, error) {
	if trialEnd != 0 && trialEnd <= by.millis() {
		return nil, invalid("trial_end_time", "want a time in the future")
	}
	after := edit(before, by)
	next := policy.Enforcement{Scopes: scopes}
	if trialEnd != 0 {
		next.TrialEndMillis, next.After = trialEnd, base(after.Enforcement, by)
	}
	if next == after.Enforcement {
		return nil, nil
	}
	p, err := after.Policy()
	if err != nil {
		return nil, err
	}
	if bare := p.Uncovered(scopes, by.millis()); bare != 0 {
		return nil, &Error{
			Kind: Unmet, Reason: "NO_TOKEN_FOR_SCOPE", Subject: "apps/" + appID, Scopes: bare,
			text: "no active token authenticates " + scopesMark + "; create one before enforcing it",
		}
	}
	after.Enforcement = next
	return forget(after, by), nil
}

// base returns the scopes that are enforced outside a trial. A new trial returns to them.
func base(e policy.Enforcement, by By) policy.ScopeSet {
	if e.TrialEndMillis != 0 {
		return e.After
	}
	return e.At(by.millis())
}
