package replica

import (
	"maps"
	"slices"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/table"
)

// comparison is what comes of comparing a state that is about to be shown with what is held, app by app. It
// is made without the mutex, since there may be very many apps; those that change meanwhile are compared
// again with it.
type comparison struct {
	// at is where the partition was when it began.
	at record.Cursor
	// revoked is what stays revoked, held the entries that are to be shown instead of those that were loaded.
	revoked stickies
	held    map[string]*table.Entry
	// gone are apps that are held, were not deleted, and were not loaded.
	gone map[string]bool
	// changed are apps that have to be compared again.
	changed map[string]bool
}

// again notes that an app has to be compared again.
func (c *comparison) again(appID string) { c.changed[appID] = true }

// compared compares all that is held with a loaded state, and changes neither.
func (p *partition) compared(work *stint, loaded *state) *comparison {
	p.mu.Lock()
	rows, c := p.held.rows, p.comparison(loaded)
	p.mu.Unlock()
	c.compareAll(work, rows, loaded)
	return c
}

// comparison returns one that nothing came of yet. The caller holds the mutex.
func (p *partition) comparison(loaded *state) *comparison {
	c := &comparison{at: p.held.cursor, revoked: stickies{}, held: map[string]*table.Entry{}, gone: map[string]bool{}, changed: map[string]bool{}}
	for _, from := range []stickies{p.held.revoked, loaded.revoked} {
		for appID := range from {
			c.revoked.copy(appID, from)
		}
	}
	return c
}

func (c *comparison) compareAll(work *stint, rows *table.Partition, loaded *state) {
	if rows != nil {
		for appID, before := range rows.All() {
			work.step()
			c.compare(appID, before, loaded.rows.Get(appID))
		}
	}
	for _, appID := range slices.Collect(maps.Keys(c.revoked)) {
		if rows == nil || rows.Get(appID) == nil {
			c.compare(appID, nil, loaded.rows.Get(appID)) // the store knew nothing of it at last
		}
	}
}

// compare compares an app's entry that is held with the one that was loaded; either may be nil.
func (c *comparison) compare(appID string, before, next *table.Entry) {
	if held := c.revoked.hold(appID, before, next); held != next {
		c.held[appID] = held
	}
	if next == nil && before != nil && (before.Policy == nil || !before.Policy.Deleted()) {
		c.gone[appID] = true
	}
}

// holdRevoked makes a state that is about to be shown keep every revocation that was seen (B08), and notes
// the apps that are gone: the store loses none by itself. What was held counts unless it was wrong.
func (p *partition) holdRevoked(loaded *state, c *comparison, wrong bool) {
	if !p.noteChanges(c) {
		c = p.comparison(loaded)
		c.compareAll(&stint{}, p.held.rows, loaded)
	}
	for appID := range c.changed {
		p.compareAgain(c, appID, loaded)
	}
	for appID, held := range c.held {
		loaded.rows.Put(appID, held)
	}
	var missing []string
	if p.held.rows != nil {
		missing = p.held.rows.Missing()
	}
	if !wrong {
		for appID := range c.gone {
			missing = append(missing, appID)
		}
	}
	if lost := loaded.rows.Lacks(missing); lost > 0 {
		p.log.Error("the store has lost apps; nothing is decided about them until they are there again", "apps", lost)
	}
	loaded.revoked = c.revoked
}

// noteChanges notes every app that has changed since the comparison began; false when it cannot be told any
// more. Nothing but a link changes what is held while a load goes on.
func (p *partition) noteChanges(c *comparison) bool {
	since, known := p.past.after(c.at)
	for _, past := range since {
		link, err := p.r.codec.OpenLink(p.number, past.raw)
		if err != nil {
			return false
		}
		c.again(link.AppID)
	}
	return known
}

// compareAgain forgets what came of comparing an app, and compares it anew.
func (p *partition) compareAgain(c *comparison, appID string, loaded *state) {
	delete(c.held, appID)
	delete(c.gone, appID)
	delete(c.revoked, appID)
	c.revoked.copy(appID, p.held.revoked)
	c.revoked.copy(appID, loaded.revoked)
	var before *table.Entry
	if p.held.rows != nil {
		before = p.held.rows.Get(appID)
	}
	c.compare(appID, before, loaded.rows.Get(appID))
}
