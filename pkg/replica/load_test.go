package replica_test

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// fill puts n apps into a partition of the store, each with a token and some changes.
func (w *world) fill(partition, n int) (apps []string) {
	for i := range n {
		apps = append(apps, w.store.App(partition, i))
		w.store.Commit(apps[i], storetest.AddToken("first", events))
	}
	for i, app := range apps {
		w.store.Commit(app, storetest.AddToken("second"), storetest.Enforce(events))
		if i%3 == 0 {
			w.store.Commit(app, storetest.SetState("first", policy.Revoked))
		}
	}
	return apps
}

func TestLoadsEverything(t *testing.T) {
	simulate(t, 4, func(w *world) {
		for partition := range 3 { // the last one stays empty
			w.fill(partition, 10*partition+1)
		}
		w.start()
		if w.r.Loaded() {
			t.Error("loaded before anything was read")
		}
		if _, _, loaded := w.r.State(0); loaded || w.r.Table().Find("app").Loaded {
			t.Error("a partition is there before anything was read")
		}
		w.mustLoad()
		if !w.r.Loaded() {
			t.Error("not loaded after WaitLoaded")
		}
		w.mustEqualStore()
		if view := w.r.Table().Find(w.store.App(1, 99)); view.Entry() != nil || !view.Loaded ||
			view.Revision != w.store.Head(1).Revision {
			w.Errorf("an app that the store does not have: %+v", view)
		}
		w.pass(enough)
		w.mustEqualStore()
		for partition := range 4 {
			w.mustBeFresh(partition)
			if calls := w.store.Calls(); calls.Documents[partition] != 1 {
				w.Errorf("partition %d was read whole %d times, want once", partition, calls.Documents[partition])
			}
		}
		if n := w.log.count("ERROR") + w.log.count("WARN"); n > 0 {
			w.Errorf("%d complaints:\n%s", n, w.log)
		}
	})
}

func TestWaitsForAStoreThatIsDown(t *testing.T) {
	simulate(t, 2, func(w *world) {
		w.fill(0, 3)
		w.faults(storetest.Faults{Down: fmt.Errorf("connection refused")})
		w.start()
		w.pass(enough)
		ctx, cancel := context.WithTimeout(w.Context(), enough)
		defer cancel()
		if err := w.r.WaitLoaded(ctx); err == nil {
			t.Error("loaded from a store that is down")
		}
		w.faults(storetest.Faults{})
		w.mustLoad()
		w.mustEqualStore()
	})
}

// mustNotLoad fails the test when a fresh replica loads a partition, or does not load the other one.
func (w *world) mustNotLoad(partition, other int) {
	w.Helper()
	w.start()
	w.pass(enough)
	if _, _, loaded := w.r.State(partition); loaded || w.r.Table().Partition(partition) != nil || w.r.Loaded() {
		w.Errorf("partition %d was believed", partition)
	}
	if why := w.difference(other); why != "" {
		w.Errorf("partition %d suffers: %s", other, why)
	}
	w.mustBeFresh(other)
}

// TestFreshReplicaRefusesAPartitionThatIsNotWhole: whatever is missing or old, even when a damaged document
// could hide it.
func TestFreshReplicaRefusesAPartitionThatIsNotWhole(t *testing.T) {
	old := func(w *world, app string) []byte {
		was := w.store.RawDocument(app)
		w.store.Commit(app, storetest.AddToken("newer"))
		return was
	}
	garble := func(w *world, app string) { w.store.SetDocument(app, []byte("garbage")) }
	flip := func(w *world, app string) {
		raw := bytes.Clone(w.store.RawDocument(app))
		raw[len(raw)/2] ^= 4
		w.store.SetDocument(app, raw)
	}
	for name, spoil := range map[string]func(w *world, apps []string){
		"document removed": func(w *world, apps []string) { w.store.SetDocument(apps[2], nil) },
		"document removed, another damaged": func(w *world, apps []string) {
			w.store.SetDocument(apps[2], nil)
			garble(w, apps[3])
		},
		"document removed, garbage under another id": func(w *world, apps []string) {
			w.store.SetDocument(apps[2], nil)
			w.store.SetDocument(w.store.App(0, 50), []byte("garbage"))
		},
		"old document": func(w *world, apps []string) { w.store.SetDocument(apps[2], old(w, apps[2])) },
		"old document, another damaged": func(w *world, apps []string) {
			w.store.SetDocument(apps[2], old(w, apps[2]))
			garble(w, apps[3])
		},
		"old document, another damaged that can be read": func(w *world, apps []string) {
			w.store.SetDocument(apps[2], old(w, apps[2]))
			flip(w, apps[3])
		},
		"old document and its damaged successor elsewhere": func(w *world, apps []string) {
			was := old(w, apps[2])
			w.store.SetDocument(apps[3], w.store.RawDocument(apps[2]))
			w.store.SetDocument(apps[2], was)
		},
		"old head": func(w *world, apps []string) {
			was := w.store.RawHead(0)
			w.store.Commit(apps[2], storetest.AddToken("newer"))
			w.store.SetLog(0, nil)
			w.store.SetHead(0, was)
		},
		"head that counts another document": func(w *world, _ []string) {
			head := w.store.Head(0)
			head.Policies++
			raw, err := w.store.Codec().SealHead(0, head)
			if err != nil {
				w.Fatal(err)
			}
			w.store.SetHead(0, raw)
		},
		"no head":           func(w *world, _ []string) { w.store.SetHead(0, nil) },
		"empty head":        func(w *world, _ []string) { w.store.SetHead(0, []byte{}) },
		"head of another":   func(w *world, _ []string) { w.store.SetHead(0, w.store.RawHead(1)) },
		"document for head": func(w *world, apps []string) { w.store.SetHead(0, w.store.RawDocument(apps[2])) },
		"all documents removed": func(w *world, apps []string) {
			for _, app := range apps {
				w.store.SetDocument(app, nil)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 2, func(w *world) {
				w.fill(1, 3)
				spoil(w, w.fill(0, 5))
				w.mustNotLoad(0, 1)
			})
		})
	}
}

// TestRefusedPartitionLoadsOnceItIsWholeAgain, without a restart.
func TestRefusedPartitionLoadsOnceItIsWholeAgain(t *testing.T) {
	simulate(t, 2, func(w *world) {
		apps := w.fill(0, 5)
		whole := w.store.Save()
		w.store.SetDocument(apps[2], nil)
		w.mustNotLoad(0, 1)
		w.store.RollBack(whole)
		w.mustLoad()
		w.mustEqualStore()
	})
}

// damages are the ways in which one document can be damaged.
func damages(w *world, app, other, stranger string) map[string][]byte {
	raw := w.store.RawDocument(app)
	damaged := map[string][]byte{
		"garbage": []byte("garbage"), "empty": {}, "truncated": raw[:len(raw)-3], "cut in the middle": raw[:len(raw)/2],
		"other app's": w.store.RawDocument(other), "other partition's": w.store.RawDocument(stranger), "head": w.store.RawHead(0),
	}
	for _, bit := range []int{0, 4 * len(raw), 8*len(raw) - 1} {
		flipped := bytes.Clone(raw)
		flipped[bit/8] ^= 1 << (bit % 8)
		damaged[fmt.Sprintf("bit %d flipped", bit)] = flipped
	}
	// A document that claims a revision which no document can have yet.
	m := bytes.Clone(raw)
	if i := bytes.Index(m, []byte("\x10\x01\x18")); i >= 0 { // epoch 1, revision
		m[i+3] = 0x7f
		damaged["claims the future"] = m
	}
	return damaged
}

// TestB20_DamagedPolicyIsUnavailableNeverOpen: on a fresh replica, an app with a damaged document has an
// entry at the right revision without a policy. Every other app is intact.
func TestB20_DamagedPolicyIsUnavailableNeverOpen(t *testing.T) {
	names := []string{}
	simulate(t, 2, func(w *world) {
		apps, strangers := w.fill(0, 5), w.fill(1, 1)
		for name := range damages(w, apps[2], apps[3], strangers[0]) {
			names = append(names, name)
		}
	})
	if len(names) != 11 {
		t.Fatalf("%d kinds of damage: %q", len(names), names)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			simulate(t, 2, func(w *world) {
				apps, strangers := w.fill(0, 5), w.fill(1, 1)
				w.store.SetDocument(apps[2], damages(w, apps[2], apps[3], strangers[0])[name])
				w.start()
				w.mustLoad()
				entry := w.entry(apps[2])
				if entry == nil || entry.Policy != nil || entry.Revision != w.store.Document(apps[2]).Revision {
					w.Errorf("the damaged one: %+v, want no policy and revision %d", entry, w.store.Document(apps[2]).Revision)
				}
				w.mustDifferIn(0, apps[2])
				w.pass(enough)
				w.mustBeFresh(0)
				w.mustDifferIn(0, apps[2])

				// Other apps are still updated.
				w.commit(apps[1], storetest.AddToken("third"))
				w.mustDifferIn(0, apps[2])
			})
		})
	}
}

// mustDifferIn fails the test unless a partition equals the store except for the policies of some apps.
func (w *world) mustDifferIn(partition int, apps ...string) {
	w.Helper()
	cursor, sum, _ := w.r.State(partition)
	if head := w.store.Head(partition); cursor != head.Cursor || sum != w.store.Sum(partition) {
		w.Errorf("partition %d is at %v, want %v; or its sum is another", partition, cursor, head.Cursor)
	}
	differing := map[string]bool{}
	for _, app := range apps {
		differing[app] = true
	}
	for app, document := range w.store.Truth(partition) {
		states := w.tokens(app)
		if differing[app] {
			continue
		}
		if len(states) != len(document.Tokens) || w.entry(app).Revision != document.Revision {
			w.Errorf("%s has %v at %+v, want %d tokens at %d", app, states, w.entry(app), len(document.Tokens), document.Revision)
		}
	}
}

// TestB20_SeveralDamagedPoliciesThatCanBeReadCostTheirAppsAlone: readable damaged documents cost no other
// app.
func TestB20_SeveralDamagedPoliciesThatCanBeReadCostTheirAppsAlone(t *testing.T) {
	simulate(t, 2, func(w *world) {
		apps := w.fill(0, 6)
		for _, app := range apps[2:5] {
			raw := bytes.Clone(w.store.RawDocument(app))
			raw[len(raw)-1] ^= 1 // in the payload, after the revision
			if revision, ok := record.ClaimedRevision(raw); !ok || revision != w.store.Document(app).Revision {
				t.Fatalf("the damage reaches too far: %d, %v", revision, ok)
			}
			w.store.SetDocument(app, raw)
		}
		w.start()
		w.mustLoad()
		for _, app := range apps[2:5] {
			if entry := w.entry(app); entry == nil || entry.Policy != nil || entry.Revision != w.store.Document(app).Revision {
				w.Errorf("%s: %+v, want no policy", app, entry)
			}
		}
		w.mustDifferIn(0, apps[2:5]...)
	})
}

// TestB20_DocumentThatIsDamagedForAMomentOfTheScanCostsNothing: the scan shows a good copy earlier or later.
func TestB20_DocumentThatIsDamagedForAMomentOfTheScanCostsNothing(t *testing.T) {
	for name, damagedFirst := range map[string]bool{"damaged, then whole": true, "whole, then damaged": false} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				apps := w.fill(0, 5)
				whole := w.store.RawDocument(apps[2])
				flipped := bytes.Clone(whole)
				flipped[len(flipped)-1] ^= 1
				first, second := flipped, whole
				if !damagedFirst {
					first, second = second, first
				}
				w.store.SetDocument(apps[2], first)
				var shown atomic.Int64
				w.faults(storetest.Faults{Twice: true, Step: func(step storetest.Step, _ int) error {
					if step == storetest.ScanNext && shown.Add(1) == int64(len(apps)+1) {
						w.store.SetDocument(apps[2], second)
					}
					return nil
				}})
				w.start()
				w.mustLoad()
				w.mustEqualStore()
			})
		})
	}
}

// TestB20_DocumentThatIsRepairedDuringTheLoadIsReadAgain: the repairing change cannot be applied to the
// scanned copy, and nothing else would show the repair.
func TestB20_DocumentThatIsRepairedDuringTheLoadIsReadAgain(t *testing.T) {
	simulate(t, 1, func(w *world) {
		apps := w.fill(0, 5)
		w.store.SetDocument(apps[2], []byte("garbage"))
		var repaired atomic.Bool
		w.faults(storetest.Faults{Hint: deaf, Step: func(step storetest.Step, _ int) error {
			if step == storetest.ScanEnd && repaired.CompareAndSwap(false, true) {
				w.store.Commit(apps[2], storetest.AddToken("third"))
			}
			return nil
		}})
		w.start()
		w.mustLoad()
		w.pass(enough)
		w.mustEqualStore()
		if calls := w.store.Calls(); calls.Documents[0] != 2 {
			w.Errorf("read everything %d times", calls.Documents[0])
		}
	})
}

// TestLogThatIsLostDuringALoadEndsIt: the load fails and is retried, also when something else is in the log.
func TestLogThatIsLostDuringALoadEndsIt(t *testing.T) {
	for name, log := range map[string][]record.RawEntry{
		"empty":   nil,
		"garbage": {{Revision: 1 << 60, Data: []byte("garbage")}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				apps := w.fill(0, 5)
				var lost atomic.Bool
				w.faults(storetest.Faults{Step: func(step storetest.Step, _ int) error {
					if step == storetest.ScanEnd && lost.CompareAndSwap(false, true) {
						w.store.Commit(apps[2], storetest.AddToken("third"))
						w.store.SetLog(0, log)
					}
					return nil
				}})
				w.start()
				w.mustLoad()
				w.mustEqualStore()
			})
		})
	}
}

// TestLoadedReplicaSuppliesTheEntryOfItsPlace, even when the store vanishes before more of the log could be
// read. Nobody else may have seen that entry, and without it a healing would have a gap.
func TestLoadedReplicaSuppliesTheEntryOfItsPlace(t *testing.T) {
	for name, last := range map[string]func(*world){
		"change":         func(*world) {},
		"start of epoch": func(w *world) { w.store.NewEpoch(0) },
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				w.fill(0, 3)
				last(w)
				log := w.store.Log(0)
				var scanned atomic.Bool
				var reads atomic.Int32
				w.faults(storetest.Faults{Step: func(step storetest.Step, _ int) error {
					if step == storetest.ScanEnd {
						scanned.Store(true)
					}
					if step == storetest.TailHead && scanned.Load() && reads.Add(1) > 1 {
						return fmt.Errorf("connection refused")
					}
					return nil
				}})
				w.start()
				w.mustLoad()
				if links, want := w.r.Links(0), log[len(log)-1].Data; len(links) != 1 || !bytes.Equal(links[0], want) {
					t.Errorf("it holds %d entries, want the latest alone", len(links))
				}
			})
		})
	}
}
