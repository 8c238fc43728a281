package policy

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"

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

// Token is the part of a token that decisions need.
type Token struct {
	ID     string
	Digest secret.Digest
	// Scopes are the scopes that the token authenticates; empty for an unscoped token (B05).
	Scopes ScopeSet
	// State is Active, Disabled or Revoked.
	State State
	// ExpireMillis is when the token expires, in milliseconds since the Unix epoch; 0 is never, Ended is
	// already.
	ExpireMillis int64
	// Imported says that the secret need not have the form of B03.
	Imported bool
}

// Ended is the ExpireMillis of a token that was ended at once. It acts as a state, since every clock is past
// it (B08).
const Ended = math.MinInt64

// StateAt returns the token's state at a time in milliseconds since the Unix epoch. An Active token past its
// expiry is Expired (B08).
func (t *Token) StateAt(nowMillis int64) State { return stateOf(t.State, t.ExpireMillis, nowMillis) }

func stateOf(stored State, expireMillis, nowMillis int64) State {
	if stored == Active && expireMillis != 0 && nowMillis >= expireMillis {
		return Expired
	}
	return stored
}

// Authenticates reports whether the token is valid for a scope at a time in milliseconds since the Unix epoch
// (B05, B14).
func (t *Token) Authenticates(s Scope, nowMillis int64) bool {
	return t.StateAt(nowMillis) == Active && covers(t.Scopes, s)
}

func covers(granted ScopeSet, s Scope) bool { return granted == 0 || granted.Has(s) || s == ScopeGDPR }

// Enforcement is the set of scopes for which requests must carry a valid token, and the set that replaces it
// after a trial.
type Enforcement struct {
	Scopes ScopeSet
	// TrialEndMillis is when After replaces Scopes, in milliseconds since the Unix epoch; 0 is never (B17).
	TrialEndMillis int64
	After          ScopeSet
}

// At returns which scopes are enforced at a time in milliseconds since the Unix epoch.
func (e Enforcement) At(nowMillis int64) ScopeSet {
	if e.TrialEndMillis != 0 && nowMillis >= e.TrialEndMillis {
		return e.After
	}
	return e.Scopes
}

// Ever returns every scope that is enforced at the given time, or later without another change.
func (e Enforcement) Ever(nowMillis int64) ScopeSet {
	now := e.At(nowMillis)
	if e.TrialEndMillis != 0 {
		now |= e.After
	}
	return now
}

// Beyond returns the scopes that e enforces and other does not, at the given time or at any later one.
func (e Enforcement) Beyond(other Enforcement, nowMillis int64) ScopeSet {
	var more ScopeSet
	// Both change at the ends of their trials only. No trial, and one that is over, change nothing later.
	for _, at := range []int64{nowMillis, e.TrialEndMillis, other.TrialEndMillis} {
		at = max(at, nowMillis)
		more |= e.At(at).Without(other.At(at))
	}
	return more
}

// Policy is all that decides for one app. It is immutable, so any number of goroutines may read it. It is one
// string in the form of packed.go, so that millions of policies cost the garbage collector nothing. Two
// policies with the same contents are equal (== on the values).
type Policy struct{ data string }

// New makes a policy of an enforcement and tokens. It fails for two tokens with the same id or digest, one of
// which would have no effect, and for more than MaxTokens. A deleted app counts as not configured; its tokens
// are kept in order to be remembered.
func New(e Enforcement, tokens []Token, deleted bool) (*Policy, error) {
	return NewWithMemory(e, tokens, deleted, Memory{})
}

// NewWithMemory makes a policy that also remembers revoked tokens that are no longer listed.
func NewWithMemory(e Enforcement, tokens []Token, deleted bool, memory Memory) (*Policy, error) {
	sorted, err := byDigest(tokens)
	if err != nil {
		return nil, err
	}
	return &Policy{pack(e, tokens, sorted, deleted, memory)}, nil
}

// byDigest returns the indices of tokens sorted by digest. It fails when no policy can be made of the tokens.
func byDigest(tokens []Token) ([]int, error) {
	if len(tokens) > MaxTokens {
		return nil, fmt.Errorf("%d tokens, want at most %d", len(tokens), MaxTokens)
	}
	// One array for both orders, since policies are made by the million.
	orders := make([]int, 2*len(tokens))
	digests, ids := orders[:len(tokens)], orders[len(tokens):]
	for i := range tokens {
		t := &tokens[i]
		if t.State != Active && t.State != Disabled && t.State != Revoked {
			return nil, fmt.Errorf("token %q: state %d cannot be stored", t.ID, t.State)
		}
		if len(t.ID) > MaxTokenIDLength {
			return nil, fmt.Errorf("token %q...: its id has %d bytes, want at most %d", t.ID[:MaxTokenIDLength], len(t.ID),
				MaxTokenIDLength)
		}
		digests[i], ids[i] = i, i
	}
	slices.SortFunc(ids, func(a, b int) int { return strings.Compare(tokens[a].ID, tokens[b].ID) })
	slices.SortFunc(digests, func(a, b int) int { return bytes.Compare(tokens[a].Digest[:], tokens[b].Digest[:]) })
	for n, i := range ids {
		if tokens[i].ID == "" || n > 0 && tokens[i].ID == tokens[ids[n-1]].ID {
			return nil, fmt.Errorf("token id %q is empty or not unique", tokens[i].ID)
		}
	}
	for n, i := range digests {
		if n > 0 && tokens[i].Digest == tokens[digests[n-1]].Digest {
			return nil, fmt.Errorf("token %q: another token has its digest", tokens[i].ID)
		}
	}
	return digests, nil
}

// WithRevoked returns the policy with the digests of some tokens revoked (B08). A listed token with one of
// the digests becomes Revoked. Other tokens are added as Revoked. A token without an id is a remembered
// digest, of which only the prefix counts; see Memory.
func (p *Policy) WithRevoked(revoked []Token) (*Policy, error) {
	tokens := p.Tokens()
	digests, prefixes, ids := map[secret.Digest]int{}, map[[MemorySize]byte]int{}, map[string]bool{}
	note := func(i int) {
		digests[tokens[i].Digest], ids[tokens[i].ID] = i, true
		prefixes[[MemorySize]byte(tokens[i].Digest[:])] = i
	}
	for i := range tokens {
		note(i)
	}
	var remembered []Token
	for _, t := range revoked {
		t.State = Revoked
		i, has := digests[t.Digest]
		if t.ID == "" {
			i, has = prefixes[[MemorySize]byte(t.Digest[:])]
		}
		switch {
		case has:
			tokens[i].State = Revoked
			continue
		case t.ID == "":
			remembered = append(remembered, t)
			continue
		}
		for ids[t.ID] {
			t.ID += "'" // another token has this id by now
		}
		tokens = append(tokens, t)
		note(len(tokens) - 1)
	}
	memory := p.Memory().With(remembered...)
	return NewWithMemory(p.Enforcement(), tokens, p.Deleted(), memory)
}

// Revokes reports whether the policy denies a token for ever: it lists the token as Revoked, or remembers its
// digest. For a token without an id only the prefix of the digest counts; see Memory.
func (p *Policy) Revokes(t *Token) bool {
	if t.ID != "" {
		if has := p.FindDigest(t.Digest); has != nil {
			return has.State == Revoked
		}
		return p.Memory().Has(&t.Digest)
	}
	return p.Memory().Has(&t.Digest) || slices.ContainsFunc(p.Tokens(), func(has Token) bool {
		return has.State == Revoked && bytes.Equal(has.Digest[:MemorySize], t.Digest[:MemorySize])
	})
}

// FindDigest returns the token with a digest, or nil.
func (p *Policy) FindDigest(d secret.Digest) *Token {
	r, found := p.find(&d)
	if !found {
		return nil
	}
	t := r.token()
	return &t
}

// Uncovered returns the scopes of a set that no token authenticates at a time in milliseconds since the
// Unix epoch (B12, B16).
func (p *Policy) Uncovered(set ScopeSet, nowMillis int64) ScopeSet {
	var bare ScopeSet
	tokens := p.Tokens()
	for s := range set.All() {
		covered := false
		for i := range tokens {
			if covered = tokens[i].Authenticates(s, nowMillis); covered {
				break
			}
		}
		if !covered {
			bare |= ScopesOf(s)
		}
	}
	return bare
}
