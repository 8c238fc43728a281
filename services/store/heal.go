package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store/internal/merge"
)

// healTimeout bounds a healing that has no deadline. A healing reads the whole partition.
const healTimeout = 2 * time.Minute

// Healed is the result of a healing.
type Healed struct {
	// Nothing is true when nothing was written, because nothing was lost or another authority was faster.
	Nothing bool
	// Start is the start of the new epoch, End the head after it.
	Start, End record.Cursor
	// Lost counts the lost log entries that the epoch settles. Apps are the apps of lost changes and of
	// repeated revocations, also when their documents did not change.
	Lost int
	Apps []string
	// Conflicts are the values that the merge dropped, by app (see merge.GivenUp).
	Conflicts map[string][]merge.GivenUp
	// GivenUp are cursors of earlier epochs that a process has seen, that the store's history lacks, and that
	// no process has supplied.
	GivenUp []record.Cursor
	// Durability says how many Redis replicas have confirmed the new epoch.
	Durability Durability
}

// Heal brings back what a partition of the store has lost, in a new epoch above everything that was seen: the
// changes among the candidates that the store lacks, and the sticky revocations. loss.merge decides about
// apps that the store has changed since.
//
// Candidates are signed links and starts of epochs, in any order. Candidates that are damaged or that the
// store has are ignored. Highest are the furthest cursors that processes of the fleet have seen. The caller
// must have collected both before the call.
//
// Heal writes nothing when there is nothing to do, except in an operator's epoch: then it begins an epoch
// that says that the partition is healed, so that the store accepts changes again. It fails with
// ErrIncomplete, and writes nothing, when a process has seen a change of the current or a later epoch that
// neither the store nor a candidate has. Several authorities may heal at once; one of them does the work.
//
// Waited is the operator's epoch in which validators have had time to report, 0 for none. If the partition is
// in another operator's epoch that is not healed, Heal fails with a NotAwaitedError and writes nothing.
func (s *Store) Heal(ctx context.Context, partition int, waited uint64, candidates [][]byte, sticky []replica.Sticky,
	highest []record.Cursor,
) (Healed, error) {
	var healed Healed
	err := s.alone(ctx, partition, func(ctx context.Context) (done outcome, err error) {
		healed, done, err = s.heal(ctx, partition, waited, candidates, sticky, highest)
		return done, err
	})
	return healed, err
}

// NotAwaitedError says that an operator began the partition's epoch and that validators have not yet had time
// to report in it. Wait for their reports, then call Heal again.
type NotAwaitedError struct{ Epoch uint64 }

func (e *NotAwaitedError) Error() string {
	return fmt.Sprintf("an operator began epoch %d, and validators may know more: wait for their reports before it is healed",
		e.Epoch)
}

// Settle begins an epoch that settles orphans and changes nothing else. It is for processes that still hold
// orphans of an earlier epoch: the start that settled them was trimmed from the log before they read it.
// Settle does not heal an operator's epoch.
func (s *Store) Settle(ctx context.Context, partition int, tags []record.Tag) error {
	_, err := s.advance(ctx, partition, nil, countersignv1.EpochCause_EPOCH_CAUSE_HEALED, tags)
	return err
}

// Adopt accepts a partition as it is: it begins an epoch above the given cursors, and returns its start. It
// is for an operator who gives up what the store lacks, or who has restored a backup.
func (s *Store) Adopt(ctx context.Context, partition int, above []record.Cursor,
	cause countersignv1.EpochCause,
) (record.Cursor, error) {
	return s.advance(ctx, partition, above, cause, nil)
}

// advance begins an epoch without changes.
func (s *Store) advance(ctx context.Context, partition int, above []record.Cursor, cause countersignv1.EpochCause,
	settled []record.Tag,
) (record.Cursor, error) {
	var start record.Cursor
	err := s.alone(ctx, partition, func(ctx context.Context) (outcome, error) {
		from, err := s.origin(ctx, partition)
		if err != nil {
			return refused, err
		}
		top := record.Cursor{}
		switch {
		case from.head != nil:
			top = from.head.Cursor
		case len(settled) > 0:
			return refused, forked(errors.New("nothing is left of the partition"))
		}
		top = record.Highest(top, record.Highest(above...))
		if cause != countersignv1.EpochCause_EPOCH_CAUSE_HEALED && max(top.Epoch, top.Revision) >= record.MaxStart {
			return refused, fmt.Errorf("store: an epoch must begin at epoch and revision %d at most, and %s is beyond that",
				uint64(record.MaxStart), top)
		}
		top.Epoch, top.Revision = top.Epoch+1, top.Revision+1
		healed, done, err := s.begin(ctx, partition, from, epoch{top: top, cause: cause, settled: settled})
		start = healed.Start
		return done, err
	})
	return start, err
}

// alone calls f while no other change of this process to the partition runs. It calls f again after a
// conflict, and while Redis cannot be reached.
func (s *Store) alone(ctx context.Context, partition int, f func(context.Context) (outcome, error)) error {
	ctx, cancel := withTimeout(ctx, healTimeout)
	defer cancel()
	release, err := s.take(ctx, partition)
	if err != nil {
		return err
	}
	defer release()
	for {
		done := refused
		err := insist(ctx, func() (err error) {
			done, err = f(ctx)
			return err
		})
		if err != nil || done != conflict && done != superseded {
			return err
		}
		if ctx.Err() != nil {
			return unavailable(errors.Join(errors.New("other writers kept changing the partition"), ctx.Err()))
		}
	}
}

// origin is the partition's head before an epoch begins.
type origin struct {
	raw  []byte
	head *record.Head // nil when nothing is left of the partition
}

func (s *Store) origin(ctx context.Context, partition int) (origin, error) {
	raw, _, err := s.redis.Tail(ctx, partition, 0, 1)
	if err != nil || raw == nil {
		return origin{}, err
	}
	head, err := s.codec.OpenHead(partition, raw)
	return origin{raw, &head}, err
}

func (s *Store) heal(ctx context.Context, partition int, waited uint64, candidates [][]byte, sticky []replica.Sticky,
	highest []record.Cursor,
) (Healed, outcome, error) {
	entries := s.openCandidates(partition, candidates)
	from, err := s.origin(ctx, partition)
	if err != nil {
		return Healed{}, refused, err
	}
	if from.head != nil && from.head.Unhealed && from.head.Epoch != waited {
		return Healed{}, refused, &NotAwaitedError{from.head.Epoch}
	}
	known := newKnown(from.head)
	if from.head != nil {
		after := uint64(math.MaxUint64)
		for _, e := range entries {
			after = min(after, known.needs(e.Cursor))
			if e.Previous != (record.Cursor{}) {
				after = min(after, known.needs(e.Previous))
			}
		}
		for _, c := range highest {
			after = min(after, known.needs(c))
		}
		if err := s.readLog(ctx, partition, after, from.head.Revision, known.learn); err != nil {
			return Healed{}, refused, err
		}
	}
	lost, err := known.search(partition, entries, highest)
	if err != nil {
		return Healed{}, refused, err
	}
	tags := lost.tags()
	// After an operator's epoch a new epoch must say that the partition is healed, also when nothing was
	// lost.
	idle := from.head != nil && !from.head.Unhealed
	if idle && len(tags) == 0 && len(sticky) == 0 {
		return Healed{Nothing: true, GivenUp: lost.unknown}, refused, nil
	}
	documents, sum, done, err := s.documents(ctx, partition, from)
	if err != nil || done != committed {
		return Healed{}, done, err
	}
	changes := lost.merge(documents, sticky, time.Now().UnixMilli())
	if idle && len(tags) == 0 && len(changes) == 0 {
		return Healed{Nothing: true, GivenUp: lost.unknown}, refused, nil
	}
	healed, done, err := s.begin(ctx, partition, from, epoch{
		top: lost.top, last: lost.last, cause: countersignv1.EpochCause_EPOCH_CAUSE_HEALED,
		settled: lost.settling(), changes: changes, sum: sum, whole: true,
	})
	healed.Lost, healed.GivenUp = len(tags), lost.unknown
	return healed, done, err
}

// openCandidates returns the candidates that verify, without duplicates.
func (s *Store) openCandidates(partition int, raws [][]byte) []record.Entry {
	known := map[record.Cursor]bool{}
	var entries []record.Entry
	for _, raw := range raws {
		e, err := s.codec.OpenUnlabelled(partition, raw)
		if err == nil && !known[e.Cursor] {
			known[e.Cursor] = true
			entries = append(entries, e)
		}
	}
	return entries
}

var errUnproven = errors.New("the partition's documents do not add up to its head")

// documents reads all documents of a partition and proves that they add up to the head. Without an error the
// outcome is committed, which means that the documents are proven, or conflict when the head has changed.
func (s *Store) documents(ctx context.Context, partition int, from origin) (map[string]*record.Document, record.Sum,
	outcome, error,
) {
	documents := map[string]*record.Document{}
	var sum record.Sum
	if from.head == nil {
		return documents, sum, committed, nil
	}
	sum = from.head.State.EmptySum()
	var failed error
	err := s.redis.Documents(ctx, partition, func(appID string, raw []byte) {
		if s.codec.PartitionOf(appID) != partition {
			return // the head's digest does not cover it
		}
		d, err := s.codec.OpenDocument(appID, raw)
		if err != nil {
			failed = errors.Join(failed, err)
			return
		}
		documents[appID] = d
	})
	if err != nil {
		return nil, sum, refused, err
	}
	for appID, d := range documents {
		sum = s.codec.Add(sum, partition, appID, d.Revision)
	}
	// If the verified documents add up to the head, the head does not cover the damaged ones.
	if uint64(len(documents)) == from.head.Policies && s.codec.SealSum(partition, sum) == from.head.State {
		return documents, sum, committed, nil
	}
	if now, err := s.origin(ctx, partition); err != nil || now.head == nil || now.head.Cursor != from.head.Cursor {
		return nil, sum, conflict, err
	}
	return nil, sum, refused, errors.Join(errUnproven, failed)
}

// logPage is how many log entries are read at once. It is small, since one entry may have 200 KB.
const logPage = 100

// readLog calls each for every entry that verifies, from revision after (exclusive) to revision upTo
// (inclusive).
func (s *Store) readLog(ctx context.Context, partition int, after, upTo uint64, each func(record.Entry)) error {
	for after < upTo {
		_, entries, err := s.redis.Tail(ctx, partition, after, logPage)
		if err != nil {
			return err
		}
		for _, raw := range entries {
			if after = raw.Revision; after > upTo {
				return nil
			}
			if e, err := s.codec.OpenEntry(partition, raw); err == nil {
				each(e)
			}
		}
		if len(entries) == 0 {
			return nil
		}
	}
	return nil
}
