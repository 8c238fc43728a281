package replica

import (
	"errors"
	"sync/atomic"

	"github.com/countersign/countersign/pkg/keyring"
)

// cause is why a partition is loaded.
type cause string

const (
	causeStart  cause = "start"  // nothing was loaded
	causeGap    cause = "gap"    // the log does not lead from the cursor to the head
	causeDigest cause = "digest" // the data did not add up to the head
	causeTorn   cause = "torn"   // a change could not be applied to its app's policy
	causeUndo   cause = "undo"   // the store took back changes that were not confirmed
	causeEpoch  cause = "epoch"  // the store is in a new epoch
	causeRepair cause = "repair" // damaged documents may have been repaired
)

// Causes are the keys of Stats.Reloads.
var Causes = []string{
	string(causeStart), string(causeGap), string(causeDigest), string(causeTorn), string(causeUndo), string(causeEpoch),
	string(causeRepair),
}

// counters count events of a replica. They only grow.
type counters struct {
	Polls, PollFailures                     atomic.Uint64
	HintsApplied, HintsIgnored, HintsBad    atomic.Uint64
	CatchUps, DigestMismatches, Quarantined atomic.Uint64
	UnknownKeys, Forks, RefusedEpochs       atomic.Uint64
	Strays                                  atomic.Uint64
	reloads                                 map[cause]*atomic.Uint64
}

func newCounters() *counters {
	c := &counters{reloads: map[cause]*atomic.Uint64{}}
	for _, name := range Causes {
		c.reloads[cause(name)] = &atomic.Uint64{}
	}
	return c
}

// Stats counts what has happened to a replica since it was made, and what it holds.
type Stats struct {
	// Polls counts polls, which read all heads; PollFailures counts those that failed.
	Polls, PollFailures uint64
	// HintsApplied counts hints that were applied at once. HintsIgnored counts hints that were known already
	// or left to a read of the log. HintsBad counts hints that did not verify.
	HintsApplied, HintsIgnored, HintsBad uint64
	// CatchUps counts reads of a partition's log.
	CatchUps uint64
	// Reloads counts loads of whole partitions by cause, failed ones too; see Causes.
	Reloads map[string]uint64
	// DigestMismatches counts how often the data did not add up to the head.
	DigestMismatches uint64
	// Quarantined counts records that could not be verified or applied. UnknownKeys counts the ones among
	// them that were signed with a key that the ring does not have. A record counts each time it is read.
	Quarantined, UnknownKeys uint64
	// Strays counts fields of the policies that are not policies of the store, again at each load.
	Strays uint64
	// Forks counts how often the store began to deny changes that were confirmed. RefusedEpochs counts heads
	// of an epoch that had ended before.
	Forks, RefusedEpochs uint64

	// LoadFailures is the number of partitions whose latest load failed, by reason; see AllLoadFailures.
	LoadFailures map[string]int
	// Undecidable is the number of documents that cannot be verified.
	Undecidable int
	// Forked is the number of partitions in which the store denies changes that were confirmed.
	Forked int
	// Orphans is the number of changes that the replica holds and the store has lost.
	Orphans int
	// Sticky is the number of tokens that stay revoked against the store.
	Sticky int
	// Missing is the number of apps that had a policy and that the store has lost.
	Missing int
}

// Stats returns the current counts.
func (r *Replica) Stats() Stats {
	c := r.stats
	s := Stats{
		Polls: c.Polls.Load(), PollFailures: c.PollFailures.Load(),
		HintsApplied: c.HintsApplied.Load(), HintsIgnored: c.HintsIgnored.Load(), HintsBad: c.HintsBad.Load(),
		CatchUps: c.CatchUps.Load(), DigestMismatches: c.DigestMismatches.Load(),
		Quarantined: c.Quarantined.Load(), UnknownKeys: c.UnknownKeys.Load(),
		Strays: c.Strays.Load(), Forks: c.Forks.Load(), RefusedEpochs: c.RefusedEpochs.Load(),
		Reloads: map[string]uint64{}, LoadFailures: map[string]int{},
	}
	for why, n := range c.reloads {
		s.Reloads[string(why)] = n.Load()
	}
	for _, p := range r.partitions {
		p.mu.Lock()
		s.Undecidable += p.state.damaged
		s.Orphans += p.orphanedChanges()
		if p.failure != nil {
			s.LoadFailures[string(failureOf(p.failure))]++
		}
		if p.forked {
			s.Forked++
		}
		for _, tokens := range p.state.revoked {
			s.Sticky += len(tokens)
		}
		if p.state.rows != nil {
			s.Missing += len(p.state.rows.Missing())
		}
		p.mu.Unlock()
	}
	return s
}

// quarantine counts a record that could not be verified.
func (r *Replica) quarantine(err error) {
	r.stats.Quarantined.Add(1)
	if errors.Is(err, keyring.ErrUnknownKey) {
		r.stats.UnknownKeys.Add(1)
	}
}
