package replica_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestWhatKeepsAPartitionFromLoadingIsSaid: in the log, in the numbers behind the metric, and in the text of
// /readyz.
func TestWhatKeepsAPartitionFromLoadingIsSaid(t *testing.T) {
	for _, tt := range []struct {
		cause, words string
		spoil        func(w *world, apps []string)
	}{
		{
			"digest", "partition 1: its documents do not add up to its head",
			func(w *world, apps []string) { w.store.SetDocument(apps[2], nil) },
		},
		{
			"head", "partition 1: its head is missing or does not verify",
			func(w *world, _ []string) { w.store.SetHead(1, []byte("x")) },
		},
		{"head", "partition 1: its head is missing or does not verify", func(w *world, _ []string) { w.store.SetHead(1, nil) }},
		{"log", "partition 1: its log does not lead to its head", func(w *world, apps []string) {
			// Every load meets a change with a damaged link.
			w.faults(storetest.Faults{Hint: deaf, Step: func(step storetest.Step, partition int) error {
				if step == storetest.ScanEnd && partition == 1 {
					w.store.Commit(apps[2], storetest.AddToken(rand.Text()))
					w.store.SetLink(1, w.store.Head(1).Revision, []byte("x"))
				}
				return nil
			}})
		}},
		{"type", "partition 1: a key of the store holds something of another type", func(w *world, _ []string) {
			w.faults(storetest.Faults{Step: func(step storetest.Step, partition int) error {
				if step == storetest.ScanStart && partition == 1 {
					return replica.ErrWrongType
				}
				return nil
			}})
		}},
		{"other", "the store cannot be read", func(w *world, _ []string) {
			w.faults(storetest.Faults{Step: func(step storetest.Step, partition int) error {
				if step == storetest.ScanStart && partition == 1 {
					return errors.New("connection refused")
				}
				return nil
			}})
		}},
	} {
		t.Run(tt.cause, func(t *testing.T) {
			simulate(t, 3, func(w *world) {
				w.fill(0, 2)
				whole := w.fill(1, 5)
				saved := w.store.Save()
				tt.spoil(w, whole)
				w.start()
				w.pass(enough)
				s := w.r.Stats()
				for _, cause := range replica.AllLoadFailures {
					want := 0
					if cause == tt.cause {
						want = 1
					}
					if s.LoadFailures[cause] != want {
						w.Errorf("%d partitions are in trouble by %s, want %d", s.LoadFailures[cause], cause, want)
					}
				}
				why := w.r.Unloaded()
				if why == nil || !strings.Contains(why.Error(), "1 of 3 partitions are missing; "+tt.words) {
					w.Errorf("it says %v, want %s", why, tt.words)
				}
				if tt.cause == "digest" && !strings.Contains(w.log.String(), "partition 1 of the store does not prove") {
					w.Errorf("the log says\n%s", w.log)
				}
				w.faults(storetest.Faults{})
				w.store.RollBack(saved)
				w.mustLoad()
				if s := w.r.Stats(); s.LoadFailures[tt.cause] != 0 || w.r.Unloaded() != nil {
					w.Errorf("still in trouble: %v, %v", s.LoadFailures, w.r.Unloaded())
				}
			})
		})
	}
}

// TestUnloadedIsSaidBeforeAnythingWasRead: Unloaded reports the partitions before the first read.
func TestUnloadedIsSaidBeforeAnythingWasRead(t *testing.T) {
	simulate(t, 2, func(w *world) {
		w.prepare()
		if why := w.r.Unloaded(); why == nil ||
			!strings.Contains(why.Error(), "2 of 2 partitions are missing; they are being read") {
			w.Errorf("it says %v", why)
		}
	})
}
