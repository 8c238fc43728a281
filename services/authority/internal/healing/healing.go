// Package healing watches for partitions of which the store has lost changes, stops changes there, and has
// the store bring back what this authority and the validators still know.
package healing

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/services/store"
)

const (
	// tryInterval is the least time between two tries on one partition; it doubles, up to maxTryInterval,
	// while they change nothing.
	tryInterval    = 500 * time.Millisecond
	maxTryInterval = 8 * time.Second
	// gatherTimeout bounds the wait for the links of validators.
	gatherTimeout = time.Second
	// followTimeout bounds the wait until this authority is where the healing has led.
	followTimeout = 5 * time.Second
	// noticeLife is how long a notice counts that is not given again.
	noticeLife = 2 * time.Second
	// settleAfter is the pause between tries from which on changes that somebody holds on to, and that the
	// store says are dealt with, are settled again.
	settleAfter = 2 * time.Second
	// atOnce is how many partitions are healed at a time.
	atOnce = 8
	// sayInterval is how often is said of a partition that it cannot be healed.
	sayInterval = 30 * time.Second
)

// Replica is what is asked of the authority's own replica.
type Replica interface {
	Codec() *record.Codec
	Changed() <-chan struct{}
	Forked(partition int) bool
	Unhealed(partition int) (epoch uint64, unhealed bool)
	Reached(partition int, target record.Cursor) (bool, error)
	Sticky(partition int) []replica.Sticky
	Links(partition int) [][]byte
	Orphans(partition int) []record.Tag
	Cursors() []record.Cursor
	Reach(ctx context.Context, partition int, target record.Cursor) error
}

// Fleet is what is asked of the validators.
type Fleet interface {
	// Links returns signed links that validators hold of a partition, when they have answered or ctx ends.
	Links(ctx context.Context, partition int) [][]byte
	// Highest returns the furthest cursors of a partition that anybody has seen.
	Highest(partition int) []record.Cursor
	// Present returns where the validators are in a partition whose leases have not ended, and the names of
	// those of which no report has arrived since a time.
	Present(partition int, since time.Time) (at []record.Cursor, silent []string)
	// Orphans returns the tags of changes that validators in an epoch of a partition, or a later one, hold
	// on to.
	Orphans(partition int, epoch uint64) []record.Tag
}

// Store is what brings changes back.
type Store interface {
	Freeze(partition int, frozen bool)
	Heal(ctx context.Context, partition int, waited uint64, candidates [][]byte, sticky []replica.Sticky, highest []record.Cursor) (store.Healed, error)
	Settle(ctx context.Context, partition int, tags []record.Tag) error
}

// Healer heals a store. Make one with New, start it with Run. Its methods are safe for concurrent use.
type Healer struct {
	replica Replica
	fleet   Fleet
	store   Store
	metrics *Metrics
	log     *slog.Logger
	wake    chan struct{}
	places  chan struct{} // taken by those that heal

	mu         sync.Mutex
	partitions []state
}

// state is what is known of a partition.
type state struct {
	busy, frozen bool
	// noticed is when somebody has last given notice of it, zero for never; next is when it may be tried
	// again, after a pause.
	noticed, next time.Time
	pause         time.Duration
	// epoch is the one that this authority was in when it was last tried.
	epoch uint64
	// begun is the epoch of an operator that is not healed yet, 0 for none, seen when it was first seen.
	// Told is such an epoch that the store knows of and this authority's replica has not come to, 0 for
	// none.
	begun, told uint64
	seen        time.Time
	// asks is the pause before the validators are asked again for what nobody has supplied.
	asks time.Duration
	// said is when was last said that it cannot be healed.
	said time.Time
}

// New returns a healer.
func New(r Replica, s Store, metrics *Metrics, log *slog.Logger) *Healer {
	return &Healer{
		replica: r, store: s, metrics: metrics, log: log,
		wake: make(chan struct{}, 1), places: make(chan struct{}, atOnce), partitions: make([]state, r.Codec().Partitions()),
	}
}

// Notice says that a validator knows of changes of a partition that the store may have lost. It does not
// wait.
func (h *Healer) Notice(partition int) {
	h.mu.Lock()
	h.partitions[partition].noticed = time.Now()
	h.mu.Unlock()
	h.awaken()
}

// awaken has the partitions looked at.
func (h *Healer) awaken() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Run heals until ctx ends, which is not an error. It may be called once.
func (h *Healer) Run(ctx context.Context, fleet Fleet) error {
	h.fleet = fleet
	var running sync.WaitGroup
	defer running.Wait()
	for {
		changed := h.replica.Changed()
		next := h.look(ctx, &running)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			// Cursors move all the time, and what makes a fork known can wait for some milliseconds.
			next = min(next, lookInterval)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(next):
			}
		case <-h.wake:
		case <-time.After(next):
		}
	}
}

// lookInterval is the pause before the partitions are looked at again when something has changed.
const lookInterval = 20 * time.Millisecond

// look begins to heal what needs it, and returns when to look again.
func (h *Healer) look(ctx context.Context, running *sync.WaitGroup) time.Duration {
	now, soonest, epochs := time.Now(), tryInterval, h.replica.Cursors()
	h.mu.Lock()
	defer h.mu.Unlock()
	for partition := range h.partitions {
		s := &h.partitions[partition]
		if s.busy {
			continue
		}
		s.await(h.operators(partition, epochs[partition].Epoch), now)
		if !h.needs(partition, now) {
			if s.frozen {
				h.thaw(partition)
			}
			s.pause = 0
			continue
		}
		if at := epochs[partition].Epoch; at != s.epoch {
			// Another epoch has begun, so what was tried before says nothing.
			s.epoch, s.pause, s.next = at, 0, time.Time{}
		}
		// A notice to which there was nothing to do before does not hold up changes again.
		if !s.frozen && (s.pause == 0 || h.denied(partition)) {
			h.freeze(partition)
		}
		if now.Before(s.next) {
			soonest = min(soonest, s.next.Sub(now))
			continue
		}
		s.busy = true
		running.Go(func() { h.heal(ctx, partition) })
	}
	return soonest
}

// needs tells whether a partition has something to heal. The caller holds the mutex.
func (h *Healer) needs(partition int, now time.Time) bool {
	noticed := h.partitions[partition].noticed
	return !noticed.IsZero() && now.Sub(noticed) < noticeLife || h.denied(partition)
}

// denied tells whether the store is without something that this authority itself knows of, or may be: it is
// in an epoch that an operator began.
func (h *Healer) denied(partition int) bool {
	if _, unhealed := h.replica.Unhealed(partition); unhealed {
		return true
	}
	return h.replica.Forked(partition) || len(h.replica.Sticky(partition)) > 0
}

// freeze stops changes of a partition. The caller holds the mutex.
func (h *Healer) freeze(partition int) {
	h.partitions[partition].frozen = true
	h.store.Freeze(partition, true)
	h.metrics.frozen.Inc()
	h.log.Warn("the store may have lost changes of a partition; changes there are refused meanwhile", "partition", partition)
}

// thaw lets changes of a partition go on. The caller holds the mutex.
func (h *Healer) thaw(partition int) {
	h.partitions[partition].frozen = false
	h.store.Freeze(partition, false)
	h.metrics.frozen.Dec()
	h.log.Info("the partition is whole; changes go on", "partition", partition)
}

// heal tries once to heal a partition.
func (h *Healer) heal(ctx context.Context, partition int) {
	select {
	case h.places <- struct{}{}:
		defer func() { <-h.places }()
	case <-ctx.Done():
		return
	}
	began := time.Now()
	healed, links, err := h.try(ctx, partition)
	if err == nil && healed.Nothing {
		err = h.settle(ctx, partition, links)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.partitions[partition]
	s.busy = false
	if err == nil {
		s.told = 0
	}
	var notAwaited *store.NotAwaitedError
	switch {
	case ctx.Err() != nil:
		return
	case errors.As(err, &notAwaited):
		s.told = notAwaited.Epoch
		s.await(s.told, time.Now())
		s.next = began.Add(awaitInterval)
		h.awaken()
		return
	case errors.Is(err, errAwaiting):
		s.next = began.Add(max(s.asks, awaitInterval))
		h.awaken()
		return
	case err == nil && !healed.Nothing:
		// What made this known is dealt with; whoever still sees it gives notice again.
		s.noticed, s.pause = time.Time{}, 0
	default:
		s.pause = min(max(2*s.pause, tryInterval), maxTryInterval)
	}
	s.next = began.Add(max(s.pause, tryInterval))
	h.tell(partition, s, healed, err, time.Since(began))
	if s.frozen && err == nil && !h.denied(partition) {
		h.thaw(partition)
	}
	h.awaken()
}

// try heals a partition from all that is known of it, and returns the links that it did that from.
func (h *Healer) try(ctx context.Context, partition int) (store.Healed, [][]byte, error) {
	gathering, cancel := context.WithTimeout(ctx, gatherTimeout)
	defer cancel()
	// What is seen from here on is looked for in the store, not in the links.
	highest := h.fleet.Highest(partition)
	waited, at, present := h.present(partition)
	if !present {
		return store.Healed{}, nil, errAwaiting
	}
	links := append(h.fleet.Links(gathering, partition), h.replica.Links(partition)...)
	if !h.supplied(partition, at, links) {
		h.askLater(partition)
		return store.Healed{}, nil, errAwaiting
	}
	healed, err := h.store.Heal(ctx, partition, waited, links, h.replica.Sticky(partition), highest)
	if err == nil && !healed.Nothing {
		following, cancel := context.WithTimeout(ctx, followTimeout)
		defer cancel()
		_ = h.replica.Reach(following, partition, healed.End)
	}
	return healed, links, err
}

// settle has the store say again that changes are dealt with, when there has been nothing to do for them
// for a while and somebody still holds on to them. It says so only of those whose links were looked at: one
// that its holder could not supply in time may be lost yet.
func (h *Healer) settle(ctx context.Context, partition int, looked [][]byte) error {
	h.mu.Lock()
	early := h.partitions[partition].pause < settleAfter
	h.mu.Unlock()
	if early {
		return nil
	}
	// The fleet gives notice while it is locked, so it must not be asked under the mutex.
	seen := map[record.Tag]bool{}
	for c := range h.previous(partition, looked) {
		seen[c.Tag] = true
	}
	tags := slices.DeleteFunc(h.unsettled(partition), func(tag record.Tag) bool { return !seen[tag] })
	if len(tags) == 0 {
		return nil
	}
	return h.store.Settle(ctx, partition, tags)
}

// unsettled returns the changes that somebody holds on to who is in the store's epoch, and so does not know
// that they are dealt with.
func (h *Healer) unsettled(partition int) []record.Tag {
	tags := h.fleet.Orphans(partition, h.replica.Cursors()[partition].Epoch)
	for _, tag := range h.replica.Orphans(partition) {
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags
}

// tell says what a try has come to. The caller holds the mutex.
func (h *Healer) tell(partition int, s *state, healed store.Healed, err error, took time.Duration) {
	switch {
	case err == nil && !healed.Nothing && healed.Lost == 0 && len(healed.Apps) == 0:
		h.log.Info("the store was restored, or taken as it is, and the fleet knows nothing beyond that; changes go on",
			"partition", partition, "epoch", healed.Start.Epoch)
	case err == nil && !healed.Nothing:
		h.metrics.heals.Inc()
		h.metrics.changes.Add(float64(healed.Lost))
		h.metrics.apps.Add(float64(len(healed.Apps)))
		s.said = time.Time{}
		h.log.Warn("the store had lost changes of a partition; they are brought back", "partition", partition,
			"changes", healed.Lost, "apps", healed.Apps, "epoch", healed.Start.Epoch, "took", took.Round(time.Millisecond))
		for app, conflicts := range healed.Conflicts {
			// The audit trail has the values.
			var what []string
			for _, c := range conflicts {
				what = append(what, strings.TrimSpace(c.TokenID+" "+c.Field))
			}
			h.log.Warn("two pasts of an app had changed the same; the side that denies more stays, and the other is given up",
				"partition", partition, "app", app, "given_up", what)
		}
		if len(healed.GivenUp) > 0 {
			h.log.Error("what was seen of earlier epochs is nowhere any more, and is given up", "partition", partition, "cursors", healed.GivenUp)
		}
	case err != nil:
		if errors.Is(err, store.ErrIncomplete) {
			h.metrics.incomplete.Inc()
		} else {
			h.metrics.failures.Inc()
		}
		if time.Since(s.said) < sayInterval {
			return
		}
		s.said = time.Now()
		if errors.Is(err, store.ErrIncomplete) {
			h.log.Error("the store has lost changes of a partition that neither this authority nor a validator can supply, so changes there are refused."+
				" A validator that has them and does not report now heals it when it is back; one that will not come back can be forgotten"+
				" (countersign fleet forget); otherwise, and when what is missing is known from the floor file alone, restore a backup or take the store as it is"+
				" (countersign store adopt; docs/operations.md)",
				"partition", partition, "error", err)
			return
		}
		h.log.Error("the store could not be healed; trying again", "partition", partition, "error", err)
	}
}
