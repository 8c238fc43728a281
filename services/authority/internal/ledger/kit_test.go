package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/services/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const partitions = 2

// partitionOf returns the partition of an app.
func partitionOf(appID string) int {
	hash := policy.HashApp(appID)
	return hash.Partition(partitions)
}

// appIn returns an app of a partition.
func appIn(partition, n int) string {
	for i := 0; ; i++ {
		if id := fmt.Sprintf("app-%d", i); partitionOf(id) == partition {
			if n--; n < 0 {
				return id
			}
		}
	}
}

// tokens are the tokens of every app whose id does not begin with "no". They are not known for apps whose id
// begins with "dark".
type tokens map[string]bool

func (t tokens) Tokens(appID string) (map[string]bool, bool, error) {
	switch {
	case appID == "down":
		return nil, false, errNotLoaded
	case len(appID) > 2 && appID[:2] == "no":
		return nil, false, nil
	case strings.HasPrefix(appID, "dark"):
		return nil, true, nil
	}
	return t, true, nil
}

func open(storage Storage, now func() time.Time) *Ledger {
	return New(Config{
		Storage: storage, Partitions: partitions, Apps: tokens{"tok_aaaaaaaaaaaaaaaa": true, "tok_bbbbbbbbbbbbbbbb": true},
		KnownScope: func(s policy.Scope) bool { return s >= 1 && s <= 4 },
		Metrics:    NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler), Now: now,
	})
}

// run runs a ledger until the returned function is called.
func run(l *Ledger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = l.Run(ctx) })
	return func() { cancel(); running.Wait() }
}

// memory is the model of Redis: it applies a write if nothing that was read has changed.
type memory struct {
	mu    sync.Mutex
	seen  map[string]uint64 // by partition and instance
	apps  map[string]store.AppCounts
	since map[int]time.Time // by partition; of the coverage: -1
	cover map[string]string
	past  []past
	// trouble is called before and after each call, outside the mutex. An error is the reply.
	trouble func(when string) error
}

// past is an earlier state.
type past struct {
	at    time.Time
	seen  map[string]uint64
	apps  map[string]store.AppCounts
	since map[int]time.Time
}

func newMemory() *memory {
	m := &memory{
		seen: map[string]uint64{}, apps: map[string]store.AppCounts{}, since: map[int]time.Time{}, cover: map[string]string{},
	}
	m.trouble = func(string) error { return nil }
	m.keep()
	return m
}

func (m *memory) keep() {
	m.past = append(m.past, past{time.Now(), maps.Clone(m.seen), maps.Clone(m.apps), maps.Clone(m.since)})
}

// failover goes back to the state at a time.
func (m *memory) failover(to time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := len(m.past) - 1
	for i > 0 && m.past[i].at.After(to) {
		i--
	}
	m.seen, m.apps, m.since = maps.Clone(m.past[i].seen), maps.Clone(m.past[i].apps), maps.Clone(m.past[i].since)
	m.keep()
}

func seenKey(partition int, instance string) string { return fmt.Sprint(partition, " ", instance) }

func (m *memory) Look(_ context.Context, partition int, instances, apps []string) (
	last []store.LastBatch, counts []store.AppCounts, err error,
) {
	if err := m.trouble("before look"); err != nil {
		return nil, nil, err
	}
	m.mu.Lock()
	for _, id := range instances {
		last = append(last, store.LastBatch{InstanceID: id, Number: m.seen[seenKey(partition, id)]})
	}
	for _, id := range apps {
		counts = append(counts, store.AppCounts{AppID: id, Version: m.apps[id].Version, Running: m.apps[id].Running})
	}
	m.mu.Unlock()
	return last, counts, m.trouble("after look")
}

func (m *memory) Read(_ context.Context, partition int, apps []string) (
	counts []store.AppCounts, since time.Time, err error,
) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range apps {
		one := m.apps[id]
		one.AppID = id
		counts = append(counts, one)
	}
	return counts, m.since[partition], nil
}

func (m *memory) Write(_ context.Context, w store.CountsWrite) (bool, error) {
	if err := m.trouble("before write"); err != nil {
		return false, err
	}
	done := m.write(w)
	return done, m.trouble("after write")
}

func (m *memory) write(w store.CountsWrite) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, before := range w.Before {
		if m.seen[seenKey(w.Partition, before.InstanceID)] != before.Number {
			return false
		}
	}
	for _, one := range w.Apps {
		if m.apps[one.AppID].Version != one.Version {
			return false
		}
	}
	if w.Lost || m.since[w.Partition].IsZero() {
		m.since[w.Partition] = w.Now
	}
	for _, after := range w.After {
		m.seen[seenKey(w.Partition, after.InstanceID)] = after.Number
	}
	for _, one := range w.Apps {
		held := m.apps[one.AppID]
		held.Version = w.Version
		for _, value := range []struct {
			to   *[]byte
			next []byte
		}{{&held.Running, one.Running}, {&held.Hours, one.Hours}, {&held.Days, one.Days}} {
			if value.next != nil {
				*value.to = value.next
			}
		}
		m.apps[one.AppID] = held
	}
	m.keep()
	return true
}

func (m *memory) Begin(_ context.Context, partitions int, since time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := -1; i < partitions; i++ {
		if m.since[i].IsZero() {
			m.since[i] = since
		}
	}
	m.keep()
	return nil
}

func (m *memory) Keep(context.Context, int, []string) error { return nil }

func (m *memory) Cover(_ context.Context, instance string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if held := m.cover[instance]; held == "" || held[0] <= value[0] {
		m.cover[instance] = string(value)
	}
	return nil
}

func (m *memory) Covered(context.Context) (map[string]string, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.cover), m.since[-1], nil
}

func (m *memory) Uncover(_ context.Context, instances []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range instances {
		delete(m.cover, id)
		if id == store.CoverageSince {
			delete(m.since, -1)
		}
	}
	return nil
}

var errLost = errors.New("the reply was lost")
