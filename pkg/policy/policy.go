package policy

import (
	"fmt"
	"slices"

	"github.com/countersign/countersign/pkg/secret"
)

// State is the stored state of a token. EXPIRED is not stored: see Token.StateAt.
type State uint8

// The states of B08, numbered as in countersign.v1.TokenState.
const (
	Active   State = 1
	Disabled State = 2
	Revoked  State = 3
	Expired  State = 4
)

// Token is the part of a token that decides.
type Token struct {
	ID     string
	Digest secret.Digest
	// Scopes is what the token authenticates; empty for an unscoped token (B05).
	Scopes ScopeSet
	// State is Active, Disabled or Revoked.
	State State
	// ExpireMillis is when the token expires, in milliseconds since the Unix epoch; 0 is never.
	ExpireMillis int64
	// Imported says that the secret need not have the form of B03.
	Imported bool
}

// StateAt returns the token's state at a time in milliseconds since the Unix epoch: an Active token whose expiry has
// come is Expired (B08).
func (t *Token) StateAt(nowMillis int64) State {
	if t.State == Active && t.ExpireMillis != 0 && nowMillis >= t.ExpireMillis {
		return Expired
	}
	return t.State
}

// Authenticates tells whether the token is good for a scope at a time (B05, B14).
func (t *Token) Authenticates(s Scope, nowMillis int64) bool {
	return t.StateAt(nowMillis) == Active && t.covers(s)
}

func (t *Token) covers(s Scope) bool { return t.Scopes == 0 || t.Scopes.Has(s) || s == ScopeGDPR }

// Enforcement is the set of scopes for which requests must carry a valid token, and what it becomes by itself.
type Enforcement struct {
	Scopes ScopeSet
	// TrialEndMillis is when Scopes gives way to After, in milliseconds since the Unix epoch; 0 is never (B17).
	TrialEndMillis int64
	After          ScopeSet
}

// At returns what is enforced at a time in milliseconds since the Unix epoch.
func (e Enforcement) At(nowMillis int64) ScopeSet {
	if e.TrialEndMillis != 0 && nowMillis >= e.TrialEndMillis {
		return e.After
	}
	return e.Scopes
}

// Ever returns every scope that is enforced at the given time or will be by itself.
func (e Enforcement) Ever(nowMillis int64) ScopeSet {
	now := e.At(nowMillis)
	if e.TrialEndMillis != 0 {
		now |= e.After
	}
	return now
}

// Policy is all that decides for one app. It is immutable once made, so any number of goroutines may read it.
type Policy struct {
	enforcement Enforcement
	tokens      []Token
	byDigest    map[secret.Digest]*Token
	imported    bool
	deleted     bool
}

// New makes a policy of an enforcement and tokens, which it keeps: the caller must not change them afterwards. Two
// tokens with one id or one digest are an error, since one of them would be silently without effect. A deleted app
// counts as not configured; its tokens are there to be remembered.
func New(e Enforcement, tokens []Token, deleted bool) (*Policy, error) {
	p := &Policy{
		enforcement: e,
		tokens:      tokens,
		byDigest:    make(map[secret.Digest]*Token, len(tokens)),
		deleted:     deleted,
	}
	ids := make(map[string]bool, len(tokens))
	for i := range tokens {
		t := &tokens[i]
		if t.State != Active && t.State != Disabled && t.State != Revoked {
			return nil, fmt.Errorf("token %q: state %d is not one that is stored", t.ID, t.State)
		}
		if ids[t.ID] || t.ID == "" {
			return nil, fmt.Errorf("token id %q is empty or not unique", t.ID)
		}
		if p.byDigest[t.Digest] != nil {
			return nil, fmt.Errorf("token %q: another token has its digest", t.ID)
		}
		ids[t.ID], p.byDigest[t.Digest] = true, t
		p.imported = p.imported || t.Imported
	}
	return p, nil
}

// WithRevoked returns the policy with the digests of some tokens revoked: a token that has one of them is Revoked
// whatever it was, and a token that is not there is added as Revoked (B08).
func (p *Policy) WithRevoked(revoked []Token) (*Policy, error) {
	tokens := slices.Clone(p.tokens)
	for _, t := range revoked {
		t.State = Revoked
		i := slices.IndexFunc(tokens, func(has Token) bool { return has.Digest == t.Digest })
		if i >= 0 {
			tokens[i].State = Revoked
			continue
		}
		for slices.ContainsFunc(tokens, func(has Token) bool { return has.ID == t.ID }) {
			t.ID += "'" // another token goes by the id since
		}
		tokens = append(tokens, t)
	}
	return New(p.enforcement, tokens, p.deleted)
}

// Enforcement returns what is enforced.
func (p *Policy) Enforcement() Enforcement { return p.enforcement }

// Tokens returns the tokens in order of creation. The slice belongs to the policy.
func (p *Policy) Tokens() []Token { return p.tokens }

// Deleted tells whether the app was deleted.
func (p *Policy) Deleted() bool { return p.deleted }

// FindDigest returns the token with a digest, or nil.
func (p *Policy) FindDigest(d secret.Digest) *Token { return p.byDigest[d] }

// Uncovered returns the scopes of a set that no token authenticates at a time in milliseconds since the Unix epoch
// (B12, B16).
func (p *Policy) Uncovered(set ScopeSet, nowMillis int64) ScopeSet {
	var bare ScopeSet
	for s := range set.All() {
		covered := false
		for i := range p.tokens {
			if covered = p.tokens[i].Authenticates(s, nowMillis); covered {
				break
			}
		}
		if !covered {
			bare |= ScopesOf(s)
		}
	}
	return bare
}
