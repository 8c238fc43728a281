package store

import (
	"slices"

	"github.com/countersign/countersign/pkg/record"
)

// A healing brings a lost change (the original) back as a new link (the copy). The copy comes after the start
// of the epoch that settles the original. Original and copy are one change, so they must count once. Both are
// supplied when the healing is lost too. Two copies are supplied when two authorities have healed the same
// loss. When a history contains a copy and later changes, only the later changes count.

// at returns the entry with a cursor, from the supplied entries or from the log.
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

// healedBy returns the start of the epoch whose healing made a link. It returns the zero entry for a link
// that no healing made. A healing changes each app once, in order of app ids, right after the start.
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

// settledBy returns the tags that the start of an epoch settles. They include the tags that settled starts of
// other epochs have settled.
func (l *loss) settledBy(start record.Entry) map[record.Tag]bool {
	if l.inTurn[start.Tag] == nil {
		l.inTurn[start.Tag] = map[record.Tag]bool{}
		l.collect(l.inTurn[start.Tag], start.Settled)
	}
	return l.inTurn[start.Tag]
}

// oneChange reports whether two links of one app may be original and copy, or two copies, of one change.
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

// apart returns the links of two histories of one app, without the values that both histories have through
// copies of one change. The order of links stays. A healing brings back a token as the last settled change
// left it. So a copy of the token is compared with that change, and not with settled changes before it.
func (l *loss) apart(ours, theirs []*record.Link) (a, b []*record.Link) {
	a, b = slices.Clone(ours), slices.Clone(theirs)
	older := map[*record.Link]map[string]bool{} // by link: ids that a later original in the other history sets
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

// settings stands for an app's settings among token ids.
const settings = ""

// appendSubjects adds the token ids (and settings) that a link changes.
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

// inCommon returns the token ids (and settings) that two links set to the same values.
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

// without returns a link without some of its changes.
func without(link *record.Link, ids map[string]bool) *record.Link {
	own := *link
	own.Upserts = slices.DeleteFunc(slices.Clone(own.Upserts), func(t record.Token) bool { return ids[t.ID] })
	own.Removed = slices.DeleteFunc(slices.Clone(own.Removed), func(id string) bool { return ids[id] })
	own.SettingsKept = own.SettingsKept || ids[settings]
	return &own
}
