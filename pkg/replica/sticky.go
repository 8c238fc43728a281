package replica

import (
	"cmp"
	"slices"
	"strings"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/table"
)

// Sticky is a token that this process has seen revoked, although the store lacks it or does not have it as
// revoked. It stays revoked (B08). A token without an id is a remembered digest; see policy.Memory.
type Sticky struct {
	AppID string
	Token policy.Token
}

// stickies are the revocations that a partition keeps against the store, by app and digest. Most partitions
// have none.
type stickies map[string]map[secret.Digest]policy.Token

// enforce carries revocations over to an app's next entry: the revoked tokens of the entry before, and the
// tokens in s. It returns the entry to show. Both entries may be nil.
func (s stickies) enforce(appID string, before, next *table.Entry) *table.Entry {
	if next != nil && next.Policy == nil {
		return next // without a policy nothing is allowed
	}
	var stored *policy.Policy
	if next != nil {
		stored = next.StoredPolicy()
	}
	var denied []policy.Token
	check := func(t policy.Token) {
		if stored == nil {
			s.add(appID, t)
			return
		}
		if stored.Revokes(&t) {
			s.drop(appID, t.Digest)
			return
		}
		s.add(appID, t)
		denied = append(denied, t)
	}
	if before != nil && before.Policy != nil && (stored == nil || *before.Policy != *stored) {
		for _, t := range before.Policy.Tokens() {
			if _, known := s[appID][t.Digest]; t.State == policy.Revoked && !known {
				check(t)
			}
		}
		forgotten := before.Policy.Memory()
		if stored != nil {
			forgotten = forgotten.Without(stored.Memory())
		}
		for t := range forgotten.Tokens() {
			if _, known := s[appID][t.Digest]; !known {
				check(t)
			}
		}
	}
	denied = denied[:0]
	for _, t := range s[appID] {
		check(t)
	}
	if next == nil || len(denied) == 0 && !next.Kept() {
		return next
	}
	held := *next
	held.Policy, held.Stored = stored, nil
	if len(denied) > 0 {
		kept, err := stored.WithRevoked(denied)
		if err != nil {
			// This cannot happen, since both policies are well-formed. Without a policy the app is undecided,
			// which allows nothing wrong.
			kept = nil
		}
		held.Policy, held.Stored = kept, stored
	}
	return &held
}

func (s stickies) add(appID string, t policy.Token) {
	if s[appID] == nil {
		s[strings.Clone(appID)] = map[secret.Digest]policy.Token{}
	}
	t.ID = strings.Clone(t.ID) // it may point into the table
	s[appID][t.Digest] = t
}

// copy adds another map's tokens of an app.
func (s stickies) copy(appID string, from stickies) {
	for _, t := range from[appID] {
		s.add(appID, t)
	}
}

func (s stickies) drop(appID string, d secret.Digest) {
	delete(s[appID], d)
	if len(s[appID]) == 0 {
		delete(s, appID)
	}
}

func (s stickies) list() []Sticky {
	var all []Sticky
	for appID, tokens := range s {
		for _, t := range tokens {
			all = append(all, Sticky{AppID: appID, Token: t})
		}
	}
	slices.SortFunc(all, func(a, b Sticky) int {
		return cmp.Or(cmp.Compare(a.AppID, b.AppID), cmp.Compare(a.Token.ID, b.Token.ID))
	})
	return all
}
