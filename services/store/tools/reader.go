package tools

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/snapshot"
)

const (
	// page is how many entries of a log or trail are read at once. It is small, since one entry may have 200
	// KB.
	page = 100
	// maxReads bounds how often a partition is read that keeps changing. Each time only the changes are read.
	maxReads = 1000
)

// reader reads consistent states of partitions from Redis.
type reader struct {
	client *redisfeed.Client
	feed   *redisfeed.Feed
	codec  *record.Codec
	// beyond asks for audit rows beyond the head too.
	beyond bool
	// find receives findings about keys as such; nil for none. The sink judges their contents.
	find func(where, format string, args ...any)
}

func (t *Tools) reader(codec *record.Codec) *reader {
	return &reader{client: t.client, feed: redisfeed.New(t.client, codec.Partitions()), codec: codec}
}

// export sends every partition to a sink.
func (r *reader) export(ctx context.Context, to snapshot.Sink) error {
	for i := range r.codec.Partitions() {
		if err := r.exportPartition(ctx, i, to); err != nil {
			return fmt.Errorf("partition %d: %w", i, err)
		}
	}
	return nil
}

// contents is one state of a partition without its audit trail. The head says how much of the trail belongs
// to it.
type contents struct {
	keys      record.Keys
	misfits   map[string]string // keys of a wrong type, with that type
	rawHead   []byte
	head      record.Head // the zero value when rawHead does not verify
	documents map[string][]byte
	log       []record.RawEntry
	// lastID is the last id that was read of the log. Misplaced are ids in it that no change can have.
	lastID    string
	misplaced []string
}

func (r *reader) exportPartition(ctx context.Context, number int, to snapshot.Sink) error {
	c, err := r.read(ctx, number)
	if err != nil {
		return err
	}
	r.reportKeys(c)
	if err := to.Partition(number, c.rawHead); err != nil {
		return err
	}
	for _, appID := range slices.Sorted(maps.Keys(c.documents)) {
		if err := to.Document(appID, c.documents[appID]); err != nil {
			return err
		}
	}
	for _, entry := range c.log {
		if err := to.Entry(entry); err != nil {
			return err
		}
	}
	last := uint64(math.MaxUint64)
	if c.head.Epoch > 0 && !r.beyond {
		last = c.head.Audit.Sequence
	}
	if err := r.exportAudit(ctx, c, last, to); err != nil {
		return err
	}
	return r.ends(ctx, number)
}

// read reads a partition until it is unchanged from the beginning to the end of a read.
func (r *reader) read(ctx context.Context, number int) (*contents, error) {
	for range maxReads {
		c, err := r.begin(ctx, number)
		if err != nil {
			return nil, err
		}
		for range maxReads {
			again, err := r.update(ctx, number, c)
			if err != nil {
				return nil, err
			}
			if again == current {
				return c, nil
			}
			if again == startOver {
				break
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return nil, errors.New("the partition changes too often to be read")
}

// begin reads everything once.
func (r *reader) begin(ctx context.Context, number int) (*contents, error) {
	c := &contents{keys: record.KeysOf(number), documents: map[string][]byte{}}
	var err error
	if c.misfits, err = misfits(ctx, r.client, c.keys); err != nil {
		return nil, err
	}
	if err := r.readHead(ctx, number, c); err != nil {
		return nil, err
	}
	if c.misfits[c.keys.Policies] == "" {
		err = retry(ctx, func() error {
			clear(c.documents)
			return r.feed.Documents(ctx, number, func(appID string, raw []byte) { c.documents[appID] = bytes.Clone(raw) })
		})
	}
	if err != nil {
		return nil, err
	}
	return c, r.readLog(ctx, c)
}

type updateResult int

const (
	current updateResult = iota
	changed
	startOver
)

// update checks whether the partition has changed since it was read, and reads the changes. A commit changes
// head, log and document at once.
func (r *reader) update(ctx context.Context, number int, c *contents) (updateResult, error) {
	before := *c
	if err := r.readHead(ctx, number, c); err != nil {
		return 0, err
	}
	if bytes.Equal(c.rawHead, before.rawHead) {
		return current, nil
	}
	if before.head.Epoch == 0 || c.head.Epoch != before.head.Epoch || c.head.Revision < before.head.Revision {
		return startOver, nil
	}
	if err := r.readLog(ctx, c); err != nil {
		return 0, err
	}
	apps, whole := r.appsBehind(number, c.log, before.head.Cursor)
	if !whole {
		return startOver, nil
	}
	for _, appID := range apps {
		var raw []any
		err := retry(ctx, func() (err error) {
			raw, err = r.client.HMGet(ctx, record.KeysOf(number).Policies, appID).Result()
			return err
		})
		if err != nil {
			return 0, err
		}
		delete(c.documents, appID)
		if text, there := raw[0].(string); there {
			c.documents[appID] = []byte(text)
		}
	}
	return changed, nil
}

// appsBehind returns the apps that changed after a cursor; false when the log does not continue from there.
func (r *reader) appsBehind(number int, log []record.RawEntry, at record.Cursor) (apps []string, whole bool) {
	for _, e := range log {
		if e.Revision <= at.Revision {
			continue
		}
		link, err := r.codec.OpenLink(number, e.Data)
		if err != nil || link.PreviousTag != at.Tag || link.Revision != at.Revision+1 {
			return nil, false
		}
		at = link.Cursor
		apps = append(apps, link.AppID)
	}
	return apps, true
}
