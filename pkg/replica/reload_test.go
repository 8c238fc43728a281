package replica_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/table"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// reader watches some apps all the time, and fails when a change that it saw vanishes.
type reader struct {
	w    *world
	apps []string

	mu        sync.Mutex
	revisions map[string]uint64 // of entries
	views     map[int]uint64    // of partitions
}

func (w *world) reader(apps ...string) *reader {
	return &reader{w: w, apps: apps, revisions: map[string]uint64{}, views: map[int]uint64{}}
}

func (r *reader) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, app := range r.apps {
		view := r.w.r.Table().Find(app)
		if !view.Loaded {
			continue
		}
		revision := uint64(0)
		if view.Entry() != nil {
			revision = view.Entry().Revision
		}
		if revision < r.revisions[app] {
			r.w.Errorf("%s goes back from revision %d to %d", app, r.revisions[app], revision)
		}
		if view.Revision < r.views[view.Partition] {
			r.w.Errorf("partition %d goes back from revision %d to %d", view.Partition, r.views[view.Partition], view.Revision)
		}
		if document := r.w.store.Document(app); document != nil && document.Revision <= view.Revision &&
			document.Revision > revision {
			r.w.Errorf("%s is at revision %d in a partition at %d; it was changed at %d", app, revision, view.Revision,
				document.Revision)
		}
		r.revisions[app], r.views[view.Partition] = revision, view.Revision
	}
}

// TestReloadWhileTheStoreChangesShowsNoChangeThatGoesAwayAgain: whether a change comes before, during or
// after the scan of its document, whether its hint arrives or not, and however often the scan shows a
// document.
func TestReloadWhileTheStoreChangesShowsNoChangeThatGoesAwayAgain(t *testing.T) {
	for name, f := range map[string]storetest.Faults{
		"hints arrive":     {},
		"hints are lost":   {Hint: deaf},
		"everything twice": {Twice: true},
		"some hints are lost": {Twice: true, Hint: func(_ int, raw []byte) [][]byte {
			if raw[len(raw)-1]%2 == 0 {
				return nil
			}
			return [][]byte{raw}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				apps := w.fill(0, 12)
				for i := range 3 {
					apps = append(apps, w.store.App(0, 20+i)) // new apps, which the scan may or may not show
				}
				w.startLoaded()
				r := w.reader(apps...)
				r.look()
				var changes atomic.Int64
				f.Step = func(step storetest.Step, _ int) error {
					if n := int(changes.Add(1)); n <= 400 && step != storetest.AllHeads {
						w.store.Commit(apps[n*7%len(apps)], storetest.AddToken(fmt.Sprint(n)))
						if n%3 == 0 {
							time.Sleep(latency / 10) // the hint arrives before the read goes on
						}
					}
					r.look()
					return nil
				}
				for range 5 {
					w.faults(f)
					w.r.Corrupt(0, w.store.App(0, 40), &table.Entry{Revision: 1}) // so that it loads everything
					for range 200 {
						w.pass(latency)
						r.look()
					}
					w.pass(time.Second)
					r.look()
				}
				w.faults(storetest.Faults{})
				w.pass(enough)
				w.mustEqualStore()
				w.mustBeFresh(0)
				if n := w.log.count("reading the store failed"); n > 0 {
					w.Errorf("%d loads failed for no reason but that the store changed:\n%s", n, w.log)
				}
				if calls := w.store.Calls(); calls.Documents[0] < 4 || changes.Load() < 100 {
					w.Errorf("%d reloads, %d changes: too few to mean anything", calls.Documents[0], changes.Load())
				}
			})
		})
	}
}

// TestReloadThatIsOvertakenByMoreThanTheHistoryReadsTheLog: it reads the missing links from the log.
func TestReloadThatIsOvertakenByMoreThanTheHistoryReadsTheLog(t *testing.T) {
	simulate(t, 1, func(w *world) {
		apps := w.fill(0, 3)
		w.startLoaded()
		r := w.reader(apps...)
		var overtaken atomic.Bool
		w.faults(storetest.Faults{Step: func(step storetest.Step, _ int) error {
			r.look()
			// The load has read its last head. Before it installs, more links arrive than the history keeps.
			if step == storetest.TailLinks && w.store.Calls().Documents[0] == 2 && overtaken.CompareAndSwap(false, true) {
				for i := range replica.HistoryLength + 50 {
					w.r.Offer(0, w.store.Commit(apps[i%3], storetest.SetState("second", 1+state(i))).Link)
					r.look()
				}
			}
			return nil
		}})
		w.r.Corrupt(0, w.store.App(0, 30), &table.Entry{Revision: 1})
		for range 100 {
			w.pass(10 * latency)
			r.look()
		}
		w.pass(longestPoll)
		if !overtaken.Load() {
			w.Fatal("nothing was overtaken")
		}
		w.mustEqualStore()
		w.mustBeFresh(0)
	})
}

// TestManyReadersSeeNoChangeGoAway while hints, polls and reloads change what they read. It exists for the
// race detector.
func TestManyReadersSeeNoChangeGoAway(t *testing.T) {
	simulate(t, 2, func(w *world) {
		apps := append(w.fill(0, 6), w.fill(1, 6)...)
		w.startLoaded()
		stop := make(chan struct{})
		var readers sync.WaitGroup
		for range 4 {
			r := w.reader(apps...)
			readers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						r.look()
						time.Sleep(time.Duration(rand.N(1000)) * time.Microsecond)
					}
				}
			})
		}
		drop := 0
		w.faults(storetest.Faults{Twice: true, Hint: func(_ int, raw []byte) [][]byte {
			if drop++; drop%4 == 0 {
				return nil
			}
			return [][]byte{raw}
		}})
		for i := range 300 {
			w.store.Commit(apps[i%len(apps)], storetest.SetState("second", 1+state(i/len(apps))))
			if i%40 == 0 {
				w.store.Trim(i/40%2, 2)
			}
			time.Sleep(time.Duration(rand.N(3000)) * time.Microsecond)
		}
		time.Sleep(time.Second)
		close(stop)
		readers.Wait()
		synctest.Wait()
		w.mustEqualStore()
	})
}

// TestReloadThatStallsHoldsUpNoOther: a store has several servers. A server that does not answer must not
// delay the data of the others.
func TestReloadThatStallsHoldsUpNoOther(t *testing.T) {
	for _, paced := range []bool{false, true} {
		t.Run(fmt.Sprintf("paced %t", paced), func(t *testing.T) {
			simulate(t, 8, func(w *world) {
				for partition := range 8 {
					w.fill(partition, 3)
				}
				w.paced = paced
				w.startLoaded()
				w.faults(storetest.Faults{Step: func(step storetest.Step, partition int) error {
					if step == storetest.ScanNext && partition < 7 {
						time.Sleep(time.Minute)
					}
					return nil
				}})
				for partition := range 8 {
					w.r.Corrupt(partition, w.store.App(partition, 40), &table.Entry{Revision: 1})
					w.pass(enough)
				}
				w.pass(enough)
				if different := w.difference(7); different != "" {
					w.Errorf("while others stall: %s", different)
				}
				if w.difference(0) == "" {
					w.Error("none stalled")
				}
			})
		})
	}
}
