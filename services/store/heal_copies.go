package store

import (
	"slices"

	"github.com/countersign/countersign/pkg/record"
)

// A healing brings a lost change back as another one: a link right behind the start of the epoch that
// settles the lost one. The two are one change in two shapes. Both are at hand when the healing is lost in
// turn, or when two authorities have healed the same loss. Such a change counts once: of a past that went
// on from it, what came after it counts.

// at returns an entry of the log, or one that somebody holds.
func (l *loss) at(c record.Cursor) (record.Entry, bool) {
	if e, has := l.supplied[c]; has {
		return e, true
	}
	if link := l.past.links[c.Revision]; link != nil && link.Cursor == c {
		return record.Entry{Cursor: c, Previous: link.Previous(), Link: link}, true
	}
	i := slices.IndexFunc(l.past.jumps, func(e record.Entry) bool { return e.Cursor == c })
	if i < 0 {
		return record.Entry{}, false
	}
	return l.past.jumps[i], true
}

// healedBy returns the start of the epoch whose healing made a link, the zero entry for none. A healing
// changes each app once, in order of their ids, right behind the start.
func (l *loss) healedBy(link *record.Link) (start record.Entry) {
	if start, known := l.healers[link.Tag]; known {
		return start
	}
	if before, has := l.at(link.Previous()); has {
		switch {
		case before.Link == nil && len(before.Settled) > 0:
			start = before
		case before.Link != nil && before.Link.AppID < link.AppID:
			start = l.healedBy(before.Link)
		}
	}
	l.healers[link.Tag] = start
	return start
}

// settledBy returns the changes that the start of an epoch settles, in turn.
func (l *loss) settledBy(start record.Entry) map[record.Tag]bool {
	if l.inTurn[start.Tag] == nil {
		l.inTurn[start.Tag] = map[record.Tag]bool{}
		l.collect(l.inTurn[start.Tag], start.Settled)
	}
	return l.inTurn[start.Tag]
}

// oneChange tells whether two links of one app may be one change in two shapes.
func (l *loss) oneChange(a, b *record.Link) bool {
	byA, byB := l.healedBy(a), l.healedBy(b)
	if l.settledBy(byA)[b.Tag] || l.settledBy(byB)[a.Tag] {
		return true
	}
	starts := [2]record.Tag{byA.Tag, byB.Tag}
	same, known := l.sameLoss[starts]
	if !known {
		for tag := range l.settledBy(byA) {
			same = same || l.settledBy(byB)[tag]
		}
		l.sameLoss[starts] = same
	}
	return same
}

// apart returns the links of two pasts of an app, each in the order of that past, without what both have of
// one change in two shapes. A healing has brought back what the last of the changes that it dealt with had
// made of a token: those before do not count.
func (l *loss) apart(ours, theirs []*record.Link) (a, b []*record.Link) {
	a, b = slices.Clone(ours), slices.Clone(theirs)
	older := map[*record.Link]map[string]bool{} // what a later change of the other past has made anew, by link
	for i, one := range slices.Backward(ours) {
		for j, other := range slices.Backward(theirs) {
			if !l.oneChange(one, other) {
				continue
			}
			common := inCommon(one, other)
			for id := range common {
				if older[one][id] || older[other][id] {
					delete(common, id)
				}
			}
			a[i], b[j] = without(a[i], common), without(b[j], common)
			for link, by := range map[*record.Link]*record.Link{one: other, other: one} {
				if l.healedBy(by).Settled == nil {
					older[link] = appendSubjects(older[link], by)
				}
			}
		}
	}
	return a, b
}

// settings stands for an app's settings among ids of tokens.
const settings = ""

// appendSubjects adds what a link changes to a set.
func appendSubjects(ids map[string]bool, link *record.Link) map[string]bool {
	if ids == nil {
		ids = map[string]bool{}
	}
	for i := range link.Upserts {
		ids[link.Upserts[i].ID] = true
	}
	for _, id := range link.Removed {
		ids[id] = true
	}
	if !link.SettingsKept {
		ids[settings] = true
	}
	return ids
}

// inCommon returns the ids of tokens of which two links make the same, and settings.
func inCommon(a, b *record.Link) map[string]bool {
	content := func(t record.Token) record.Token { t.TouchedRevision, t.UpdateMillis = 0, 0; return t }
	tokens := map[string]record.Token{}
	for _, t := range a.Upserts {
		tokens[t.ID] = content(t)
	}
	common := map[string]bool{}
	for _, t := range b.Upserts {
		if has, both := tokens[t.ID]; both && has == content(t) {
			common[t.ID] = true
		}
	}
	for _, id := range b.Removed {
		if slices.Contains(a.Removed, id) {
			common[id] = true
		}
	}
	if !a.SettingsKept && !b.SettingsKept && a.Enforcement == b.Enforcement && a.Deleted == b.Deleted {
		common[settings] = true
	}
	return common
}

// without returns a link without some of what it changes.
func without(link *record.Link, ids map[string]bool) *record.Link {
	own := *link
	own.Upserts = slices.DeleteFunc(slices.Clone(own.Upserts), func(t record.Token) bool { return ids[t.ID] })
	own.Removed = slices.DeleteFunc(slices.Clone(own.Removed), func(id string) bool { return ids[id] })
	own.SettingsKept = own.SettingsKept || ids[settings]
	return &own
}
