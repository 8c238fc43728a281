package merge

import (
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
)

// mergeBoth merges two versions of a token that both histories have changed. The result denies everything
// that either version denies. Its name, note and other plain fields come from the stricter version.
func (m *merger) mergeBoth(ours, theirs record.Token) record.Token {
	next := stricter(ours, theirs)
	next.State = max(ours.State, theirs.State)
	next.ExpireMillis = earlier(ours.ExpireMillis, theirs.ExpireMillis)
	next.OwnExpireMillis, next.OverlapEndMillis = earlierEnds(ours, theirs)
	next.UntilUnusedMillis = earlier(ours.UntilUnusedMillis, theirs.UntilUnusedMillis)
	var none bool
	if next.Scopes, none = commonScopes(ours.Scopes, theirs.Scopes); none && next.State == policy.Active {
		next.State = policy.Disabled
	}
	next.RevokeMillis = 0
	if next.State == policy.Revoked {
		next.RevokeMillis = earlier(ours.RevokeMillis, theirs.RevokeMillis)
	}
	next.Imported = ours.Imported || theirs.Imported
	for _, t := range []record.Token{ours, theirs} {
		m.giveUpFields(next, t)
	}
	content := func(t record.Token) record.Token { t.TouchedRevision = 0; return t }
	switch {
	case content(next) != content(ours):
		next.TouchedRevision = TouchedNow
	case ours.TouchedRevision == theirs.TouchedRevision && ours != theirs:
		next.TouchedRevision = TouchedNow // else an etag of their version would match ours
	default:
		next.TouchedRevision = ours.TouchedRevision
	}
	return next
}

// stricter returns the version of a token that denies more. When neither or both do, it returns the version
// that was changed last. The other fields only make the result independent of the order of a and b.
func stricter(a, b record.Token) record.Token {
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

// denies reports whether a denies everything that b denies.
func denies(a, b record.Token) bool {
	return a.State >= b.State && earlier(a.ExpireMillis, b.ExpireMillis) == a.ExpireMillis && grantsNoMore(a.Scopes, b.Scopes)
}

// grantsNoMore reports whether a token with the scopes a authenticates no more than a token with the scopes
// b. An empty set authenticates every scope (B05).
func grantsNoMore(a, b policy.ScopeSet) bool { return b == 0 || a != 0 && a.Without(b) == 0 }

// commonScopes returns the scopes that both sets grant. An empty set grants every scope (B05), so none says
// that the sets have no scope in common; the result is then one of the two.
func commonScopes(a, b policy.ScopeSet) (common policy.ScopeSet, none bool) {
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

// earlier returns the earlier of two times in milliseconds since 1970; 0 means never.
func earlier(a, b int64) int64 {
	switch {
	case a == 0:
		return b
	case b == 0:
		return a
	}
	return min(a, b)
}

// earlierEnds returns the earlier own expiry and the earlier end of an overlap, which are two times (B09). A
// record of an earlier release has only ExpireMillis for both. Next to a record with two times, ExpireMillis
// of a rotated token counts as the end of its overlap, and of another token as its own expiry.
func earlierEnds(ours, theirs record.Token) (own, overlap int64) {
	single := func(t record.Token) bool { return t.OwnExpireMillis == 0 && t.OverlapEndMillis == 0 }
	if single(ours) && single(theirs) {
		return 0, 0
	}
	for _, t := range []record.Token{ours, theirs} {
		tOwn, tOverlap := t.OwnExpireMillis, t.OverlapEndMillis
		if single(t) && t.ExpireMillis != policy.Ended {
			if tOwn = t.ExpireMillis; t.SuccessorID != "" {
				tOwn, tOverlap = 0, t.ExpireMillis
			}
		}
		own, overlap = earlier(own, tOwn), earlier(overlap, tOverlap)
	}
	return own, overlap
}

// giveUpFields records the fields of one version that the merged token does not have.
func (m *merger) giveUpFields(kept, lost record.Token) {
	for _, f := range []struct{ field, kept, lost string }{
		{"state", stateText(kept.State), stateText(lost.State)},
		{"expire_time", timeText(kept.ExpireMillis), timeText(lost.ExpireMillis)},
		{"overlap_end_time", timeText(kept.OverlapEndMillis), timeText(lost.OverlapEndMillis)},
		{"until_unused", spanText(kept.UntilUnusedMillis), spanText(lost.UntilUnusedMillis)},
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

// maxNameLength is the largest number of characters of a name (B01).
const maxNameLength = 100

// resolveNames renames a token when the other history has given its name to another token. It renames the
// token that was made later. A name that a single history has given twice, as a rotation does, stays (B01).
func (m *merger) resolveNames(side Side) {
	theirNames := map[string]string{} // by token id
	for i := range m.merged.Tokens {
		if t := &m.merged.Tokens[i]; !m.touched.token(t.ID) {
			theirNames[t.ID] = t.Name
		}
	}
	for i := range side.Tokens {
		theirNames[side.Tokens[i].ID] = side.Tokens[i].Name
	}
	var order []*record.Token
	for i := range m.merged.Tokens {
		if m.merged.Tokens[i].State != policy.Revoked {
			order = append(order, &m.merged.Tokens[i])
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
			gaveTwice := func(names map[string]string) bool { return names[t.ID] == t.Name && names[other.ID] == t.Name }
			rotation := t.PredecessorID == other.ID || t.SuccessorID == other.ID
			return other.Name == t.Name && !rotation && !gaveTwice(theirNames) && !gaveTwice(m.ourNames)
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

// numbered returns the name with a number at its end, cut to maxNameLength.
func numbered(name string, n int) string {
	suffix := fmt.Sprintf(" (%d)", n)
	runes := []rune(name)
	return string(runes[:min(len(runes), maxNameLength-utf8.RuneCountInString(suffix))]) + suffix
}
