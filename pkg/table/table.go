// Package table holds every policy of a store in memory, so that any number of readers find an app's policy
// without a lock while one writer for each partition changes it. It is a few large pieces of memory without
// pointers, whatever the number of apps: the garbage collector has nothing to look at.
package table

import (
	"sync/atomic"
	"time"

	"github.com/countersign/countersign/pkg/policy"
)

// Entry is what is known of one app, as it is put into a table and looked at outside of decisions. It is
// immutable.
type Entry struct {
	// Policy is the last good policy; nil when there never was one that could be verified.
	Policy *policy.Policy
	// Revision is that of the app's document.
	Revision uint64
	// PolicyRevision is the revision that Policy is of. It is below Revision when what came after could not
	// be verified or applied.
	PolicyRevision uint64
	// Since is when Policy was last known to be the app's, or a little later; zero while it is.
	Since time.Time
	// Stored is the policy as the store has it, where Policy has tokens revoked of which the store says
	// something else; nil where the two are the same.
	Stored *policy.Policy
}

// Kept tells whether the policy has tokens revoked of which the store says something else.
func (e *Entry) Kept() bool { return e.Stored != nil }

// StoredPolicy returns the policy as the store has it; nil when there never was one that could be verified.
func (e *Entry) StoredPolicy() *policy.Policy {
	if e.Stored != nil {
		return e.Stored
	}
	return e.Policy
}

// Behind tells whether the app has a policy that is older than its document.
func (e *Entry) Behind() bool { return e.Policy != nil && e.PolicyRevision != e.Revision }

// Table is the policies of all partitions. All methods are safe for concurrent use; those of one Partition
// that change it need one caller at a time.
type Table struct {
	partitions []atomic.Pointer[Partition]
}

// New returns a table of n partitions, none of them loaded.
func New(n int) *Table { return &Table{partitions: make([]atomic.Pointer[Partition], n)} }

// Len returns the number of partitions.
func (t *Table) Len() int { return len(t.partitions) }

// Partition returns a partition, or nil while it is not loaded.
func (t *Table) Partition(i int) *Partition { return t.partitions[i].Load() }

// Swap puts a partition in place of the one before: readers see all of the old one or all of the new.
func (t *Table) Swap(i int, p *Partition) { t.partitions[i].Store(p) }

// View is what a decision rests on.
type View struct {
	// Partition is the app's partition.
	Partition int
	// Loaded says whether the partition has data at all; without it the rest means nothing.
	Loaded bool
	// Revision is one of the partition: every change up to it is in Row.
	Revision uint64
	// Row is the zero Row when the store has no document of the app.
	Row Row
	// Missing says that the app, which has no row, is known to have had one: that is not to have no policy.
	Missing bool
}

// Entry returns the row's entry; nil when the store has no document of the app.
func (v View) Entry() *Entry { return v.Row.Entry() }

// Place is where an app is in a table.
type Place struct {
	Partition int
	key       key
}

// Hash spreads apps.
func (p Place) Hash() uint64 { return uint64(p.key) }

// Locate returns the place of an app, and has the processor fetch what Fetch looks at. It does not allocate.
func (t *Table) Locate(appID string) Place {
	hash := policy.HashApp(appID)
	place := Place{Partition: hash.Partition(len(t.partitions)), key: keyOf(&hash)}
	if p := t.partitions[place.Partition].Load(); p != nil {
		p.content.Load().fetchSlot(place.key)
	}
	return place
}

// Fetch has the processor fetch what FindAt and a decision look at. It changes nothing but how long they
// take: call it some time after Locate, and some time before FindAt.
func (t *Table) Fetch(place Place) {
	if p := t.partitions[place.Partition].Load(); p != nil {
		p.content.Load().fetchRow(place.key)
	}
}

// Find returns what is known of an app. It takes no lock and does not allocate.
func (t *Table) Find(appID string) View { return t.FindAt(t.Locate(appID), appID) }

// FindAt does what Find does, for an app whose place is known.
func (t *Table) FindAt(place Place, appID string) (v View) {
	v.Partition = place.Partition
	p := t.partitions[v.Partition].Load()
	if p == nil {
		return v
	}
	v.Loaded = true
	// The revision is read before the row: the writer does it the other way round, so the row is never older.
	v.Revision = p.revision.Load()
	v.Row = p.find(place.key, appID)
	v.Missing = p.missing != nil && !v.Row.Known() && p.missing[appID]
	return v
}
