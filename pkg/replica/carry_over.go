package replica

import (
	"maps"
	"slices"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/table"
)

// carryOver is what a loaded state has to take over from the current state before readers see it:
// revocations, and apps that the store has lost. It is computed app by app without the partition's mutex,
// since there may be very many apps. Apps that change meanwhile are compared again under the mutex.
type carryOver struct {
	// from is the partition's cursor when the comparison began.
	from record.Cursor
	// revoked are the tokens that stay revoked. kept are entries that replace loaded ones, because they
	// still deny such a token.
	revoked stickies
	kept    map[string]*table.Entry
	// lost are apps of the current state that were not deleted and that the load did not find.
	lost map[string]bool
	// changed are apps that have to be compared again.
	changed map[string]bool
}

// recheck marks an app for another comparison.
func (c *carryOver) recheck(appID string) { c.changed[appID] = true }

// newCarryOver compares the whole current state with a loaded one. It changes neither.
func (p *partition) newCarryOver(work *pacer, loaded *state) *carryOver {
	p.mu.Lock()
	rows, c := p.state.rows, p.emptyCarryOver(loaded)
	p.mu.Unlock()
	c.compareAll(work, rows, loaded)
	return c
}

// emptyCarryOver returns a carryOver before any comparison. The caller holds the mutex.
func (p *partition) emptyCarryOver(loaded *state) *carryOver {
	c := &carryOver{
		from: p.state.cursor, revoked: stickies{}, kept: map[string]*table.Entry{}, lost: map[string]bool{},
		changed: map[string]bool{},
	}
	for _, from := range []stickies{p.state.revoked, loaded.revoked} {
		for appID := range from {
			c.revoked.copy(appID, from)
		}
	}
	return c
}

func (c *carryOver) compareAll(work *pacer, rows *table.Partition, loaded *state) {
	if rows != nil {
		for appID, before := range rows.All() {
			work.step()
			c.compare(appID, before, loaded.rows.Get(appID))
		}
	}
	for _, appID := range slices.Collect(maps.Keys(c.revoked)) {
		if rows == nil || rows.Get(appID) == nil {
			c.compare(appID, nil, loaded.rows.Get(appID)) // the current state has no such app
		}
	}
}

// compare compares an app's current entry with its loaded one. Either may be nil.
func (c *carryOver) compare(appID string, before, next *table.Entry) {
	if kept := c.revoked.enforce(appID, before, next); kept != next {
		c.kept[appID] = kept
	}
	if next == nil && before != nil && (before.Policy == nil || !before.Policy.Deleted()) {
		c.lost[appID] = true
	}
}

// keepRevoked puts the revocations of the current state into a loaded one (B08). It also marks lost apps as
// missing, since a store never loses an app by itself; wrong says that the current state was wrong. Then apps
// that only it has are not marked as missing. The caller holds the mutex.
func (p *partition) keepRevoked(loaded *state, c *carryOver, wrong bool) {
	if !p.noteChanges(c) {
		c = p.emptyCarryOver(loaded)
		c.compareAll(&pacer{}, p.state.rows, loaded)
	}
	for appID := range c.changed {
		p.compareAnew(c, appID, loaded)
	}
	for appID, entry := range c.kept {
		loaded.rows.Put(appID, entry)
	}
	var missing []string
	if p.state.rows != nil {
		missing = p.state.rows.Missing()
	}
	if !wrong {
		for appID := range c.lost {
			missing = append(missing, appID)
		}
	}
	if lost := loaded.rows.Lacks(missing); lost > 0 {
		p.log.Error("the store has lost apps; nothing is decided about them until they are there again", "apps", lost)
	}
	loaded.revoked = c.revoked
}

// noteChanges marks every app that has changed since the comparison began. It returns false when the history
// does not reach back that far. During a load only links change the current state.
func (p *partition) noteChanges(c *carryOver) bool {
	since, known := p.past.after(c.from)
	for _, past := range since {
		link, err := p.r.codec.OpenLink(p.number, past.raw)
		if err != nil {
			return false
		}
		c.recheck(link.AppID)
	}
	return known
}

// compareAnew drops the result for an app and compares the app again. The caller holds the mutex.
func (p *partition) compareAnew(c *carryOver, appID string, loaded *state) {
	delete(c.kept, appID)
	delete(c.lost, appID)
	delete(c.revoked, appID)
	c.revoked.copy(appID, p.state.revoked)
	c.revoked.copy(appID, loaded.revoked)
	var before *table.Entry
	if p.state.rows != nil {
		before = p.state.rows.Get(appID)
	}
	c.compare(appID, before, loaded.rows.Get(appID))
}
