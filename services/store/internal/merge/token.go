package merge

import (
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
)

// both returns what comes of a token that both pasts have changed: the side that denies more, and where
// each denies something that the other does not, all of it.
func (m *merging) both(ours, theirs record.Token) record.Token {
	next := further(ours, theirs)
	next.State = max(ours.State, theirs.State)
	next.ExpireMillis = earlier(ours.ExpireMillis, theirs.ExpireMillis)
	next.OwnExpireMillis, next.OverlapEndMillis = ends(ours, theirs)
	var none bool
	if next.Scopes, none = narrower(ours.Scopes, theirs.Scopes); none && next.State == policy.Active {
		next.State = policy.Disabled
	}
	next.RevokeMillis = 0
	if next.State == policy.Revoked {
		next.RevokeMillis = earlier(ours.RevokeMillis, theirs.RevokeMillis)
	}
	next.Imported = ours.Imported || theirs.Imported
	for _, t := range []record.Token{ours, theirs} {
		m.compare(next, t)
	}
	unnumbered := func(t record.Token) record.Token { t.TouchedRevision = 0; return t }
	switch {
	case unnumbered(next) != unnumbered(ours):
		next.TouchedRevision = TouchedNow
	case ours.TouchedRevision == theirs.TouchedRevision && ours != theirs:
		next.TouchedRevision = TouchedNow // a client with the etag of theirs must not change ours
	default:
		next.TouchedRevision = ours.TouchedRevision
	}
	return next
}

// further returns the token that denies more, or was changed last.
func further(a, b record.Token) record.Token {
	switch aDenies, bDenies := denies(a, b), denies(b, a); {
	case aDenies && !bDenies:
		return a
	case bDenies && !aDenies:
		return b
	case cmp.Or(
		cmp.Compare(a.UpdateMillis, b.UpdateMillis), cmp.Compare(a.CreateMillis, b.CreateMillis), cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Note, b.Note), cmp.Compare(a.Hint, b.Hint), cmp.Compare(a.CreatedBy, b.CreatedBy),
		cmp.Compare(a.PredecessorID, b.PredecessorID), cmp.Compare(a.SuccessorID, b.SuccessorID),
	) >= 0:
		return a
	}
	return b
}

// denies tells whether a token denies everything that another one denies.
func denies(a, b record.Token) bool {
	return a.State >= b.State && earlier(a.ExpireMillis, b.ExpireMillis) == a.ExpireMillis && within(a.Scopes, b.Scopes)
}

// within tells whether a token with one set of scopes authenticates nothing that one with another does not
// (B05: no scopes are all scopes).
func within(a, b policy.ScopeSet) bool { return b == 0 || a != 0 && a.Without(b) == 0 }

// narrower returns the scopes that both sets grant; none says that there are none, which the empty set
// cannot say, since an unscoped token authenticates everything (B05).
func narrower(a, b policy.ScopeSet) (both policy.ScopeSet, none bool) {
	switch {
	case a == 0:
		return b, false
	case b == 0:
		return a, false
	case a&b == 0:
		return min(a, b), true
	}
	return a & b, false
}

// earlier returns the earlier of two times in milliseconds, of which 0 is never.
func earlier(a, b int64) int64 {
	switch {
	case a == 0:
		return b
	case b == 0:
		return a
	}
	return min(a, b)
}

// ends returns the earlier own expiry and the earlier end of an overlap (B09). A record of an earlier
// release has one time for both: beside one that has two, the time of a rotated token is the end of its
// overlap.
func ends(ours, theirs record.Token) (own, overlap int64) {
	one := func(t record.Token) bool { return t.OwnExpireMillis == 0 && t.OverlapEndMillis == 0 }
	if one(ours) && one(theirs) {
		return 0, 0
	}
	for _, t := range []record.Token{ours, theirs} {
		tOwn, tOverlap := t.OwnExpireMillis, t.OverlapEndMillis
		if one(t) && t.ExpireMillis != policy.Ended {
			if tOwn = t.ExpireMillis; t.SuccessorID != "" {
				tOwn, tOverlap = 0, t.ExpireMillis
			}
		}
		own, overlap = earlier(own, tOwn), earlier(overlap, tOverlap)
	}
	return own, overlap
}

// compare notes what was given up of one past's token.
func (m *merging) compare(kept, lost record.Token) {
	for _, f := range []struct{ field, kept, lost string }{
		{"state", stateText(kept.State), stateText(lost.State)},
		{"expire_time", timeText(kept.ExpireMillis), timeText(lost.ExpireMillis)},
		{"overlap_end_time", timeText(kept.OverlapEndMillis), timeText(lost.OverlapEndMillis)},
		{"scopes", scopesText(kept.Scopes), scopesText(lost.Scopes)},
		{"name", kept.Name, lost.Name},
		{"note", kept.Note, lost.Note},
		{"predecessor_id", kept.PredecessorID, lost.PredecessorID},
		{"successor_id", kept.SuccessorID, lost.SuccessorID},
	} {
		if f.kept != f.lost {
			m.giveUp(kept.ID, f.field, f.kept, f.lost)
		}
	}
}

// maxNameLength is the most characters of a name (B01).
const maxNameLength = 100

// rename gives a token another name when one past has given its name to another token. The token that was
// made later is renamed; neither is lost. A name that one past alone has given twice, which a rotation
// does, stays (B01).
func (m *merging) rename(side Side) {
	theirs := map[string]string{} // names by id, as the side has them
	for i := range m.after.Tokens {
		if t := &m.after.Tokens[i]; !m.touched.token(t.ID) {
			theirs[t.ID] = t.Name
		}
	}
	for i := range side.Tokens {
		theirs[side.Tokens[i].ID] = side.Tokens[i].Name
	}
	var order []*record.Token
	for i := range m.after.Tokens {
		if m.after.Tokens[i].State != policy.Revoked {
			order = append(order, &m.after.Tokens[i])
		}
	}
	slices.SortFunc(order, func(a, b *record.Token) int {
		return cmp.Or(cmp.Compare(a.CreateMillis, b.CreateMillis), cmp.Compare(a.ID, b.ID))
	})
	names := map[string]int{}
	for _, t := range order {
		names[t.Name]++
	}
	for n, t := range order {
		clash := names[t.Name] > 1 && slices.ContainsFunc(order[:n], func(other *record.Token) bool {
			had := func(names map[string]string) bool { return names[t.ID] == t.Name && names[other.ID] == t.Name }
			return other.Name == t.Name && t.PredecessorID != other.ID && t.SuccessorID != other.ID && !had(theirs) && !had(m.names)
		})
		if !clash {
			continue
		}
		was := t.Name
		names[was]--
		for i := 2; names[t.Name] > 0; i++ {
			t.Name = numbered(was, i)
		}
		names[t.Name]++
		t.TouchedRevision = TouchedNow
		m.giveUp(t.ID, "name", t.Name, was)
	}
}

// numbered returns a name with a number behind it, cut to what a name may have.
func numbered(name string, n int) string {
	suffix := fmt.Sprintf(" (%d)", n)
	runes := []rune(name)
	return string(runes[:min(len(runes), maxNameLength-utf8.RuneCountInString(suffix))]) + suffix
}
