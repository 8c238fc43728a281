package fleet

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// atOnce is how long the report of an applied change may take. A receipt waits for the slowest validator.
const atOnce = 5 * time.Millisecond

// changed returns the reports with new cursors.
func (f *fakeAuthority) changed() (moved []received) {
	for _, m := range f.all() {
		if len(m.GetCursors()) > 0 {
			moved = append(moved, m)
		}
	}
	return moved
}

// shows tells whether a report says that the validator has a change.
func shows(m received, made storetest.Commit) bool {
	for _, at := range m.GetCursors() {
		if int(at.GetPartition()) == made.Partition && at.GetRevision() == made.Cursor.Revision {
			return true
		}
	}
	return false
}

// A change is reported within milliseconds, in exactly one report, which names only the changed partition.
// The time of the change between two heartbeats makes no difference.
func TestB24_EachChangeIsOneReportAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, authority *fakeAuthority, _ *network) {
		k := start(t, authority, func(*Config) {})
		k.awaitWelcome()
		for i := range 100 {
			time.Sleep(Interval + Interval*time.Duration(i)/100)
			before, reports := len(authority.changed()), k.reporter.Reports()
			made := k.Commit(k.App(i%partitions, 0), storetest.AddToken(fmt.Sprint(i)))
			committed := time.Now()
			time.Sleep(10 * atOnce)
			moved := authority.changed()[before:]
			if len(moved) != 1 || len(moved[0].GetCursors()) != 1 || !shows(moved[0], made) {
				t.Fatalf("change %d: reported as %v", i, moved)
			}
			if took := moved[0].at.Sub(committed); took > atOnce {
				t.Errorf("change %d: reported after %v", i, took)
			}
			// One heartbeat may be among the reports.
			if n := k.reporter.Reports() - reports; n > 2 {
				t.Errorf("change %d took %d reports", i, n)
			}
		}
		sequence := uint64(0)
		for _, m := range authority.all() {
			if m.GetSequence() != sequence+1 {
				t.Errorf("sequence %d after %d", m.GetSequence(), sequence)
			}
			sequence = m.GetSequence()
		}
	})
}

// A burst of changes is few reports: at most one in each coalesce interval.
func TestB24_ABurstIsFewReports(t *testing.T) {
	for name, pause := range map[string]time.Duration{
		"all at once": 0, "one in 100 us": 100 * time.Microsecond, "one in 1.5 ms": 1500 * time.Microsecond,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, authority *fakeAuthority, _ *network) {
				k := start(t, authority, func(*Config) {})
				k.awaitWelcome()
				time.Sleep(Interval / 2)
				before, began := len(authority.changed()), time.Now()
				var made [partitions]storetest.Commit
				for i := range 500 {
					app := k.App(i%partitions, 0)
					made[i%partitions] = k.Commit(app, storetest.AddToken(fmt.Sprint("burst", i)))
					time.Sleep(pause)
				}
				ended := time.Now()
				time.Sleep(10 * atOnce)
				synctest.Wait()
				moved := authority.changed()[before:]
				if most := int(ended.Sub(began)/coalesce) + 2; len(moved) == 0 || len(moved) > most {
					t.Fatalf("%d reports of a burst of %v, want at most %d", len(moved), ended.Sub(began), most)
				}
				latest := map[uint32]uint64{}
				for i, m := range moved {
					if i > 0 {
						if apart := m.at.Sub(moved[i-1].at); apart < coalesce {
							t.Errorf("two reports are %v apart", apart)
						}
					}
					for _, at := range m.GetCursors() {
						latest[at.GetPartition()] = at.GetRevision()
					}
				}
				for partition, last := range made {
					if latest[uint32(partition)] != last.Cursor.Revision {
						t.Errorf("partition %d was reported at %d, it is at %d", partition, latest[uint32(partition)], last.Cursor.Revision)
					}
				}
				if last := moved[len(moved)-1].at; last.Sub(ended) > atOnce {
					t.Errorf("the last change was reported after %v", last.Sub(ended))
				}
			})
		})
	}
}
