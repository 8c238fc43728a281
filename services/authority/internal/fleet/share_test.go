package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// names are those of the validators that an authority knows of, with their states.
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

// TestB24_AuthoritiesShareWhatTheyKnow: a change is known to the other within milliseconds, and within a
// second when the news is not heard.
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

// TestB24_LostNewsAreMadeUpFor: news that were not heard, of one partition, are known within a second also
// when later ones of the same validator are heard.
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

// TestB24_LeasesAreJudgedByOwnClock: whatever the record says of times, a validator lives while its
// sequence grows.
func TestB24_LeasesAreJudgedByOwnClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, b := f.authority(), f.authority()
		v := f.validator("v", 0).mustJoin(a, first())
		// Nothing is heard of the other's clock: the record is made to lie.
		lie := func(by time.Duration) {
			raw, err := f.codec.SealValidator(&record.Validator{
				ID: "w", InstanceID: "w", Start: time.Now(), Sequence: uint64(time.Now().UnixNano()), Reported: time.Now().Add(by), Cursors: first(),
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
		// One that is started again gives everybody another lease.
		c := f.authority()
		c.want("at the start", map[string]string{"v": "REPORTING", "w": "REPORTING"})
		alive(t, Lease+2*exchangeInterval, v)
		c.want("after its lease", map[string]string{"v": "REPORTING", "w": "LOST"})
	})
}

// TestB24_LostUntilForgotten: on every authority, through restarts of all, and through a wiped hash; and
// then on none.
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

		// Without its audit row nobody is forgotten (B23).
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
		if keys := slices.Collect(maps.Keys(f.shared.hash)); len(keys) != 2 || f.shared.hash["v"] == "" || f.shared.hash[record.MembersField] == "" {
			t.Errorf("the hash has %v", keys)
		}
		f.shared.mu.Unlock()
		// It comes back all the same.
		w.mustJoin(c, first())
		time.Sleep(time.Second)
		synctest.Wait()
		a.want("when it is back", map[string]string{"v": "REPORTING", "w": "REPORTING"})
	})
}

// TestB24_TwoOfOneName: the one that was started later counts, on whichever authority.
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
		// The newer one has gone without a word, and the older clock was wrong.
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

// TestB24_MovesToAnotherAuthority: one instance, whose streams overlap or not.
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

// TestB24_ForgedRecordsAreNotBelieved: whoever can write Redis puts nobody into the fleet, and takes nobody
// out of it. A record that does not verify may stand where that of a validator stood, so no receipt is
// complete meanwhile.
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
		gone, _ := foreign.codec.SealNews([]*record.Validator{{ID: "v", InstanceID: v.hello.validator.InstanceID, Sequence: 1 << 40, Gone: true}})
		_ = f.shared.Tell(t.Context(), gone)
		_ = f.shared.Tell(t.Context(), []byte("garbage"))
		alive(t, 3*time.Second, v)
		b := f.authority()
		for name, who := range map[string]*authority{"a": a, "b": b} {
			who.want(name, map[string]string{"v": "REPORTING", "w": "UNREADABLE", "x": "UNREADABLE"})
		}
		r, _, err := a.wait(at(1, 1), time.Second)()
		if want := map[string]State{"v": Applied, "w": Lost, "x": Lost}; err != nil || r.Complete || !maps.Equal(statesOf(r), want) {
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

// TestB24_JoinNeedsTheOthers: one that others cannot know of is not let in, one that they know is.
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

// TestB20_Floor is the highest of what the authority and any validator has seen.
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
		for partition, want := range [][]record.Cursor{{at(1, 1)}, {at(1, 8), at(1, 7)}, {at(1, 1), at(1, 20), at(1, 22)}, {at(1, 1), at(2, 3)}} {
			got := a.Highest(partition)
			for _, c := range want {
				if !slices.Contains(got, c) {
					t.Errorf("highest of %d: %v, want %v", partition, got, want)
				}
			}
		}
	})
}

// TestB24_Notices: of what the store may have lost.
func TestB24_Notices(t *testing.T) {
	for _, tt := range []struct {
		name   string
		report func(f *fixture, a *authority, v *reporter)
		after  time.Duration // when there is to be a notice; negative: never
	}{
		{"it is where the authority is", func(_ *fixture, _ *authority, v *reporter) { _ = v.report(nil) }, -1},
		{"it is behind", func(_ *fixture, a *authority, v *reporter) { a.past.move(0, at(1, 9)) }, -1},
		{"it is ahead until the next read", func(_ *fixture, a *authority, v *reporter) {
			time.Sleep(10 * time.Millisecond)
			_ = v.report(to(at(1, 2)))
			time.Sleep(100 * time.Millisecond)
			a.past.move(0, at(1, 2))
		}, -1},
		{"it is ahead of an authority that cannot read the store", func(_ *fixture, a *authority, v *reporter) {
			a.past.mu.Lock()
			a.past.reads = time.Now()
			a.past.mu.Unlock()
			_ = v.report(to(at(1, 2)))
		}, -1},
		{"it stays ahead", func(_ *fixture, _ *authority, v *reporter) { _ = v.report(to(at(1, 2))) }, 500 * time.Millisecond},
		{"it stays an epoch ahead", func(_ *fixture, _ *authority, v *reporter) { _ = v.report(to(at(2, 2))) }, 500 * time.Millisecond},
		{"it is on another turn", func(_ *fixture, a *authority, v *reporter) {
			a.past.move(0, at(1, 9))
			_ = v.report(to(off(1, 5)))
		}, 0},
		{"it is in an epoch that is over", func(_ *fixture, a *authority, v *reporter) {
			a.past.move(0, at(2, 9))
			_ = v.report(to(off(1, 5)))
		}, -1},
		{"it has orphans", func(_ *fixture, a *authority, v *reporter) {
			u := v.next(nil)
			u.orphans = map[int][]record.Tag{0: {{1}}}
			_ = a.Registry.report(v.stream, u)
		}, 0},
		{"another authority's validator stays ahead", func(f *fixture, _ *authority, _ *reporter) {
			f.validator("w", 0).mustJoin(f.authority(), to(at(1, 2)))
		}, 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				a := f.authority()
				v := f.validator("v", 0).mustJoin(a, first())
				tt.report(f, a, v)
				count := func() int {
					a.mu.Lock()
					defer a.mu.Unlock()
					return a.noticed[0]
				}
				if tt.after != 0 && count() > 0 {
					t.Error("noticed at once")
				}
				time.Sleep(max(tt.after, 0) + 2*sweepInterval)
				first := count()
				alive(t, 5*time.Second, v)
				if noticed := first > 0; noticed != (tt.after >= 0) || noticed && count() <= first {
					t.Errorf("noticed %d times, and then %d", first, count())
				}
			})
		})
	}
}

// TestB24_OrphansAreCounted, until there are none any more.
func TestB24_OrphansAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		v := f.validator("v", 0).mustJoin(a, first())
		for _, tt := range []struct {
			orphans map[int][]record.Tag
			want    uint32
		}{
			{map[int][]record.Tag{0: {{1}, {2}}, 1: {{3}}}, 3}, {map[int][]record.Tag{0: {{1}}}, 2}, {map[int][]record.Tag{0: nil, 1: nil}, 0},
		} {
			u := v.next(nil)
			u.orphans = tt.orphans
			_ = a.Registry.report(v.stream, u)
			want := tt.want
			if got := a.List()[0].GetOrphanCount(); got != want {
				t.Errorf("%d orphans, want %d", got, want)
			}
		}
	})
}

// TestSilentDivergence: data that is not the authority's at the same place is counted once for each place.
func TestSilentDivergence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		v := f.validator("v", 0).mustJoin(a, nil)
		good := f.codec.SealSum(0, record.Sum{}).MAC
		send := func(cursor record.Cursor, digest [32]byte) {
			u := v.next(to(cursor))
			u.digests[0] = digest
			_ = a.Registry.report(v.stream, u)
			time.Sleep(3 * time.Second)
		}
		send(at(1, 1), good)
		a.past.move(0, at(1, 3))
		send(at(1, 2), [32]byte{1}) // it is behind: nothing to compare with
		send(at(1, 3), good)
		if got := testutil.ToFloat64(a.metrics.divergences); got != 0 {
			t.Errorf("%v divergences", got)
		}
		send(at(1, 4), [32]byte{1})
		a.past.move(0, at(1, 4)) // the authority comes there later
		time.Sleep(3 * time.Second)
		if got := testutil.ToFloat64(a.metrics.divergences); got != 1 {
			t.Errorf("%v divergences", got)
		}
	})
}

// TestLinks: one validator of each place is asked, and all that hold what the store does not have; what
// they send is gathered once.
func TestLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		all := map[string]*reporter{}
		for _, id := range []string{"a1", "a2", "a3"} {
			all[id] = f.validator(id, 0).mustJoin(a, to(at(1, 5)))
		}
		all["b"] = f.validator("b", 0).mustJoin(a, to(at(1, 4)))
		all["c"] = f.validator("c", 0).mustJoin(a, to(at(1, 4)))
		all["gone"] = f.validator("gone", 0).mustJoin(a, to(at(1, 3)))
		all["gone"].hangUp()
		u := all["c"].next(nil)
		u.orphans = map[int][]record.Tag{0: {{1}}}
		_ = a.Registry.report(all["c"].stream, u)

		gather := func(most time.Duration, answer func(id string)) [][]byte {
			ctx, cancel := context.WithTimeout(t.Context(), most)
			defer cancel()
			result := make(chan [][]byte)
			go func() { result <- a.Links(ctx, 0) }()
			synctest.Wait()
			var asked []string
			for id, v := range all {
				select {
				case <-v.stream.wants:
					asked = append(asked, id[:1])
					answer(id)
				default:
				}
			}
			if slices.Sort(asked); !slices.Equal(asked, []string{"a", "b", "c"}) {
				t.Errorf("asked %v", asked)
			}
			return <-result
		}
		batch := func(id string, last bool, links ...string) {
			m := &countersignv1.LinkBatch{Last: last}
			for _, link := range links {
				m.Links = append(m.Links, []byte(link))
			}
			a.gathered(all[id].stream, m)
		}
		links := gather(time.Second, func(id string) {
			batch(id, false, "1", "2")
			batch(id, true, "2", id[:1])
		})
		if len(links) != 5 {
			t.Errorf("%q", links)
		}
		began := time.Now()
		links = gather(time.Second, func(id string) {
			batch(id, id != "c", "1")
		})
		if took := time.Since(began); took != time.Second || len(links) != 1 {
			t.Errorf("%q after %v", links, took)
		}
		began = time.Now()
		links = gather(time.Second, func(id string) {
			if batch(id, false, "1"); id[:1] != "x" {
				all[id].hangUp()
			}
		})
		if took := time.Since(began); took != 0 || len(links) != 1 {
			t.Errorf("%q after %v", links, took)
		}
	})
}

// TestB30_OfThoseAtOnePlaceTheOneIsAskedWhoseLinksGoBackFurthest: one that was restarted holds less, and an
// answer from it would pass for all that the fleet holds. One of an earlier release does not tell how much
// it holds, and is asked beside it.
func TestB30_OfThoseAtOnePlaceTheOneIsAskedWhoseLinksGoBackFurthest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		tell := func(v *reporter, begins uint64) *reporter {
			u := v.next(to(at(1, 50)))
			u.begins = map[int]uint64{0: begins}
			if err := a.Registry.report(v.stream, u); err != nil {
				t.Fatal(err)
			}
			return v
		}
		long := tell(f.validator("long", 0).mustJoin(a, first()), 0)
		var short []*reporter
		for i := range 20 {
			short = append(short, tell(f.validator(fmt.Sprint("short", i), 0).mustJoin(a, first()), uint64(40+i)))
		}
		wantAsked := func(when string, want ...*reporter) {
			t.Helper()
			a.Registry.mu.Lock()
			got := a.holders(0)
			a.Registry.mu.Unlock()
			if len(got) != len(want) {
				t.Errorf("%s: %d are asked, want %d", when, len(got), len(want))
			}
			for _, v := range want {
				if !slices.Contains(got, v.stream) {
					t.Errorf("%s: %s is not asked", when, v.hello.validator.ID)
				}
			}
		}
		wantAsked("one holds all", long)
		old := f.validator("old", 0).mustJoin(a, to(at(1, 50)))
		wantAsked("with one of an earlier release", long, old)
		long.hangUp()
		old.hangUp()
		wantAsked("without them", short[0])
		// It has read what lies before its load, and stays where it is.
		wantAsked("when another has read the log", tell(short[7], 3))
	})
}

// audited lets a validator be forgotten.
func audited(context.Context) error { return nil }
