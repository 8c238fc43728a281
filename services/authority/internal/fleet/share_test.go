package fleet

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
)

// names returns the validators that an authority lists, with their states.
func (a *authority) names() map[string]string {
	all := map[string]string{}
	for _, v := range a.List() {
		all[v.GetValidatorId()] = v.GetState().String()[len("VALIDATOR_STATE_"):]
		if v.GetUnreadable() {
			all[v.GetValidatorId()] = "UNREADABLE"
		}
	}
	return all
}

func (a *authority) want(when string, want map[string]string) {
	a.t.Helper()
	if got := a.names(); !maps.Equal(got, want) {
		a.t.Errorf("%s: got validators %v, want %v", when, got, want)
	}
}

func (a *authority) cursor(id string, partition int) record.Cursor {
	a.Registry.mu.Lock()
	defer a.Registry.mu.Unlock()
	return a.members[id].Cursors[partition]
}

// TestB24_AuthoritiesShareWhatTheyKnow: a validator reports to one authority. Another authority knows its
// cursor within milliseconds, and within seconds when the news is lost.
func TestB24_AuthoritiesShareWhatTheyKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, b := f.authority(), f.authority()
		v := f.validator("v", 0).mustJoin(a, first())
		time.Sleep(publishInterval)
		synctest.Wait()
		b.want("when v has joined", map[string]string{"v": "REPORTING"})
		_ = v.report(to(at(1, 2)))
		time.Sleep(publishInterval)
		synctest.Wait()
		if got := b.cursor("v", 0); got != at(1, 2) {
			t.Errorf("cursor at b after 10 ms: got %v, want revision 2", got)
		}
		f.shared.mu.Lock()
		f.shared.deaf = true
		f.shared.mu.Unlock()
		_ = v.report(to(at(1, 3)))
		time.Sleep(2*exchangeInterval + publishInterval)
		synctest.Wait()
		if got := b.cursor("v", 0); got != at(1, 3) {
			t.Errorf("cursor at b without news: got %v, want revision 3", got)
		}
	})
}

// TestB24_LostNewsAreMadeUpFor: an authority misses news of one partition, and receives later news of the
// same validator. It still learns the missed cursor within two seconds.
func TestB24_LostNewsAreMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, b := f.authority(), f.authority()
		v := f.validator("v", 0).mustJoin(a, first())
		time.Sleep(publishInterval)
		deaf := func(is bool) {
			f.shared.mu.Lock()
			defer f.shared.mu.Unlock()
			f.shared.deaf = is
		}
		deaf(true)
		_ = v.report(to(at(1, 2)))
		time.Sleep(publishInterval)
		synctest.Wait()
		deaf(false)
		for range 100 { // b gets each message of news before the hash has the record
			_ = v.report(map[int]record.Cursor{})
			time.Sleep(2 * publishInterval)
		}
		synctest.Wait()
		if got := b.cursor("v", 0); got != at(1, 2) {
			t.Errorf("cursor at b after two seconds: got %v, want revision 2", got)
		}
	})
}

// TestB24_LeasesAreJudgedByOwnClock: an authority measures a validator's lease with its own clock. The times
// in the record do not matter: the lease runs while the record's sequence grows.
func TestB24_LeasesAreJudgedByOwnClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, b := f.authority(), f.authority()
		v := f.validator("v", 0).mustJoin(a, first())
		// All authorities of the test share one clock, so the test falsifies the times in the record.
		lie := func(by time.Duration) {
			raw, err := f.codec.SealValidator(&record.Validator{
				ID: "w", InstanceID: "w", Start: time.Now(), Sequence: uint64(time.Now().UnixNano()), Reported: time.Now().Add(by),
				Cursors: first(),
			})
			if err != nil {
				t.Fatal(err)
			}
			_ = f.shared.Write(t.Context(), map[string][]byte{"w": raw})
		}
		for range 5 {
			lie(-time.Hour)
			alive(t, 4*time.Second, v)
		}
		b.want("while it reports", map[string]string{"v": "REPORTING", "w": "REPORTING"})
		lie(time.Hour)
		alive(t, Lease+2*exchangeInterval, v)
		b.want("after its lease", map[string]string{"v": "REPORTING", "w": "LOST"})
		// After a restart an authority gives every validator a new lease.
		c := f.authority()
		c.want("at the start", map[string]string{"v": "REPORTING", "w": "REPORTING"})
		alive(t, Lease+2*exchangeInterval, v)
		c.want("after its lease", map[string]string{"v": "REPORTING", "w": "LOST"})
	})
}

// TestB24_LostUntilForgotten: a silent validator is LOST on every authority. Restarts and a wiped hash do not
// alter that. When one authority forgets the validator, all do.
func TestB24_LostUntilForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, b := f.authority(), f.authority()
		v, w := f.validator("v", 0).mustJoin(a, first()), f.validator("w", 0).mustJoin(b, first())
		if err := a.Forget(t.Context(), "w", audited); apierr.ReasonOf(err) != "VALIDATOR_REPORTS" {
			t.Errorf("forgetting a validator that reports: got %v, want VALIDATOR_REPORTS", err)
		}
		if err := a.Forget(t.Context(), "x", audited); apierr.ReasonOf(err) != "VALIDATOR_NOT_FOUND" {
			t.Errorf("forgetting an unknown validator: got %v, want VALIDATOR_NOT_FOUND", err)
		}
		w.hangUp()
		b.stop()
		alive(t, 15*time.Second, v)
		c := f.authority()
		alive(t, 15*time.Second, v)
		both := map[string]string{"v": "REPORTING", "w": "LOST"}
		a.want("a", both)
		c.want("c", both)

		f.shared.mu.Lock()
		clear(f.shared.hash)
		f.shared.mu.Unlock()
		alive(t, 3*time.Second, v)
		d := f.authority()
		alive(t, 15*time.Second, v)
		d.want("after the hash was wiped", both)

		// Without an audit row no validator is forgotten (B23).
		noRow := errors.New("no row")
		if err := d.Forget(t.Context(), "w", func(context.Context) error { return noRow }); !errors.Is(err, noRow) {
			t.Errorf("forgetting without an audit row: got %v, want the error of audit", err)
		}
		rows := 0
		if err := d.Forget(t.Context(), "w", func(context.Context) error { rows++; return nil }); err != nil || rows != 1 {
			t.Fatal(err)
		}
		alive(t, 2*time.Second, v)
		one := map[string]string{"v": "REPORTING"}
		for name, who := range map[string]*authority{"a": a, "c": c, "d": d} {
			who.want(name+" after w was forgotten", one)
		}
		if err := a.Forget(t.Context(), "w", audited); apierr.ReasonOf(err) != "VALIDATOR_NOT_FOUND" {
			t.Errorf("forgetting a forgotten validator: got %v, want VALIDATOR_NOT_FOUND", err)
		}
		alive(t, goneLife+time.Minute, v)
		a.want("an hour later", one)
		f.shared.mu.Lock()
		if keys := slices.Collect(maps.Keys(f.shared.hash)); len(keys) != 2 || f.shared.hash["v"] == "" ||
			f.shared.hash[record.MembersField] == "" {
			t.Errorf("hash fields: got %v, want v and the list", keys)
		}
		f.shared.mu.Unlock()
		// A forgotten validator can come back.
		w.mustJoin(c, first())
		time.Sleep(time.Second)
		synctest.Wait()
		a.want("when w is back", map[string]string{"v": "REPORTING", "w": "REPORTING"})
	})
}

// TestB24_TwoOfOneName: two validators report by one name, to the same authority or to two. The one that was
// started later keeps the name.
func TestB24_TwoOfOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, b := f.authority(), f.authority()
		older := f.validator("v", 0)
		time.Sleep(time.Second)
		newer := f.validator("v", 0)
		other := f.validator("v", 0)
		other.hello.validator.InstanceID = "another started at that time"

		older.mustJoin(a, first())
		newer.mustJoin(a, first())
		if err := older.report(nil); err == nil {
			t.Error("the older validator can still report after the newer one has joined")
		}
		if err := older.join(a, first()); apierr.ReasonOf(err) != "VALIDATOR_ID_TAKEN" {
			t.Errorf("the older validator joins again: got %v, want VALIDATOR_ID_TAKEN", err)
		}
		if all := a.List(); len(all) != 1 || !all[0].GetIdContested() {
			t.Errorf("list during the contest: got %v, want one contested validator", all)
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if err := older.join(b, first()); apierr.ReasonOf(err) != "VALIDATOR_ID_TAKEN" {
			t.Errorf("the older validator joins another authority: got %v, want VALIDATOR_ID_TAKEN", err)
		}
		if err := newer.report(nil); err != nil {
			t.Errorf("a report of the newer validator: got %v, want no error", err)
		}
		time.Sleep(Lease)
		if all := a.List(); all[0].GetIdContested() {
			t.Errorf("list a lease after the contest: got %v, want no contested validator", all)
		}
		// The newer validator has stopped without leaving. The older one can then take the name, although it
		// was started earlier.
		newer.hangUp()
		time.Sleep(claim + time.Second)
		older.mustJoin(b, to(at(1, 7)))
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := a.cursor("v", 0); got != at(1, 7) {
			t.Errorf("cursor at the other authority: got %v, want revision 7", got)
		}
		if err := newer.join(a, first()); apierr.ReasonOf(err) != "VALIDATOR_ID_TAKEN" {
			t.Errorf("the newer validator joins again: got %v, want VALIDATOR_ID_TAKEN", err)
		}
	})
}

// TestB24_MovesToAnotherAuthority: a validator opens a stream to another authority while its old stream is
// open. The old stream ends, and the old authority learns of the validator's reports from the other one.
func TestB24_MovesToAnotherAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, b := f.authority(), f.authority()
		v := f.validator("v", 0).mustJoin(a, first())
		time.Sleep(time.Second)
		half := *v
		v.mustJoin(b, to(at(1, 5)))
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		select {
		case err := <-half.stream.ended:
			if err == nil {
				t.Error("the old stream ends without an error")
			}
		default:
			t.Error("the old stream has not ended")
		}
		if got := a.cursor("v", 0); got != at(1, 5) {
			t.Errorf("cursor at the old authority: got %v, want revision 5", got)
		}
		if half.report(nil) == nil {
			t.Error("a report on the old stream is accepted")
		}
		alive(t, 20*time.Second, v)
		a.want("at the old authority", map[string]string{"v": "REPORTING"})
	})
}

// TestB24_ForgedRecordsAreNotBelieved: write access to Redis adds no validator to the fleet, and removes
// none. A record that does not verify may have replaced a validator's, so no receipt is complete while it is
// there.
func TestB24_ForgedRecordsAreNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		v := f.validator("v", 0).mustJoin(a, first())
		time.Sleep(2 * exchangeInterval)
		f.shared.mu.Lock()
		f.shared.hash["w"] = f.shared.hash["v"] // the record of another validator
		f.shared.hash["x"] = "garbage"
		delete(f.shared.hash, "v")
		f.shared.mu.Unlock()
		foreign := newFixture(t)
		gone, _ := foreign.codec.SealNews([]*record.Validator{{
			ID: "v", InstanceID: v.hello.validator.InstanceID,
			Sequence: 1 << 40, Gone: true,
		}})
		_ = f.shared.Tell(t.Context(), gone)
		_ = f.shared.Tell(t.Context(), []byte("garbage"))
		alive(t, 3*time.Second, v)
		b := f.authority()
		for name, who := range map[string]*authority{"a": a, "b": b} {
			who.want(name, map[string]string{"v": "REPORTING", "w": "UNREADABLE", "x": "UNREADABLE"})
		}
		r, _, err := a.wait(at(1, 1), time.Second)()
		if want := map[string]State{"v": Applied, "w": Lost, "x": Lost}; err != nil || r.Complete ||
			!maps.Equal(statesOf(r), want) {
			t.Errorf("got %+v, %v, want it incomplete, with w and x LOST", r, err)
		}
		f.shared.mu.Lock()
		delete(f.shared.hash, "w")
		delete(f.shared.hash, "x")
		f.shared.mu.Unlock()
		if r, took, err := a.wait(at(1, 1), time.Second)(); err != nil || !r.Complete || took != 0 {
			t.Errorf("without the forged records: got %+v, %v after %v, want it complete at once", r, err, took)
		}
	})
}

// TestB24_JoinNeedsTheOthers: the store cannot be written, so other authorities cannot learn of a new
// validator. A new validator is rejected, a known one is accepted.
func TestB24_JoinNeedsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		known := f.validator("known", 0).mustJoin(a, first())
		known.hangUp()
		f.shared.mu.Lock()
		f.shared.failing = true
		f.shared.mu.Unlock()
		if err := f.validator("new", 0).join(a, nil); apierr.ReasonOf(err) != apierr.StoreUnavailable {
			t.Errorf("a new validator joins: got %v, want STORE_UNAVAILABLE", err)
		}
		if err := known.join(a, first()); err != nil {
			t.Errorf("a known validator joins: got %v, want no error", err)
		}
		if err := a.leave(t.Context(), known.next(nil)); apierr.ReasonOf(err) != apierr.StoreUnavailable {
			t.Errorf("a validator leaves: got %v, want STORE_UNAVAILABLE", err)
		}
		a.want("after the failures", map[string]string{"known": "REPORTING"})
	})
}

// TestB20_Floor: the floor is the highest position that the authority and any validator have seen.
func TestB20_Floor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, b := f.authority(), f.authority()
		a.past.move(1, at(1, 8))
		f.validator("v", 0).mustJoin(b, map[int]record.Cursor{2: at(1, 20), 3: at(2, 3)})
		lost := f.validator("w", 0).mustJoin(b, map[int]record.Cursor{1: at(1, 7), 2: at(1, 22)})
		lost.hangUp()
		time.Sleep(15 * time.Second)
		s := &stream{wants: make(chan int, partitions), ended: make(chan error, 1)}
		err := a.Registry.join(t.Context(), s, f.validator("x", 0).next(nil))
		floor, known, _ := a.Floor()
		if err != nil || !known || len(floor) != partitions {
			t.Fatalf("%v, %t, %v", floor, known, err)
		}
		for partition, want := range []record.Cursor{at(1, 1), at(1, 8), at(1, 22), at(2, 3)} {
			if floor[partition].Cursor != want || floor[partition].Partition != partition || floor[partition].StoreID != "store" {
				t.Errorf("%+v, want %v", floor[partition], want)
			}
		}
		for partition, want := range [][]record.Cursor{
			{at(1, 1)},
			{at(1, 8), at(1, 7)},
			{at(1, 1), at(1, 20), at(1, 22)},
			{at(1, 1), at(2, 3)},
		} {
			got := a.Highest(partition)
			for _, c := range want {
				if !slices.Contains(got, c) {
					t.Errorf("highest of %d: %v, want %v", partition, got, want)
				}
			}
		}
	})
}

// audited is an audit function that succeeds.
func audited(context.Context) error { return nil }
