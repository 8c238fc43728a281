package healing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store"
)

const partitions = 64

// fake is a replica, a store, and the validators of a fleet.
type fake struct {
	mu      sync.Mutex
	changed chan struct{}
	forked  map[int]bool
	sticky  map[int][]replica.Sticky
	frozen  map[int]bool
	calls   []call
	offered []offer
	told    []record.Tag // tags that were told to be settled
	// heal is the implementation of Store.Heal.
	heal func(ctx context.Context, partition int) (store.Healed, error)
	// orphans has the orphans of validators. settled has the orphans that the healer has settled again.
	orphans, settled []record.Tag
	// held has the links that the validators send.
	held [][]byte
	// unhealed has the operator's epoch that is not healed, by partition.
	unhealed map[int]uint64
	// at has the validators' cursors. silent has the validators that have not reported, with the time of
	// their report.
	at     []record.Cursor
	silent map[string]time.Time
	// strangers is the time until which unlisted validators may run.
	strangers time.Time
	// past is a cursor in the store's history.
	past record.Cursor
	// own is the replica's cursor in all partitions.
	own record.Cursor
	// asked counts the requests for the validators' links.
	asked int
	// slow is how long validators take to answer.
	slow time.Duration
}

// call is one call of Store.Heal.
type call struct {
	partition  int
	at         time.Duration
	candidates []string
	frozen     bool
	waited     uint64
}

// offer is one call of Fleet.Offer.
type offer struct {
	partition, links int
	at               time.Duration
}

func (f *fake) Codec() *record.Codec { return codec }

var codec = record.NewCodec(keyring.Generate(), record.Meta{StoreID: "store", Partitions: partitions})

// linkOf returns a signed link of a partition, and its tag.
func linkOf(t *testing.T, partition int) ([]byte, record.Tag) {
	after := &record.Document{Cursor: record.Cursor{Epoch: 1, Revision: 2, Tag: record.NewTag()}}
	for n := 0; after.AppID == "" || codec.PartitionOf(after.AppID) != partition; n++ {
		after.AppID = fmt.Sprint("app", n)
	}
	raw, err := codec.SealLink(record.LinkBetween(record.NewTag(), nil, after))
	if err != nil {
		t.Fatal(err)
	}
	return raw, after.Tag
}

// startOf returns the signed start of an epoch. The epoch follows no change.
func startOf(t *testing.T, at record.Cursor) []byte {
	raw, err := codec.SealEpoch(7, record.EpochStart{
		Cursor: at, Cause: countersignv1.EpochCause_EPOCH_CAUSE_HEALED,
		CommitMillis: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (f *fake) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) Forked(partition int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.forked[partition]
}

func (f *fake) Unhealed(partition int) (uint64, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unhealed[partition], f.unhealed[partition] > 0
}

func (f *fake) Reached(_ int, c record.Cursor) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c == f.past {
		return true, nil
	}
	return false, replica.ErrLost
}

func (f *fake) Sticky(partition int) []replica.Sticky {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sticky[partition]
}

func (f *fake) isFrozen(partition int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.frozen[partition]
}

func (f *fake) Links(int) [][]byte { return [][]byte{[]byte("own")} }

func (f *fake) Cursors() []record.Cursor {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Repeat([]record.Cursor{f.own}, partitions)
}

func (f *fake) Orphans(int) []record.Tag { return nil }

func (f *fake) Settle(_ context.Context, partition int, tags []record.Tag) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settled = append(f.settled, tags...)
	f.orphans = nil
	return nil
}

func (f *fake) Reach(context.Context, int, record.Cursor) error { return nil }

func (f *fake) Freeze(partition int, frozen bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen[partition] = frozen
}

func (f *fake) Heal(ctx context.Context, partition int, waited uint64, candidates [][]byte, _ []replica.Sticky,
	highest []record.Cursor,
) (store.Healed, error) {
	c := call{partition: partition, at: time.Since(began), waited: waited}
	for _, raw := range candidates {
		c.candidates = append(c.candidates, string(raw))
	}
	f.mu.Lock()
	c.frozen = f.frozen[partition]
	f.calls = append(f.calls, c)
	f.mu.Unlock()
	if len(highest) != 1 {
		return store.Healed{}, errors.New("nobody was asked for the highest cursors")
	}
	return f.heal(ctx, partition)
}

func (f *fake) made() []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// fleet is the fake as a Fleet.
type fleet struct{ *fake }

func (f fleet) Links(ctx context.Context, partition int) [][]byte {
	select {
	case <-ctx.Done():
	case <-time.After(f.slow):
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return append([][]byte{[]byte("theirs")}, f.held...)
}

func (f fleet) Offer(_ context.Context, partition int, links [][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.offered = append(f.offered, offer{partition, len(links), time.Since(began)})
}

func (f fleet) Offered(int) [][]byte { return nil }

func (f fleet) Settled(_ int, tags map[record.Tag]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = slices.AppendSeq(f.told, maps.Keys(tags))
}

func (f fleet) Orphans(int, uint64) []record.Tag {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.orphans
}

func (f fleet) Present(_ int, since time.Time) (at []record.Cursor, silent []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, until := range f.silent {
		if time.Now().Before(until) || until.Before(since) && !until.IsZero() {
			silent = append(silent, name)
		}
	}
	if time.Now().Before(f.strangers) {
		silent = append(silent, record.UnknownMembers)
	}
	return f.at, silent
}

func (f fleet) Highest(int) []record.Cursor { return []record.Cursor{{Epoch: 1, Revision: 1}} }

// healer runs a healer over a fake until the test ends, in a synctest bubble.
func healer(t *testing.T, heal func(f *fake) func(context.Context, int) (store.Healed, error),
) (*fake, *Healer, *bytes.Buffer) {
	f := &fake{
		changed: make(chan struct{}), forked: map[int]bool{}, sticky: map[int][]replica.Sticky{}, frozen: map[int]bool{},
		unhealed: map[int]uint64{},
	}
	f.heal = heal(f)
	var log bytes.Buffer
	h := New(f, f, NewMetrics(prometheus.NewRegistry()), slog.New(slog.NewTextHandler(&log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = h.Run(ctx, fleet{f})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	began = time.Now()
	synctest.Wait()
	return f, h, &log
}

// mends returns a Store.Heal that brings every lost change back.
func mends(f *fake) func(context.Context, int) (store.Healed, error) {
	return func(_ context.Context, partition int) (store.Healed, error) {
		f.set(func() { delete(f.forked, partition); delete(f.sticky, partition); delete(f.unhealed, partition) })
		return store.Healed{Lost: 3, Apps: []string{"a", "b"}}, nil
	}
}
