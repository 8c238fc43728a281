package replica_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/table"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	events   policy.Scope = 1
	sessions policy.Scope = 2

	// latency is how long a read takes in each direction, as between machines of one data centre.
	latency = 100 * time.Microsecond
	// longestPoll is the most time between two polls: 250 ms and a fifth, and latency.
	longestPoll = 301 * time.Millisecond
	// enough is time for everything that happens by itself, pauses after failures included.
	enough = 10 * time.Second
)

// world is a store and a replica of it, in a bubble of fake time.
type world struct {
	*testing.T
	store *storetest.Store
	// source is what the replica reads; usually the store.
	source replica.Source
	r      *replica.Replica
	log    *logbook
	stop   func()
	// clock is the replica's wall clock; nil is the bubble's.
	clock replica.WallClock
	// paced makes loads pause after every step.
	paced bool
}

// simulate runs a test in a bubble, with a store and no replica yet.
func simulate(t *testing.T, partitions int, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, store: storetest.New(t, partitions), log: &logbook{}, stop: func() {}}
		w.source = w.store
		w.faults(storetest.Faults{})
		defer func() { w.stop() }()
		test(w)
	})
}

// faults sets the store's faults. The latency is never zero.
func (w *world) faults(f storetest.Faults) {
	if f.Latency == nil {
		f.Latency = func() time.Duration { return latency }
	}
	w.store.Fail(f)
}

// start stops the running replica, if any, and starts an empty one.
func (w *world) start() {
	w.prepare()
	w.run()
}

// prepare replaces the replica with one that does not run yet.
func (w *world) prepare() {
	w.stop()
	w.r = replica.New(w.source, w.store.Codec(), slog.New(w.log))
	w.r.SetWallClock(w.clock)
	w.r.Pace(w.paced)
}

// run starts the replica.
func (w *world) run() {
	r := w.r
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("Run ended with %v", err)
		}
	})
}

// startLoaded starts a replica and waits until it is loaded and subscribed.
func (w *world) startLoaded() {
	w.Helper()
	w.start()
	w.mustLoad()
	w.pass(2 * longestPoll)
}

func (w *world) mustLoad() {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), enough)
	defer cancel()
	if err := w.r.WaitLoaded(ctx); err != nil {
		w.Fatalf("not loaded after %v: %v\n%s", enough, err, w.log)
	}
}

// pass lets fake time pass, and waits for everything that is due by then.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// commit changes an app and waits for all immediate effects. No time passes.
func (w *world) commit(app string, changes ...storetest.Change) storetest.Commit {
	made := w.store.Commit(app, changes...)
	synctest.Wait()
	return made
}

func (w *world) entry(app string) *table.Entry { return w.r.Table().Find(app).Entry() }

// tokens returns the states of an app's tokens by their ids; nil for an app without a policy.
func (w *world) tokens(app string) map[string]policy.State {
	entry := w.entry(app)
	if entry == nil || entry.Policy == nil {
		return nil
	}
	states := map[string]policy.State{}
	for _, token := range entry.Policy.Tokens() {
		states[token.ID] = token.State
	}
	return states
}

func (w *world) age(partition int) time.Duration { return w.r.Age(partition, time.Now()) }

// difference describes how a partition differs from the store; empty when it does not.
func (w *world) difference(partition int) string {
	cursor, sum, loaded := w.r.State(partition)
	head := w.store.Head(partition)
	rows := w.r.Table().Partition(partition)
	switch {
	case !loaded || rows == nil:
		return "it is not loaded"
	case cursor != head.Cursor:
		return fmt.Sprintf("it is at %v, want %v", cursor, head.Cursor)
	case sum != w.store.Sum(partition):
		return "its sum is another"
	}
	truth := w.store.Truth(partition)
	if apps := maps.Collect(rows.All()); len(apps) != len(truth) {
		return fmt.Sprintf("it has %d apps, want %d", len(apps), len(truth))
	}
	for app, document := range truth {
		view := w.r.Table().Find(app)
		want, err := document.Policy()
		if err != nil {
			return err.Error()
		}
		if view.Entry() == nil || view.Entry().Revision != document.Revision || view.Revision != head.Revision {
			return fmt.Sprintf("%s: revision %+v, want %d of %d", app, view, document.Revision, head.Revision)
		}
		// A token that was seen revoked stays revoked, whatever the store says.
		if !samePolicy(view.Entry().StoredPolicy(), want) {
			return fmt.Sprintf("%s: policy %+v, want %+v", app, view.Entry().StoredPolicy(), want)
		}
	}
	return ""
}

// samePolicy reports whether two policies decide the same and list their tokens in the same order. Either may
// be nil.
func samePolicy(a, b *policy.Policy) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Enforcement() == b.Enforcement() && a.Deleted() == b.Deleted() && slices.Equal(a.Tokens(), b.Tokens())
}

// mustEqualStore fails the test when the replica differs from the store.
func (w *world) mustEqualStore() {
	w.Helper()
	for partition := range w.store.Codec().Partitions() {
		if why := w.difference(partition); why != "" {
			w.Fatalf("partition %d: %s\n%s", partition, why, w.log)
		}
	}
}

// mustBeFresh fails the test when a partition was not complete at one of the latest polls.
func (w *world) mustBeFresh(partition int) {
	w.Helper()
	if age := w.age(partition); age > 2*longestPoll {
		w.Errorf("partition %d is %v old\n%s", partition, age, w.log)
	}
}

// mustGrowOld fails the test unless a partition ages and keeps an app's policy.
func (w *world) mustGrowOld(app string) {
	w.Helper()
	partition := w.store.Codec().PartitionOf(app)
	w.pass(4 * latency) // a good answer may be on its way
	was, before, began := w.age(partition), w.r.Table().Find(app).Row, time.Now()
	w.pass(enough)
	if grown := w.age(partition) - was; grown != time.Since(began) {
		w.Errorf("in %v the age went from %v to %v\n%s", time.Since(began), was, w.age(partition), w.log)
	}
	if after := w.r.Table().Find(app).Row; after != before {
		w.Errorf("the entry of %s became %+v, was %+v", app, after.Entry(), before.Entry())
	}
}

// logbook collects what a replica logs.
type logbook struct {
	mu    sync.Mutex
	lines []string
}

func (b *logbook) Enabled(context.Context, slog.Level) bool { return true }
func (b *logbook) WithAttrs([]slog.Attr) slog.Handler       { return b }
func (b *logbook) WithGroup(string) slog.Handler            { return b }

func (b *logbook) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
	return nil
}

// count returns how many lines hold a text.
func (b *logbook) count(text string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, line := range b.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (b *logbook) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = nil
}

// String returns the last lines.
func (b *logbook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lines[max(len(b.lines)-30, 0):], "\n")
}

// position returns the replica's cursor in a partition.
func (w *world) position(partition int) record.Cursor {
	cursor, _, _ := w.r.State(partition)
	return cursor
}

// state returns one of two states in turn: 0 is ACTIVE-1, 1 is DISABLED-1.
func state(i int) policy.State { return policy.State(i % 2) }
