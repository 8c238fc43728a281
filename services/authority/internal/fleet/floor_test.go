package fleet

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// wantFloor checks the floor of partition 0; the zero cursor means that the floor is not available.
func (a *authority) wantFloor(when string, want record.Cursor) {
	a.t.Helper()
	floor, known, _ := a.Floor()
	if known != (want != record.Cursor{}) {
		a.t.Errorf("%s: the floor is known: %t", when, known)
	}
	if known && floor[0].Cursor != want {
		a.t.Errorf("%s: the floor is %s, want %s", when, floor[0].Cursor, want)
	}
}

// TestB08_FreshAuthorityTellsNoFloorBeforeMembersHaveReported: the store was replaced by an old copy, and the
// authorities and one validator restart. Another validator knows better. No position of the old copy passes
// for the floor.
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
		fresh.wantFloor("when the one that starts has joined", record.Cursor{})
		time.Sleep(time.Second)
		fresh.wantFloor("a second later", record.Cursor{})
		_, _, known := fresh.Floor()
		knows.mustJoin(fresh, to(at(1, 9)))
		fresh.wantFloor("when the one that knows has reported", at(1, 9))
		select {
		case <-known:
		default:
			t.Error("streams that wait for the floor are not told")
		}
	})
}

// holdOn makes a validator report a cursor of partition 0, and orphans.
func (v *reporter) holdOn(c record.Cursor, tags ...record.Tag) error {
	u := v.next(to(c))
	u.orphans = map[int][]record.Tag{0: tags}
	return v.at.Registry.report(v.stream, u)
}

// TestB08_FloorIsNotToldWhileTheStoreLacksChanges: a replica has dropped changes that the store lacks, so its
// cursor does not show them. The floor waits for the epoch that heals them.
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
					t.Error("streams that wait for the floor are told")
				default:
				}
				healed()
				running.wantFloor("after the healing", at(2, 2))
				select {
				case <-known:
				default:
					t.Error("streams that wait for the floor are not told after the healing")
				}
			})
		})
	}
}

// TestFloorWaitsForHealingNoLongerThanALease: orphans that are never healed, or false, keep no validator from
// starting.
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
		running.wantFloor("after it", at(1, 1))
		if err := knows.holdOn(at(1, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := knows.holdOn(at(1, 1), at(1, 8).Tag); err != nil {
			t.Fatal(err)
		}
		running.wantFloor("at the next loss", record.Cursor{})
	})
}

// TestFloorOfARollingRestart: reports to another authority count once the whole record is shared, so that no
// validator is delayed. News alone does not count, since it has only the changes.
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

// TestFloorWithoutMembersThatAreGone: the floor does not wait for validators that were silent for a lease or
// have left, nor in a fleet without members.
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
		again.wantFloor("when it is back", at(1, 1))
		synctest.Wait()
	})
}

// TestFloorHasWhatWasConfirmed: the floor has the confirmed position also of a partition that is not loaded
// because the store is below it.
func TestFloorHasWhatWasConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFixture(t).authority()
		a.past.confirm(0, at(3, 7))
		a.wantFloor("a store below what was confirmed", at(3, 7))
		found := false
		for _, c := range a.Highest(0) {
			found = found || c == at(3, 7)
		}
		if !found {
			t.Errorf("what is healed goes up to %v, want %s too", a.Highest(0), at(3, 7))
		}
	})
}

// TestB08_FloorDoesNotWaitForTheLost: a validator that is LOST when an authority starts does not delay the
// floor.
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
			t.Error("the floor does not wait for one that reported until the stop")
		}
		v.mustJoin(b, first())
		if _, known, _ := b.Floor(); !known {
			t.Error("the floor waits for one that was lost")
		}
	})
}
