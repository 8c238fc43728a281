// Package healing watches for partitions in which the store has lost changes. In such a partition it makes
// the store reject new changes, and brings back the lost changes that this authority and the validators hold.
// This package is not part of the public API and may change in any release.
package healing

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/services/store"
)

const (
	// tryInterval is the least time between two attempts to heal a partition. The pause doubles, up to
	// maxTryInterval, while attempts change nothing.
	tryInterval    = 500 * time.Millisecond
	maxTryInterval = 8 * time.Second
	// gatherTimeout bounds the wait for the links of validators.
	gatherTimeout = time.Second
	// followTimeout bounds the wait until this authority's replica has reached the last change of a healing.
	followTimeout = 5 * time.Second
	// noticeLife is how long a notice stays in force if it is not repeated.
	noticeLife = 2 * time.Second
	// settleAfter applies to orphans that the store has settled and a process still holds. They are settled
	// again once the pause between attempts is at least settleAfter.
	settleAfter = 2 * time.Second
	// atOnce is how many partitions are healed at the same time at most.
	atOnce = 8
	// offerInterval is the least time between two offers of a partition's links to other authorities.
	offerInterval = 2 * time.Second
	// logInterval is the least time between two "cannot heal" log lines of a partition.
	logInterval = 30 * time.Second
)

// Replica is the authority's own replica, as far as the healer needs it. Its methods are documented at
// replica.Replica.
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

// Fleet is the validators of the fleet, as far as the healer needs them.
type Fleet interface {
	// Links returns the signed links of a partition that validators hold. It returns when the validators have
	// answered, or when ctx ends.
	Links(ctx context.Context, partition int) [][]byte
	// Offer gives links of a partition to the other authorities, and Offered returns what they have given.
	Offer(ctx context.Context, partition int, links [][]byte)
	Offered(partition int) [][]byte
	// Settled notes that the store has some changes of a partition, or has settled them.
	Settled(partition int, tags map[record.Tag]bool)
	// Highest returns the cursors of a partition that this authority and the validators have seen last.
	Highest(partition int) []record.Cursor
	// Present returns the cursors of a partition at the validators whose lease runs. silent names those of
	// them whose latest report is from before since.
	Present(partition int, since time.Time) (at []record.Cursor, silent []string)
	// Orphans returns the tags of the orphans of a partition at validators whose cursor is in epoch or in a
	// later one.
	Orphans(partition int, epoch uint64) []record.Tag
}

// Store is the store, as far as the healer needs it.
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
	// noticed is when the latest notice came; zero for none. next is the earliest time of the next attempt.
	// pause is the pause before it; 0 before the first attempt and after a success.
	noticed, next time.Time
	pause         time.Duration
	// epoch is the epoch of this authority's replica at the latest check that found something to heal.
	epoch uint64
	// begun is the unhealed epoch of an operator for which the healer waits; 0 for none. seen is when the
	// healer first saw it. told is an operator's epoch that the store has reported and this authority's
	// replica has not reached; 0 for none.
	begun, told uint64
	seen        time.Time
	// asks is the pause before the healer asks the validators again for missing links.
	asks time.Duration
	// logged is when the latest "cannot heal" line was logged, offered when links were offered last.
	logged, offered time.Time
}

// New returns a healer.
func New(r Replica, s Store, metrics *Metrics, log *slog.Logger) *Healer {
	return &Healer{
		replica: r, store: s, metrics: metrics, log: log,
		wake: make(chan struct{}, 1), slots: make(chan struct{}, atOnce), partitions: make([]state, r.Codec().Partitions()),
	}
}

// Notice informs the healer that a validator holds changes of a partition that the store may have lost. It
// does not block.
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
			// Cursors change all the time. A fork can wait for some milliseconds.
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

// check starts to heal the partitions that need it, and lets changes go on in the ones that do not. It
// returns the time until the next check.
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
			// Another epoch has begun, so the results of earlier attempts do not count.
			s.epoch, s.pause, s.next = at, 0, time.Time{}
		}
		// Once an attempt has changed nothing, a repeated notice alone stops no changes.
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

// needs reports whether a partition has something to heal. The caller holds the mutex.
func (h *Healer) needs(partition int, now time.Time) bool {
	noticed := h.partitions[partition].noticed
	return !noticed.IsZero() && now.Sub(noticed) < noticeLife || h.denied(partition)
}

// denied reports whether the store is known to lack something that this authority has seen. An operator's
// epoch that is not healed counts too, since the store may then lack changes.
func (h *Healer) denied(partition int) bool {
	if _, unhealed := h.replica.Unhealed(partition); unhealed {
		return true
	}
	return h.replica.Forked(partition) || len(h.replica.Sticky(partition)) > 0
}

// freeze makes the store reject changes of a partition. The caller holds the mutex.
func (h *Healer) freeze(partition int) {
	h.partitions[partition].frozen = true
	h.store.Freeze(partition, true)
	h.metrics.frozen.Inc()
	h.log.Warn("the store may have lost changes of a partition; changes there are refused until it is healed", "partition",
		partition)
}

// thaw lets the store accept changes of a partition again. The caller holds the mutex.
func (h *Healer) thaw(partition int) {
	h.partitions[partition].frozen = false
	h.store.Freeze(partition, false)
	h.metrics.frozen.Dec()
	h.log.Info("the partition is whole; changes go on", "partition", partition)
}

// heal makes one attempt to heal a partition.
func (h *Healer) heal(ctx context.Context, partition int) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return
	}
	began := time.Now()
	healed, links, err := h.try(ctx, partition)
	if err == nil {
		// The store has all supplied changes now, or has settled them.
		settled := h.tags(partition, links)
		h.fleet.Settled(partition, settled)
		if healed.Nothing {
			err = h.settle(ctx, partition, settled)
		}
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
		// The cause of the notice is healed. If a validator still holds lost changes, another notice comes.
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

// try heals a partition from the links that the validators and this authority hold. It returns these links.
func (h *Healer) try(ctx context.Context, partition int) (store.Healed, [][]byte, error) {
	gathering, cancel := context.WithTimeout(ctx, gatherTimeout)
	defer cancel()
	// Read the highest cursors before the links. Cursors that appear later need not be among the links: Heal
	// finds them in the store.
	highest := h.fleet.Highest(partition)
	waited, at, present := h.present(partition)
	if !present {
		return store.Healed{}, nil, errAwaiting
	}
	own := append(h.fleet.Links(gathering, partition), h.replica.Links(partition)...)
	links := append(slices.Clip(own), h.fleet.Offered(partition)...)
	if !h.supplied(partition, at, links) {
		h.offer(ctx, partition, own)
		h.askLater(partition)
		return store.Healed{}, nil, errAwaiting
	}
	healed, err := h.store.Heal(ctx, partition, waited, links, h.replica.Sticky(partition), highest)
	if errors.Is(err, store.ErrIncomplete) {
		h.offer(ctx, partition, own)
	}
	if err == nil && !healed.Nothing {
		following, cancel := context.WithTimeout(ctx, followTimeout)
		defer cancel()
		_ = h.replica.Reach(following, partition, healed.End)
	}
	return healed, links, err
}

// tags returns the tags of the links that verify.
func (h *Healer) tags(partition int, links [][]byte) map[record.Tag]bool {
	tags := map[record.Tag]bool{}
	for c := range h.previous(partition, links) {
		tags[c.Tag] = true
	}
	return tags
}

// offer gives links that do not suffice to the other authorities. Each authority asks only the validators
// that report to it, so each may have gathered a part of what a healing needs.
func (h *Healer) offer(ctx context.Context, partition int, links [][]byte) {
	h.mu.Lock()
	s := &h.partitions[partition]
	early := time.Since(s.offered) < offerInterval
	if !early {
		s.offered = time.Now()
	}
	h.mu.Unlock()
	if !early {
		h.fleet.Offer(ctx, partition, links)
	}
}

// settle has the store settle orphans again. It does so when a process still holds orphans after attempts
// that had nothing to heal for a while. It settles only orphans whose tags are in supplied: their links were
// used in this attempt. A change whose link did not arrive in time may still be lost.
func (h *Healer) settle(ctx context.Context, partition int, supplied map[record.Tag]bool) error {
	h.mu.Lock()
	early := h.partitions[partition].pause < settleAfter
	h.mu.Unlock()
	if early {
		return nil
	}
	// The fleet calls Notice while it holds its own mutex. So the healer must not call the fleet while it
	// holds its mutex.
	tags := slices.DeleteFunc(h.unsettled(partition), func(tag record.Tag) bool { return !supplied[tag] })
	if len(tags) == 0 {
		return nil
	}
	return h.store.Settle(ctx, partition, tags)
}

// unsettled returns the orphans of this authority, and of validators in the store's epoch or a later one.
// Such validators do not know that the orphans were settled.
func (h *Healer) unsettled(partition int) []record.Tag {
	tags := h.fleet.Orphans(partition, h.replica.Cursors()[partition].Epoch)
	for _, tag := range h.replica.Orphans(partition) {
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags
}
