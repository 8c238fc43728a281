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

// names returns the validators that an authority knows, with their states.
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
		a.t.Errorf("%s: %v, want %v", when, got, want)
	}
}

func (a *authority) cursor(id string, partition int) record.Cursor {
	a.Registry.mu.Lock()
	defer a.Registry.mu.Unlock()
	return a.members[id].Cursors[partition]
}

// TestB24_AuthoritiesShareWhatTheyKnow: the other authority knows a change within milliseconds, and within a
// second when news is lost.
func TestB24_AuthoritiesShareWhatTheyKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, b := f.authority(), f.authority()
		v := f.validator("v", 0).mustJoin(a, first())
		time.Sleep(publishInterval)
		synctest.Wait()
		b.want("when it has joined", map[string]string{"v": "REPORTING"})
		_ = v.report(to(at(1, 2)))
		time.Sleep(publishInterval)
		synctest.Wait()
		if got := b.cursor("v", 0); got != at(1, 2) {
			t.Errorf("after 10 ms: %v", got)
		}
		f.shared.mu.Lock()
		f.shared.deaf = true
		f.shared.mu.Unlock()
		_ = v.report(to(at(1, 3)))
		time.Sleep(2*exchangeInterval + publishInterval)
		synctest.Wait()
		if got := b.cursor("v", 0); got != at(1, 3) {
			t.Errorf("without news: %v", got)
		}
	})
}

// TestB24_LostNewsAreMadeUpFor: lost news of one partition is known within a second, also when later news of
// the same validator arrives.
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
		for range 100 { // news of each are heard before the hash has it
			_ = v.report(map[int]record.Cursor{})
			time.Sleep(2 * publishInterval)
		}
		synctest.Wait()
		if got := b.cursor("v", 0); got != at(1, 2) {
			t.Errorf("two seconds later: %v", got)
		}
	})
}

// TestB24_LeasesAreJudgedByOwnClock: whatever times a record has, a validator is alive while its sequence
// grows.
func TestB24_LeasesAreJudgedByOwnClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, b := f.authority(), f.authority()
		v := f.validator("v", 0).mustJoin(a, first())
		// The other authority's clock is not shared, so the test falsifies the record.
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
		// A restarted authority gives every validator another lease.
		c := f.authority()
		c.want("at the start", map[string]string{"v": "REPORTING", "w": "REPORTING"})
		alive(t, Lease+2*exchangeInterval, v)
		c.want("after its lease", map[string]string{"v": "REPORTING", "w": "LOST"})
	})
}

// TestB24_LostUntilForgotten: a silent validator is LOST on every authority, through restarts of all and a
// wiped hash, until it is forgotten on all.
func TestB24_LostUntilForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, b := f.authority(), f.authority()
		v, w := f.validator("v", 0).mustJoin(a, first()), f.validator("w", 0).mustJoin(b, first())
		if err := a.Forget(t.Context(), "w", audited); apierr.ReasonOf(err) != "VALIDATOR_REPORTS" {
			t.Errorf("one that reports: %v", err)
		}
		if err := a.Forget(t.Context(), "x", audited); apierr.ReasonOf(err) != "VALIDATOR_NOT_FOUND" {
			t.Errorf("one that never was: %v", err)
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
			t.Errorf("forgotten without a row: %v", err)
		}
		rows := 0
		if err := d.Forget(t.Context(), "w", func(context.Context) error { rows++; return nil }); err != nil || rows != 1 {
			t.Fatal(err)
		}
		alive(t, 2*time.Second, v)
		one := map[string]string{"v": "REPORTING"}
		for name, who := range map[string]*authority{"a": a, "c": c, "d": d} {
			who.want(name+" when it is forgotten", one)
		}
		if err := a.Forget(t.Context(), "w", audited); apierr.ReasonOf(err) != "VALIDATOR_NOT_FOUND" {
			t.Errorf("one that is forgotten: %v", err)
		}
		alive(t, goneLife+time.Minute, v)
		a.want("an hour later", one)
		f.shared.mu.Lock()
		if keys := slices.Collect(maps.Keys(f.shared.hash)); len(keys) != 2 || f.shared.hash["v"] == "" ||
			f.shared.hash[record.MembersField] == "" {
			t.Errorf("the hash has %v", keys)
		}
		f.shared.mu.Unlock()
		// A forgotten validator can come back.
		w.mustJoin(c, first())
		time.Sleep(time.Second)
		synctest.Wait()
		a.want("when it is back", map[string]string{"v": "REPORTING", "w": "REPORTING"})
	})
}

// TestB24_TwoOfOneName: of two validators with one name, the one that was started later counts, on whichever
// authority.
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
			t.Error("the older one still reports")
		}
		if err := older.join(a, first()); apierr.ReasonOf(err) != "VALIDATOR_ID_TAKEN" {
			t.Errorf("the older one joins again: %v", err)
		}
		if all := a.List(); len(all) != 1 || !all[0].GetIdContested() {
			t.Errorf("it is listed that two have the name: %v", all)
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if err := older.join(b, first()); apierr.ReasonOf(err) != "VALIDATOR_ID_TAKEN" {
			t.Errorf("the older one joins elsewhere: %v", err)
		}
		if err := newer.report(nil); err != nil {
			t.Errorf("the newer one: %v", err)
		}
		time.Sleep(Lease)
		if all := a.List(); all[0].GetIdContested() {
			t.Errorf("it is listed that two have the name, though the older one has given up: %v", all)
		}
		// The newer one has stopped without leaving, and the older one's clock was wrong.
		newer.hangUp()
		time.Sleep(claim + time.Second)
		older.mustJoin(b, to(at(1, 7)))
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := a.cursor("v", 0); got != at(1, 7) {
			t.Errorf("the other authority has %v", got)
		}
		if err := newer.join(a, first()); apierr.ReasonOf(err) != "VALIDATOR_ID_TAKEN" {
			t.Errorf("the newer one joins again: %v", err)
		}
	})
}

// TestB24_MovesToAnotherAuthority: one instance moves, and its streams overlap or not.
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
				t.Error("the stream that is half open ends without a reason")
			}
		default:
			t.Error("the stream that is half open is still open")
		}
		if got := a.cursor("v", 0); got != at(1, 5) {
			t.Errorf("where it was before: %v", got)
		}
		if half.report(nil) == nil {
			t.Error("the stream that is half open may report")
		}
		alive(t, 20*time.Second, v)
		a.want("where it was before", map[string]string{"v": "REPORTING"})
	})
}

// TestB24_ForgedRecordsAreNotBelieved: write access to Redis adds no validator to the fleet, and removes
// none. A record that does not verify may replace a validator's, so no receipt is complete meanwhile.
func TestB24_ForgedRecordsAreNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		v := f.validator("v", 0).mustJoin(a, first())
		time.Sleep(2 * exchangeInterval)
		f.shared.mu.Lock()
		f.shared.hash["w"] = f.shared.hash["v"] // of another name
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
			t.Errorf("%+v, %v", r, err)
		}
		f.shared.mu.Lock()
		delete(f.shared.hash, "w")
		delete(f.shared.hash, "x")
		f.shared.mu.Unlock()
		if r, took, err := a.wait(at(1, 1), time.Second)(); err != nil || !r.Complete || took != 0 {
			t.Errorf("%+v, %v after %v", r, err, took)
		}
	})
}

// TestB24_JoinNeedsTheOthers: a validator that the others cannot know is rejected; one that they know is
// accepted.
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
			t.Errorf("a new one: %v", err)
		}
		if err := known.join(a, first()); err != nil {
			t.Errorf("a known one: %v", err)
		}
		if err := a.leave(t.Context(), known.next(nil)); apierr.ReasonOf(err) != apierr.StoreUnavailable {
			t.Errorf("one that leaves: %v", err)
		}
		a.want("then", map[string]string{"known": "REPORTING"})
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

// audited lets a validator be forgotten.
func audited(context.Context) error { return nil }
