package fleet

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// wantFloor checks the floor of partition 0. The zero cursor as want means that the floor is not available.
func (a *authority) wantFloor(when string, want record.Cursor) {
	a.t.Helper()
	floor, known, _ := a.Floor()
	if known != (want != record.Cursor{}) {
		a.t.Errorf("%s: the floor is known: got %t, want the opposite", when, known)
	}
	if known && floor[0].Cursor != want {
		a.t.Errorf("%s: got floor %s, want %s", when, floor[0].Cursor, want)
	}
}

// TestB08_FreshAuthorityTellsNoFloorBeforeMembersHaveReported: the store is replaced by an old copy while the
// authorities and one validator restart. Another validator has seen a later position. The authority has no
// floor until that validator has reported.
func TestB08_FreshAuthorityTellsNoFloorBeforeMembersHaveReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		old := f.authority()
		knows, starts := f.validator("knows", 0).mustJoin(old, first()), f.validator("starts", 0).mustJoin(old, first())
		alive(t, 2*time.Second, knows, starts)
		copied := f.shared.copy()
		old.past.move(0, at(1, 9))
		if err := knows.report(to(at(1, 9))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		old.stop()
		f.shared.put(copied)

		fresh := f.authority()
		fresh.wantFloor("at the start", record.Cursor{})
		f.validator("starts", 0).mustJoin(fresh, nil)
		fresh.wantFloor("when the restarted validator has joined", record.Cursor{})
		time.Sleep(time.Second)
		fresh.wantFloor("a second later", record.Cursor{})
		_, _, known := fresh.Floor()
		knows.mustJoin(fresh, to(at(1, 9)))
		fresh.wantFloor("when the validator with the later position has reported", at(1, 9))
		select {
		case <-known:
		default:
			t.Error("the floor is known, but its channel is not closed")
		}
	})
}

// holdOn makes a validator report a cursor of partition 0, and the tags of its orphans there.
func (v *reporter) holdOn(c record.Cursor, tags ...record.Tag) error {
	u := v.next(to(c))
	u.orphans = map[int][]record.Tag{0: tags}
	return v.at.Registry.report(v.stream, u)
}

// TestB08_FloorIsNotToldWhileTheStoreLacksChanges: a process holds a change as an orphan, so its cursor does
// not show the change. The floor is not available until an epoch has healed the orphan. Each case names the
// process that holds the orphan.
func TestB08_FloorIsNotToldWhileTheStoreLacksChanges(t *testing.T) {
	tags := []record.Tag{at(1, 9).Tag}
	for name, lacks := range map[string]func(t *testing.T, f *fixture, running *authority, knows *reporter) (healed func()){
		"of a validator": func(t *testing.T, _ *fixture, _ *authority, knows *reporter) func() {
			if err := knows.holdOn(at(1, 1), tags...); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := knows.holdOn(at(2, 2)); err != nil {
					t.Fatal(err)
				}
			}
		},
		"of a validator that reports to another authority": func(t *testing.T, f *fixture, _ *authority, knows *reporter) func() {
			knows.mustJoin(f.authority(), to(at(1, 9)))
			if err := knows.holdOn(at(1, 1), tags...); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			return func() {
				if err := knows.holdOn(at(2, 2)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
		},
		"of a validator whose stream has ended": func(t *testing.T, _ *fixture, running *authority, knows *reporter) func() {
			if err := knows.holdOn(at(1, 1), tags...); err != nil {
				t.Fatal(err)
			}
			knows.hangUp()
			return func() { knows.mustJoin(running, to(at(2, 2))) }
		},
		"of the authority itself": func(t *testing.T, _ *fixture, running *authority, knows *reporter) func() {
			running.past.holdOn(0, tags...)
			if err := knows.report(to(at(1, 1))); err != nil {
				t.Fatal(err)
			}
			return func() {
				running.past.holdOn(0)
				running.past.move(0, at(2, 2))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				running := f.authority()
				knows := f.validator("knows", 0).mustJoin(running, to(at(1, 9)))
				running.wantFloor("before", at(1, 9))
				healed := lacks(t, f, running, knows)
				running.wantFloor("while the store lacks the change", record.Cursor{})
				_, _, known := running.Floor()
				select {
				case <-known:
					t.Error("the floor is not known, but its channel is closed")
				default:
				}
				healed()
				running.wantFloor("after the healing", at(2, 2))
				select {
				case <-known:
				default:
					t.Error("after the healing the floor is known, but its channel is not closed")
				}
			})
		})
	}
}

// TestB08_FloorDoesNotWaitForSettledOrphans: a validator starts from a snapshot file with two orphans. The
// store has settled them meanwhile, and the validator follows no epoch that says so before it has the floor.
// The floor waits until a healing has found both to be settled, here and at another authority.
func TestB08_FloorDoesNotWaitForSettledOrphans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		here, there := f.authority(), f.authority()
		alive(t, 2*time.Second, f.validator("runs", 0).mustJoin(here, to(at(2, 5))))
		back := f.validator("back", 0)
		back.hello.orphans = map[int][]record.Tag{0: {at(1, 8).Tag}, 1: {at(1, 9).Tag}}
		back.mustJoin(here, to(at(1, 7)))
		back.hello.orphans = nil
		want := func(when string, known bool) {
			t.Helper()
			alive(t, time.Second, back)
			time.Sleep(sweepInterval)
			synctest.Wait()
			for name, a := range map[string]*authority{"here": here, "there": there} {
				if _, got, _ := a.Floor(); got != known {
					t.Errorf("%s, %s: the floor is known: got %t, want %t", name, when, got, known)
				}
			}
		}
		want("before a healing", false)
		here.Settled(0, map[record.Tag]bool{at(1, 8).Tag: true, at(1, 9).Tag: true})
		want("when one of the two is settled", false)
		here.Settled(1, map[record.Tag]bool{at(1, 9).Tag: true})
		want("when both are settled", true)
		if err := back.holdOn(at(2, 5), at(2, 6).Tag); err != nil {
			t.Fatal(err)
		}
		want("with another orphan", false)
	})
}

// TestFloorWaitsForHealingNoLongerThanALease: orphans that are never healed, or that a validator falsely
// reports, delay the floor by at most a lease.
func TestFloorWaitsForHealingNoLongerThanALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		running := f.authority()
		knows := f.validator("knows", 0).mustJoin(running, first())
		if err := knows.holdOn(at(1, 1), at(1, 9).Tag); err != nil {
			t.Fatal(err)
		}
		alive(t, Lease-time.Second, knows)
		running.wantFloor("within the lease", record.Cursor{})
		alive(t, 2*time.Second, knows)
		running.wantFloor("after the lease", at(1, 1))
		if err := knows.holdOn(at(1, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := knows.holdOn(at(1, 1), at(1, 8).Tag); err != nil {
			t.Fatal(err)
		}
		running.wantFloor("when the validator reports another orphan", record.Cursor{})
	})
}

// TestFloorOfARollingRestart: when a member reports to another authority, a fresh authority stops waiting for
// it once the hash has the member's newer record. News alone is not enough, since it has only the moved
// cursors.
func TestFloorOfARollingRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		running := f.authority()
		member := f.validator("member", 0).mustJoin(running, first())
		alive(t, 2*time.Second, member)
		fresh := f.authority()
		fresh.wantFloor("at the start", record.Cursor{})
		raw, err := f.codec.SealNews([]*record.Validator{{
			ID: "member", InstanceID: member.hello.validator.InstanceID, Start: member.hello.validator.Start, Sequence: 1000,
		}})
		if err != nil {
			t.Fatal(err)
		}
		fresh.mergeNews(raw)
		fresh.wantFloor("after news", record.Cursor{})
		member.sequence = 1000
		alive(t, 5*time.Second, member)
		fresh.wantFloor("5 s later, half a lease", at(1, 1))
	})
}

// TestFloorWithoutMembersThatAreGone: the floor waits at most a lease for a validator that does not report.
// It does not wait in a fleet without members, nor after the awaited validator has joined again.
func TestFloorWithoutMembersThatAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		old := f.authority()
		old.wantFloor("in an empty fleet", at(1, 1))
		f.validator("lost", 0).mustJoin(old, first())
		time.Sleep(2 * time.Second)
		old.stop()

		fresh := f.authority()
		time.Sleep(Lease - time.Second)
		fresh.wantFloor("within the lease", record.Cursor{})
		time.Sleep(2 * time.Second)
		fresh.wantFloor("after the lease", at(1, 1))
		fresh.stop()

		again := f.authority()
		again.wantFloor("at the next start", record.Cursor{})
		leaves := f.validator("lost", 0).mustJoin(again, nil)
		leaves.hangUp()
		again.wantFloor("when the lost validator has joined again", at(1, 1))
		synctest.Wait()
	})
}

// TestFloorHasWhatWasConfirmed: the store is below a confirmed position of a partition, so the partition is
// not loaded. The floor and Highest have the confirmed position.
func TestFloorHasWhatWasConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFixture(t).authority()
		a.past.confirm(0, at(3, 7))
		a.wantFloor("with the store below the confirmed position", at(3, 7))
		found := false
		for _, c := range a.Highest(0) {
			found = found || c == at(3, 7)
		}
		if !found {
			t.Errorf("Highest: got %v, want %s among them", a.Highest(0), at(3, 7))
		}
	})
}

// TestB08_FloorDoesNotWaitForTheLost: a validator was LOST before all authorities stopped. It does not delay
// the floor of the next authority.
func TestB08_FloorDoesNotWaitForTheLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		v := f.validator("v", 0).mustJoin(a, first())
		f.validator("w", 0).mustJoin(a, first()).hangUp()
		alive(t, time.Minute, v)
		a.want("", map[string]string{"v": "REPORTING", "w": "LOST"})
		a.stop()
		time.Sleep(time.Minute)
		b := f.authority()
		if _, known, _ := b.Floor(); known {
			t.Error("the floor is known before v has reported, and v was reporting when the authority stopped")
		}
		v.mustJoin(b, first())
		if _, known, _ := b.Floor(); !known {
			t.Error("the floor is not known after v has reported: it waits for w, which was LOST")
		}
	})
}
