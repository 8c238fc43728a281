package model

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/services/authority/internal/healing"
)

// heal runs an authority's healer, with the members that can be reached as its fleet.
func (w *world) heal(ctx context.Context, m *member) {
	fleet := &fleet{w: w, own: m}
	healer := healing.New(m.replica, m.store, healing.NewMetrics(prometheus.NewRegistry()),
		slog.New(w.log).With("member", m.name))
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { _ = healer.Run(ctx, fleet) })
	for sleep(ctx, 250*time.Millisecond) {
		for p := range partitions {
			for _, other := range fleet.members() {
				reached, cancel := context.WithTimeout(ctx, time.Second)
				at := other.replica.Cursors()[p]
				if len(other.replica.Orphans(p)) > 0 || at.Epoch > 0 && m.replica.Reach(reached, p, at) != nil {
					healer.Notice(p)
				}
				cancel()
			}
		}
	}
}

// fleet is the members that can be reached, as the authority own sees them.
type fleet struct {
	w   *world
	own *member
}

func (f *fleet) members() []*member {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.w.members), func(m *member) bool { return m.lost > 50 })
}

// Links implements healing.Fleet. An authority asks only the validators that report to it.
func (f *fleet) Links(_ context.Context, partition int) (links [][]byte) {
	for _, m := range f.members() {
		if f.w.reportsTo(m) == f.own {
			links = append(links, m.replica.Links(partition)...)
		}
	}
	return links
}

// Offered implements healing.Fleet.
func (f *fleet) Offered(partition int) (links [][]byte) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	for from, o := range f.w.offers {
		if from.partition == partition && from.name != f.own.name && f.own.lost <= 50 && time.Since(o.at) < offerLife {
			links = append(links, o.links...)
		}
	}
	return links
}

// Settled implements healing.Fleet.
func (f *fleet) Settled(int, map[record.Tag]bool) {}

// offerLife is how long offered links are kept.
const offerLife = 20 * time.Second

// offerer is an authority that offers links of a partition.
type offerer struct {
	name      string
	partition int
}

// offer is what an authority has offered of a partition last, and when.
type offer struct {
	links [][]byte
	at    time.Time
}

// Offer implements healing.Fleet.
func (f *fleet) Offer(_ context.Context, partition int, links [][]byte) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if f.own.lost > 50 {
		return
	}
	f.w.offers[offerer{f.own.name, partition}] = offer{slices.Clone(links), time.Now()}
}

// reportsTo returns the authority to which a validator reports: each to another one in turn. It returns nil
// for an authority.
func (w *world) reportsTo(validator *member) *member {
	w.mu.Lock()
	defer w.mu.Unlock()
	var authorities []*member
	for _, m := range w.members {
		if m.store != nil && m.lost <= 50 {
			authorities = append(authorities, m)
		}
	}
	if validator.store != nil || len(authorities) == 0 {
		return nil
	}
	return authorities[slices.Index(w.members, validator)%len(authorities)]
}

// Present implements healing.Fleet.
func (f *fleet) Present(partition int, _ time.Time) (at []record.Cursor, silent []string) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	for _, m := range f.w.members {
		switch {
		case m.lost <= 50:
			if c := m.replica.Cursors()[partition]; c.Epoch > 0 {
				at = append(at, c)
			}
		case time.Since(m.cut) < lease:
			silent = append(silent, m.name)
		}
	}
	return at, silent
}

// Highest implements healing.Fleet.
func (f *fleet) Highest(partition int) (highest []record.Cursor) {
	for _, m := range f.members() {
		highest = append(highest, m.replica.Cursors()[partition])
	}
	return highest
}

// Orphans implements healing.Fleet.
func (f *fleet) Orphans(partition int, epoch uint64) (tags []record.Tag) {
	for _, m := range f.members() {
		if m.replica.Cursors()[partition].Epoch >= epoch {
			tags = append(tags, m.replica.Orphans(partition)...)
		}
	}
	return tags
}
