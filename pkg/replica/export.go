package replica

import (
	"errors"
	"fmt"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/table"
)

// Contents is everything that a partition holds, for a replica that is started later.
type Contents struct {
	Partition int
	// Cursor is the cursor of the data. Confirmed is the least cursor that the store must have. Base is the
	// cursor before the first of Links.
	Cursor, Confirmed, Base record.Cursor
	// Forks are the last cursors of earlier epochs.
	Forks []record.Cursor
	// VerifyTime is when the data was last known to be complete, by the wall clock.
	VerifyTime time.Time
	// Sum is the sum of Apps.
	Sum  record.Sum
	Apps []App
	// Sticky are the tokens that stay revoked against the store.
	Sticky []Sticky
	// Missing are apps that had a policy and that the store has lost.
	Missing []string
	// Links are the latest entries of the log, signed, oldest first: links and epoch starts. Orphans are the
	// entries that the store does not have.
	Links, Orphans [][]byte
}

// App is one app of a partition. Entry is shared and must not be changed. For an entry with sticky
// revocations, StoredPolicy is enough: Import adds the revocations from Sticky.
type App struct {
	ID    string
	Entry *table.Entry
}

// Export returns what a partition holds; false before it is loaded.
func (r *Replica) Export(partition int) (Contents, bool) {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.rows == nil {
		return Contents{}, false
	}
	c := Contents{
		Partition: partition, Cursor: p.state.cursor, Confirmed: p.leastCursor(), Base: p.past.base, Forks: p.state.forks,
		VerifyTime: p.fresh.last(), Sum: p.state.sum, Sticky: p.state.revoked.list(), Missing: p.state.rows.Missing(),
	}
	for appID, entry := range p.state.rows.All() {
		c.Apps = append(c.Apps, App{appID, entry})
	}
	for _, link := range p.past.links {
		c.Links = append(c.Links, link.raw)
	}
	for _, link := range p.orphans {
		c.Orphans = append(c.Orphans, link.raw)
	}
	return c, true
}

// Import gives a partition what Export returned in an earlier process. It must be called before Run. It fails
// when the contents do not add up. The age of the data counts from VerifyTime. The partition serves once a
// poll shows that the store has nothing to add, or when maxUnanswered polls in a row got no answer.
func (r *Replica) Import(c Contents) error {
	if c.Partition < 0 || c.Partition >= len(r.partitions) {
		return fmt.Errorf("partition %d: want one below %d", c.Partition, len(r.partitions))
	}
	p := r.partitions[c.Partition]
	sum := c.Sum.Empty()
	entries := make(map[string]*table.Entry, len(c.Apps))
	loaded := state{cursor: c.Cursor, sum: c.Sum, forks: c.Forks, revoked: stickies{}}
	for _, app := range c.Apps {
		entries[app.ID] = app.Entry
		sum = r.codec.Add(sum, c.Partition, app.ID, app.Entry.Revision)
		if app.Entry.Policy == nil || app.Entry.Behind() {
			loaded.damaged++
		}
	}
	if sum != c.Sum || len(entries) != len(c.Apps) {
		return fmt.Errorf("partition %d: %w", c.Partition, errDoesNotAddUp)
	}
	past := history{base: c.Base}
	for _, raw := range c.Links {
		e, err := p.openRaw(raw)
		if err != nil || e.Previous != past.end() {
			return fmt.Errorf("partition %d: %w", c.Partition, errors.Join(errPastElsewhere, err))
		}
		past.append(e.past())
	}
	if past.end() != c.Cursor {
		return fmt.Errorf("partition %d: %w", c.Partition, errPastElsewhere)
	}
	var orphans []pastLink
	for _, raw := range c.Orphans {
		if e, err := p.openRaw(raw); err == nil {
			orphans = append(orphans, e.past())
		}
	}
	for _, kept := range c.Sticky {
		loaded.revoked.add(kept.AppID, kept.Token)
	}
	for appID := range loaded.revoked {
		if entry := entries[appID]; entry != nil {
			entries[appID] = loaded.revoked.enforce(appID, nil, entry)
		}
	}
	loaded.rows = table.NewPartition(entries, c.Cursor.Revision)
	if p.r.lists {
		loaded.rows.Order()
	}
	loaded.rows.Between(r.throttle.pacer().step)
	loaded.rows.Lacks(c.Missing)

	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.past, p.orphans, p.floor, p.loadedAt = loaded, past, orphans, c.Confirmed, time.Now()
	if !c.Cursor.Before(c.Confirmed) {
		p.confirmed = c.Confirmed
	}
	p.fresh.recall(c.VerifyTime)
	return nil
}

// openRaw opens an entry that was stored without its kind (link or epoch start).
func (p *partition) openRaw(raw []byte) (entry, error) {
	opened, err := p.r.codec.OpenUnlabelled(p.number, raw)
	return entry{opened, raw}, err
}

var errPastElsewhere = errors.New("its links do not lead to its cursor")

// KeptRevoked reports whether a token of an app is revoked here against the store. It is for the metric of
// such denials.
func (r *Replica) KeptRevoked(partition int, appID string, digest secret.Digest) bool {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	t, kept := p.state.revoked[appID][digest]
	if !kept {
		clear(digest[policy.MemorySize:]) // only the prefix of the digest is known
		t, kept = p.state.revoked[appID][digest]
	}
	return kept && t.State == policy.Revoked
}
