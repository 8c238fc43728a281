package record

import (
	"errors"
	"fmt"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// ErrMisplaced says that an entry stands in the log under a revision that is not its own.
var ErrMisplaced = errors.New("record: the entry's own revision differs from its revision in the log")

// RawEntry is one entry of a partition's log as the store holds it. Nothing of it is verified.
type RawEntry struct {
	// Revision is the number in the entry's id in the log.
	Revision uint64
	Data     []byte
	// EpochStart says that Data is the start of an epoch. Otherwise it is a link.
	EpochStart bool
}

// Entry is one verified entry of a partition's log: a link, or the start of an epoch.
type Entry struct {
	Cursor
	// Previous is the cursor of the entry before this one. It is zero for an epoch that began when nothing
	// was left of the partition.
	Previous Cursor
	// Link is the change; nil for the start of an epoch.
	Link *Link
	// Cause and Settled are those of an EpochStart; zero for a link.
	Cause   countersignv1.EpochCause
	Settled []Tag
}

// OpenEntry verifies an entry of a partition's log. An entry that stands under another revision than its
// own fails with ErrMisplaced, and is returned beside the error.
func (c *Codec) OpenEntry(partition int, raw RawEntry) (e Entry, err error) {
	if raw.EpochStart {
		e, err = c.openStart(partition, raw.Data)
	} else {
		e, err = c.openLinkEntry(partition, raw.Data)
	}
	if err == nil && e.Revision != raw.Revision {
		err = ErrMisplaced
	}
	return e, err
}

// OpenUnlabelled verifies an entry that was kept outside the log, without its kind and its revision there.
func (c *Codec) OpenUnlabelled(partition int, data []byte) (Entry, error) {
	e, linkErr := c.openLinkEntry(partition, data)
	if linkErr == nil {
		return e, nil
	}
	e, startErr := c.openStart(partition, data)
	if startErr != nil {
		return Entry{}, fmt.Errorf("neither a link nor the start of an epoch: %w; %w", linkErr, startErr)
	}
	return e, nil
}

func (c *Codec) openLinkEntry(partition int, data []byte) (Entry, error) {
	link, err := c.OpenLink(partition, data)
	if err != nil {
		return Entry{}, err
	}
	return Entry{Cursor: link.Cursor, Previous: link.Previous(), Link: link}, nil
}

func (c *Codec) openStart(partition int, data []byte) (Entry, error) {
	start, err := c.OpenEpoch(partition, data)
	if err != nil {
		return Entry{}, err
	}
	return Entry{Cursor: start.Cursor, Previous: start.Previous, Cause: start.Cause, Settled: start.Settled}, nil
}

// Raw returns the entry as the log holds it; data is what the entry was opened from.
func (e *Entry) Raw(data []byte) RawEntry {
	return RawEntry{Revision: e.Revision, Data: data, EpochStart: e.Link == nil}
}

// OnNothing reports whether the entry is the start of an epoch that began on a partition without changes:
// after a wipe, or on a new store.
func (e *Entry) OnNothing() bool { return e.Link == nil && e.Previous.Revision == 0 }
