package replica_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

var errRefused = errors.New("refused")

// deaf loses every hint.
func deaf(int, []byte) [][]byte { return nil }

// TestGapIsFilledFromTheLog: a gap of any length is filled link by link, in few reads. On one processor each
// read is smaller.
func TestGapIsFilledFromTheLog(t *testing.T) {
	for paced, limit := range map[bool]int{false: replica.TailLimit, true: replica.PacedLinks} {
		for _, n := range []int{1, 2, limit - 1, limit, limit + 1, 3 * limit, 3 * replica.TailLimit} {
			t.Run(fmt.Sprintf("%d links, paced %t", n, paced), func(t *testing.T) {
				simulate(t, 1, func(w *world) {
					w.paced = paced
					apps := w.fill(0, 3)
					w.startLoaded()
					w.faults(storetest.Faults{Hint: deaf})
					w.store.ResetCalls()
					for i := range n {
						w.store.Commit(apps[i%3], storetest.SetState("second", policy.State(1+i%2)))
					}
					w.pass(2 * longestPoll)
					w.mustEqualStore()
					w.mustBeFresh(0)
					if calls := w.store.Calls(); calls.Documents[0] != 0 || calls.Tails[0] > n/limit+3 {
						w.Errorf("reads for %d links: %+v", n, calls)
					}
				})
			})
		}
	}
}

// TestTrimmedLogMeansAWholeReload, since the trimmed changes are unknown.
func TestTrimmedLogMeansAWholeReload(t *testing.T) {
	for _, keep := range []int{0, 1, 3} {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				apps := w.fill(0, 3)
				w.startLoaded()
				w.faults(storetest.Faults{Hint: deaf})
				w.store.ResetCalls()
				for i := range 8 {
					w.store.Commit(apps[i%3], storetest.AddToken(string(rune('a'+i))))
				}
				w.commit(w.store.App(0, 20), storetest.AddToken("of a new app"))
				w.store.Trim(0, keep)
				w.pass(2 * longestPoll)
				w.mustEqualStore()
				w.mustBeFresh(0)
				if calls := w.store.Calls(); calls.Documents[0] != 1 {
					w.Errorf("read everything %d times, want once", calls.Documents[0])
				}
				// The current log continues from here.
				w.store.ResetCalls()
				w.store.Commit(apps[0], storetest.SetState("a", policy.Revoked))
				w.pass(2 * longestPoll)
				w.mustEqualStore()
				if calls := w.store.Calls(); calls.Documents[0] != 0 {
					w.Errorf("read everything again: %+v", calls)
				}
			})
		})
	}
}

// TestReloadIsProven: after the log was trimmed, a partition that does not add up is not loaded.
func TestReloadIsProven(t *testing.T) {
	simulate(t, 1, func(w *world) {
		apps := w.fill(0, 4)
		w.startLoaded()
		was := w.store.RawDocument(apps[1])
		w.faults(storetest.Faults{Hint: deaf})
		w.store.Commit(apps[1], storetest.SetState("second", policy.Revoked))
		w.store.Commit(apps[2], storetest.SetState("second", policy.Disabled))
		w.store.Trim(0, 0)
		good := w.store.RawDocument(apps[1])
		w.store.SetDocument(apps[1], was) // undoes the revocation
		w.mustGrowOld(apps[2])
		w.store.SetDocument(apps[1], good)
		w.pass(enough)
		w.mustEqualStore()
		w.mustBeFresh(0)
	})
}

// spoilLog commits changes whose hints are lost, and damages the log in between.
func spoilLog(w *world, spoil func(apps []string, log []record.RawEntry) []record.RawEntry) {
	apps := w.fill(0, 3)
	w.startLoaded()
	w.faults(storetest.Faults{Hint: deaf})
	for i := range 6 {
		w.store.Commit(apps[i%3], storetest.AddToken(string(rune('a'+i))))
	}
	w.store.SetLog(0, spoil(apps, w.store.Log(0)))
}

// TestDamagedLogIsMadeUpForByAReload, wherever the damage is. The worker neither stops nor spins.
func TestDamagedLogIsMadeUpForByAReload(t *testing.T) {
	type log = []record.RawEntry
	set := func(l log, fromEnd int, raw []byte) log { l[len(l)-fromEnd].Data = raw; return l }
	for name, spoil := range map[string]func(apps []string, l log) log{
		"first garbage":  func(_ []string, l log) log { return set(l, 6, []byte("garbage")) },
		"middle garbage": func(_ []string, l log) log { return set(l, 3, []byte("garbage")) },
		"last garbage":   func(_ []string, l log) log { return set(l, 1, []byte("garbage")) },
		"middle empty":   func(_ []string, l log) log { return set(l, 3, nil) },
		"middle flipped": func(_ []string,
			l log,
		) log {
			raw := bytes.Clone(l[len(l)-3].Data)
			raw[40] ^= 1
			return set(l, 3, raw)
		},
		"confirmed garbage, rest removed":    func(_ []string, l log) log { return set(l, 7, []byte("garbage"))[:len(l)-6] },
		"confirmed is another, rest removed": func(_ []string, l log) log { return set(l, 7, l[len(l)-8].Data)[:len(l)-6] },
		"two swapped": func(_ []string, l log) log {
			a := l[len(l)-3].Data
			l = set(l, 3, l[len(l)-4].Data)
			return set(l, 4, a)
		},
		"last is another": func(_ []string, l log) log { return set(l, 1, l[len(l)-2].Data) },
		"middle removed":  func(_ []string, l log) log { return append(l[:len(l)-3:len(l)-3], l[len(l)-2:]...) },
		"last removed":    func(_ []string, l log) log { return l[:len(l)-1] },
		"all removed":     func([]string, log) log { return nil },
		"garbage at end": func(_ []string, l log) log {
			return append(l, record.RawEntry{Revision: l[len(l)-1].Revision + 1, Data: []byte("garbage")})
		},
		"garbage far away": func(_ []string, l log) log {
			return append(l, record.RawEntry{Revision: 1 << 60, Data: []byte("garbage")})
		},
		"all garbage": func(_ []string, l log) log {
			for i := range l {
				l[i].Data = []byte("garbage")
			}
			return l
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				spoilLog(w, spoil)
				w.store.ResetCalls()
				w.pass(2 * longestPoll)
				w.mustEqualStore()
				w.pass(time.Minute)
				w.mustEqualStore()
				w.mustBeFresh(0)
				if calls := w.store.Calls(); calls.Documents[0] > 2 || calls.Tails[0] > 20 {
					w.Errorf("reads in a minute of one damaged log: %+v", calls)
				}
				// A fresh replica still loads.
				w.start()
				w.mustLoad()
				w.mustEqualStore()
				// Both follow the next change, if the authority can make it.
				w.faults(storetest.Faults{})
				w.pass(longestPoll)
				w.commit(w.store.App(0, 0), storetest.SetState("second", policy.Revoked))
				w.mustEqualStore()
			})
		})
	}
}

// TestDamagedLinkThatIsHeldAlreadyCostsNothing: a damaged link at or below the cursor does not keep later
// links from being read.
func TestDamagedLinkThatIsHeldAlreadyCostsNothing(t *testing.T) {
	simulate(t, 1, func(w *world) {
		apps := w.fill(0, 3)
		w.startLoaded()
		for back := range uint64(3) {
			w.store.SetLink(0, w.position(0).Revision-back, []byte("garbage"))
		}
		w.faults(storetest.Faults{Hint: deaf})
		w.store.ResetCalls()
		for i := range 3 {
			w.store.Commit(apps[i], storetest.SetState("second", policy.Revoked))
		}
		w.pass(longestPoll + 4*latency)
		w.mustEqualStore()
		w.mustBeFresh(0)
		if calls := w.store.Calls(); calls.Documents[0] != 0 {
			w.Errorf("read everything: %+v", calls)
		}
		if n := w.log.count("ERROR"); n > 0 {
			w.Errorf("%d errors:\n%s", n, w.log)
		}
	})
}
