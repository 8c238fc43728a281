package replica

import (
	"errors"
	"sync/atomic"

	"github.com/countersign/countersign/pkg/keyring"
)

// cause is why a partition is loaded.
type cause string

const (
	causeStart  cause = "start"  // nothing was held
	causeGap    cause = "gap"    // the log does not lead from the cursor to the head
	causeDigest cause = "digest" // what was held did not add up to the head
	causeTorn   cause = "torn"   // a change could not be applied to its app's policy
	causeUndo   cause = "undo"   // the store took changes back before they were confirmed
	causeEpoch  cause = "epoch"  // the store is in a new epoch
	causeRepair cause = "repair" // documents that do not verify may have been mended
)

// Causes are all causes of a load, as Stats names them.
var Causes = []string{
	string(causeStart), string(causeGap), string(causeDigest), string(causeTorn), string(causeUndo), string(causeEpoch), string(causeRepair),
}

// counters count what happens to a replica. They only grow.
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

// Stats is what has happened to a replica since it was made, and what it holds.
type Stats struct {
	// Polls are reads of all heads, PollFailures those of them that failed.
	Polls, PollFailures uint64
	// Hints that were published: applied at once, left to a catch-up or known already, or not verified.
	HintsApplied, HintsIgnored, HintsBad uint64
	// CatchUps are reads of a partition's log.
	CatchUps uint64
	// Reloads are loads of whole partitions, by cause; see Causes. Those that failed are counted too.
	Reloads map[string]uint64
	// DigestMismatches are how often what was held did not add up to the head.
	DigestMismatches uint64
	// Quarantined are records that could not be verified or applied, UnknownKeys those of them that were
	// signed with a key that the ring does not have. A record that is read again counts again.
	Quarantined, UnknownKeys uint64
	// Strays are fields of the policies that are no policies of the store; each load counts them again.
	Strays uint64
	// Forks are how often the store began to deny what was confirmed, RefusedEpochs the heads of an epoch
	// that was over.
	Forks, RefusedEpochs uint64

	// LoadFailures are the partitions whose latest load has failed, by what was in its way; see AllLoadFailures.
	LoadFailures map[string]int
	// Undecidable are documents that cannot be verified now.
	Undecidable int
	// Forked are the partitions whose store denies what was confirmed now.
	Forked int
	// Orphans are changes that are held on to and that the store does not have.
	Orphans int
	// Sticky are the tokens that are kept revoked against the store.
	Sticky int
	// Missing are apps that had a policy and that the store has lost.
	Missing int
}

// Stats returns what has happened so far.
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
