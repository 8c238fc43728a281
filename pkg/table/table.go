// Package table holds every policy of a store in memory. Any number of readers find an app's policy without a
// lock, while one writer for each partition changes it. The policies lie in a few large pieces of memory
// without pointers, so they cost the garbage collector nothing. This package is not part of the public API
// and may change in any release.
package table

import (
	"sync/atomic"
	"time"

	"github.com/countersign/countersign/pkg/policy"
)

// Entry is what a table holds about one app. It is immutable.
type Entry struct {
	// Policy is the last good policy; nil when none could ever be verified.
	Policy *policy.Policy
	// Revision is the revision of the app's document.
	Revision uint64
	// PolicyRevision is the revision of Policy. It is below Revision when a later change could not be
	// verified or applied.
	PolicyRevision uint64
	// Since is when Policy was last known to be current, or a little later; zero while it is current.
	Since time.Time
	// Stored is the policy in the store when Policy revokes more tokens than it; nil when the two are the
	// same.
	Stored *policy.Policy
}

// Kept reports whether the policy revokes tokens that the policy in the store does not.
func (e *Entry) Kept() bool { return e.Stored != nil }

// StoredPolicy returns the policy in the store; nil when none could ever be verified.
func (e *Entry) StoredPolicy() *policy.Policy {
	if e.Stored != nil {
		return e.Stored
	}
	return e.Policy
}

// Behind reports whether the policy is older than the app's document.
func (e *Entry) Behind() bool { return e.Policy != nil && e.PolicyRevision != e.Revision }

// Table holds the policies of all partitions. All methods are safe for concurrent use. The methods that
// change one Partition need one caller at a time.
type Table struct {
	partitions []atomic.Pointer[Partition]
}

// New returns a table of n partitions, none of which is loaded.
func New(n int) *Table { return &Table{partitions: make([]atomic.Pointer[Partition], n)} }

// Len returns the number of partitions.
func (t *Table) Len() int { return len(t.partitions) }

// Partition returns a partition, or nil while it is not loaded.
func (t *Table) Partition(i int) *Partition { return t.partitions[i].Load() }

// Swap replaces a partition. Readers see either all of the old one or all of the new one.
func (t *Table) Swap(i int, p *Partition) { t.partitions[i].Store(p) }

// View is what a table knows about an app at one moment.
type View struct {
	// Partition is the app's partition.
	Partition int
	// Loaded says whether the partition has data. The other fields mean nothing without it.
	Loaded bool
	// Revision is the partition's revision: Row includes every change up to it.
	Revision uint64
	// Row is the zero Row when the store has no document of the app.
	Row Row
	// Missing says that the app had a policy and the store has lost it. It is undecided, unlike an app
	// without a policy.
	Missing bool
}

// Entry returns the row's entry; nil when the store has no document of the app.
func (v View) Entry() *Entry { return v.Row.Entry() }

// Place is the position of an app in a table.
type Place struct {
	Partition int
	key       key
}

// Hash returns a number that spreads apps evenly.
func (p Place) Hash() uint64 { return uint64(p.key) }

// Locate returns the place of an app, and prefetches what Fetch reads. It does not allocate.
func (t *Table) Locate(appID string) Place {
	hash := policy.HashApp(appID)
	place := Place{Partition: hash.Partition(len(t.partitions)), key: keyOf(&hash)}
	if p := t.partitions[place.Partition].Load(); p != nil {
		p.content.Load().fetchSlot(place.key)
	}
	return place
}

// Fetch prefetches what FindAt and a decision read. It only makes them faster: call it some time after
// Locate, and some time before FindAt.
func (t *Table) Fetch(place Place) {
	if p := t.partitions[place.Partition].Load(); p != nil {
		p.content.Load().fetchRow(place.key)
	}
}

// Find returns what the table knows about an app. It takes no lock and does not allocate.
func (t *Table) Find(appID string) View { return t.FindAt(t.Locate(appID), appID) }

// FindAt is Find for an app whose place is known.
func (t *Table) FindAt(place Place, appID string) (v View) {
	v.Partition = place.Partition
	p := t.partitions[v.Partition].Load()
	if p == nil {
		return v
	}
	v.Loaded = true
	// The revision is read before the row, and the writer sets it after the row. So the row is never older.
	v.Revision = p.revision.Load()
	v.Row = p.find(place.key, appID)
	v.Missing = p.missing != nil && !v.Row.Known() && p.missing[appID]
	return v
}
