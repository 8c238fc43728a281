// Package healing watches for partitions in which the store has lost changes. It stops changes there, and has
// the store bring back what this authority and the validators still hold. This package is not part of the
// public API and may change in any release.
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
	// tryInterval is the least time between two tries on one partition. It doubles, up to maxTryInterval,
	// while tries change nothing.
	tryInterval    = 500 * time.Millisecond
	maxTryInterval = 8 * time.Second
	// gatherTimeout bounds the wait for the links of validators.
	gatherTimeout = time.Second
	// followTimeout bounds the wait until this authority's replica has reached the end of a healing.
	followTimeout = 5 * time.Second
	// noticeLife is how long a notice counts unless it is repeated.
	noticeLife = 2 * time.Second
	// settleAfter is the pause between tries from which on orphans that the store has settled already are
	// settled again.
	settleAfter = 2 * time.Second
	// atOnce is how many partitions are healed at the same time.
	atOnce = 8
	// logInterval is the least time between two "cannot heal" log lines of a partition.
	logInterval = 30 * time.Second
)

// Replica is what the healer needs of the authority's own replica.
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

// Fleet is what the healer needs of the validators.
type Fleet interface {
	// Links returns the signed links of a partition that validators hold. It returns when they have answered,
	// or ctx ends.
	Links(ctx context.Context, partition int) [][]byte
	// Highest returns the furthest cursors of a partition that this authority or a validator has seen.
	Highest(partition int) []record.Cursor
	// Present returns the cursors of a partition of the validators whose lease runs. silent has the names of
	// those that have not reported since a time.
	Present(partition int, since time.Time) (at []record.Cursor, silent []string)
	// Orphans returns the tags of the orphans of validators that are in an epoch of a partition, or in a
	// later one.
	Orphans(partition int, epoch uint64) []record.Tag
}

// Store is what brings changes back.
type Store interface {
	Freeze(partition int, frozen bool)
	Heal(ctx context.Context, partition int, waited uint64, candidates [][]byte, sticky []replica.Sticky,
		highest []record.Cursor) (store.Healed, error)
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
	slots   chan struct{} // one for each partition that is being healed

	mu         sync.Mutex
	partitions []state
}

// state is what the healer knows of a partition.
type state struct {
	busy, frozen bool
	// noticed is when the latest notice came, zero for never. next is the time of the next try at the
	// earliest, pause the pause before it.
	noticed, next time.Time
	pause         time.Duration
	// epoch is the epoch of this authority at the latest try.
	epoch uint64
	// begun is an unhealed epoch of an operator, 0 for none; seen is when the healer first saw it. told is
	// such an epoch that the store has reported and this authority's replica has not reached, 0 for none.
	begun, told uint64
	seen        time.Time
	// asks is the pause before the healer asks again for links that nobody has sent.
	asks time.Duration
	// logged is when the latest "cannot heal" line was logged.
	logged time.Time
}

// New returns a healer.
func New(r Replica, s Store, metrics *Metrics, log *slog.Logger) *Healer {
	return &Healer{
		replica: r, store: s, metrics: metrics, log: log,
		wake: make(chan struct{}, 1), slots: make(chan struct{}, atOnce), partitions: make([]state, r.Codec().Partitions()),
	}
}

// Notice reports that a validator knows changes of a partition that the store may have lost. It does not
// block.
func (h *Healer) Notice(partition int) {
	h.mu.Lock()
	h.partitions[partition].noticed = time.Now()
	h.mu.Unlock()
	h.wakeUp()
}

// wakeUp makes Run check the partitions now.
func (h *Healer) wakeUp() {
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
		next := h.check(ctx, &running)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			// Cursors move all the time, and a fork can wait for some milliseconds.
			next = min(next, checkInterval)
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

// checkInterval is the pause after a change of the replica before the partitions are checked.
const checkInterval = 20 * time.Millisecond

// check starts to heal the partitions that need it, and returns the time until the next check.
func (h *Healer) check(ctx context.Context, running *sync.WaitGroup) time.Duration {
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
			// Another epoch has begun, so earlier tries prove nothing.
			s.epoch, s.pause, s.next = at, 0, time.Time{}
		}
		// A notice that earlier tries could do nothing about stops no changes.
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

// denied tells whether the store lacks something that this authority itself holds, or may lack something
// because an operator began its epoch.
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
	h.log.Warn("the store may have lost changes of a partition; changes there are refused until it is healed", "partition",
		partition)
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
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
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
		h.wakeUp()
		return
	case errors.Is(err, errAwaiting):
		s.next = began.Add(max(s.asks, awaitInterval))
		h.wakeUp()
		return
	case err == nil && !healed.Nothing:
		// The cause of the notice is healed. If a validator still sees a loss, it causes another notice.
		s.noticed, s.pause = time.Time{}, 0
	default:
		s.pause = min(max(2*s.pause, tryInterval), maxTryInterval)
	}
	s.next = began.Add(max(s.pause, tryInterval))
	h.logTry(partition, s, healed, err, time.Since(began))
	if s.frozen && err == nil && !h.denied(partition) {
		h.thaw(partition)
	}
	h.wakeUp()
}

// try heals a partition from everything that is known of it. It returns the links that it used.
func (h *Healer) try(ctx context.Context, partition int) (store.Healed, [][]byte, error) {
	gathering, cancel := context.WithTimeout(ctx, gatherTimeout)
	defer cancel()
	// Later cursors need not be among the links: Heal finds them in the store.
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

// settle has the store settle orphans once more. It does so after tries that had nothing to do for a while,
// when a holder still has orphans. It settles only the orphans whose links were used: a change whose link its
// holder could not send in time may still be lost.
func (h *Healer) settle(ctx context.Context, partition int, links [][]byte) error {
	h.mu.Lock()
	early := h.partitions[partition].pause < settleAfter
	h.mu.Unlock()
	if early {
		return nil
	}
	// The fleet calls Notice while it holds its mutex, so it must not be called under the mutex here.
	seen := map[record.Tag]bool{}
	for c := range h.previous(partition, links) {
		seen[c.Tag] = true
	}
	tags := slices.DeleteFunc(h.unsettled(partition), func(tag record.Tag) bool { return !seen[tag] })
	if len(tags) == 0 {
		return nil
	}
	return h.store.Settle(ctx, partition, tags)
}

// unsettled returns the orphans of this authority, and of validators in the store's epoch. Those validators
// do not know that the orphans were settled.
func (h *Healer) unsettled(partition int) []record.Tag {
	tags := h.fleet.Orphans(partition, h.replica.Cursors()[partition].Epoch)
	for _, tag := range h.replica.Orphans(partition) {
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags
}

// logTry logs and counts the result of a try. The caller holds the mutex.
func (h *Healer) logTry(partition int, s *state, healed store.Healed, err error, took time.Duration) {
	switch {
	case err == nil && !healed.Nothing && healed.Lost == 0 && len(healed.Apps) == 0:
		h.log.Info("the store was restored or adopted, and the fleet knows no change beyond it; changes go on",
			"partition", partition, "epoch", healed.Start.Epoch)
	case err == nil && !healed.Nothing:
		h.metrics.heals.Inc()
		h.metrics.changes.Add(float64(healed.Lost))
		h.metrics.apps.Add(float64(len(healed.Apps)))
		s.logged = time.Time{}
		h.log.Warn("the store had lost changes of a partition; they are brought back", "partition", partition,
			"changes", healed.Lost, "apps", healed.Apps, "epoch", healed.Start.Epoch, "took", took.Round(time.Millisecond))
		for app, conflicts := range healed.Conflicts {
			// Only the audit trail has the values.
			var what []string
			for _, c := range conflicts {
				what = append(what, strings.TrimSpace(c.TokenID+" "+c.Field))
			}
			h.log.Warn("two histories of an app have changed the same value; the one that denies more stays, the other is given up",
				"partition", partition, "app", app, "given_up", what)
		}
		if len(healed.GivenUp) > 0 {
			h.log.Error("no process holds some changes of earlier epochs any more; they are given up",
				"partition", partition, "cursors", healed.GivenUp)
		}
	case err != nil:
		if errors.Is(err, store.ErrIncomplete) {
			h.metrics.incomplete.Inc()
		} else {
			h.metrics.failures.Inc()
		}
		if time.Since(s.logged) < logInterval {
			return
		}
		s.logged = time.Now()
		if errors.Is(err, store.ErrIncomplete) {
			h.log.Error("the store has lost changes of a partition, and neither this authority nor a validator that reports has"+
				" them; changes there are refused. A validator that has them heals the partition when it reports again; forget one that"+
				" will not come back (countersign fleet forget). If no validator has them, or only the floor file names them, restore a"+
				" backup, or adopt the store as it is (countersign store adopt; docs/operations.md)",
				"partition", partition, "error", err)
			return
		}
		h.log.Error("the store could not be healed; trying again", "partition", partition, "error", err)
	}
}
