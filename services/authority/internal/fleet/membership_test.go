package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
)

// edit changes the hash, as an attacker with write access to Redis can.
func (s *fakeShared) edit(change func(hash map[string]string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.hash)
}

// TestB24_RecordThatWasTakenAwayIsMissed: the record of a silent validator is removed or replaced while no
// authority runs. The validator stays in every receipt until it is forgotten.
func TestB24_RecordThatWasTakenAwayIsMissed(t *testing.T) {
	for name, damage := range map[string]func(hash map[string]string, earlier, gone string){
		"the record is removed":                        func(hash map[string]string, _, _ string) { delete(hash, "w") },
		"garbage in its place":                         func(hash map[string]string, _, _ string) { hash["w"] = "garbage" },
		"the record of another validator":              func(hash map[string]string, _, _ string) { hash["w"] = hash["v"] },
		"the record of an earlier instance":            func(hash map[string]string, earlier, _ string) { hash["w"] = earlier },
		"the record that an earlier instance has left": func(hash map[string]string, _, gone string) { hash["w"] = gone },
		"the records of both validators are removed": func(hash map[string]string, _,
			_ string,
		) {
			delete(hash, "w")
			delete(hash, "v")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				a := f.authority()
				v := f.validator("v", 0).mustJoin(a, first())
				old := f.validator("w", time.Second).mustJoin(a, first())
				var earlier, gone string
				f.shared.edit(func(hash map[string]string) { earlier = hash["w"] })
				if err := a.leave(t.Context(), old.next(nil)); err != nil {
					t.Fatal(err)
				}
				f.shared.edit(func(hash map[string]string) { gone = hash["w"] })
				time.Sleep(time.Second)
				f.validator("w", 0).mustJoin(a, first()).hangUp()
				a.stop()
				f.shared.edit(func(hash map[string]string) { damage(hash, earlier, gone) })
				b := f.authority()
				v.mustJoin(b, first())
				r, _, _ := b.wait(at(1, 2), time.Second)()
				if r.Complete || len(r.Entries) != 2 {
					t.Errorf("at the start of b: got %+v", r)
				}
				alive(t, Lease+time.Second, v)
				b.past.move(0, at(1, 2))
				_ = v.report(to(at(1, 2)))
				r, _, _ = b.wait(at(1, 2), time.Second)()
				if want := map[string]State{"v": Applied, "w": Lost}; r.Complete || !maps.Equal(statesOf(r), want) {
					t.Errorf("after the lease of w: got %+v", r)
				}
				c := f.authority()
				alive(t, Lease+2*time.Second, v)
				c.want("another authority", map[string]string{"v": "REPORTING", "w": "LOST"})
				if err := c.Forget(t.Context(), "w", audited); err != nil {
					t.Fatal(err)
				}
				alive(t, 2*time.Second, v)
				for _, who := range []*authority{b, c, f.authority()} {
					who.want("when it is forgotten", map[string]string{"v": "REPORTING"})
				}
				if r, _, _ = b.wait(at(1, 2), time.Second)(); !r.Complete {
					t.Errorf("after w was forgotten: got %+v", r)
				}
			})
		})
	}
}

// TestB24_ListOfMembersIsKept: the list of members is removed or damaged while an authority runs that knows
// it. The authority writes it back. In a store of an earlier release, an authority makes the list from the
// records.
func TestB24_ListOfMembersIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authority()
		v := f.validator("v", 0).mustJoin(a, first())
		var older string
		f.shared.edit(func(hash map[string]string) { older = hash[record.MembersField] })
		f.validator("w", 0).mustJoin(a, first()).hangUp()
		list := func(when string, want ...string) *record.Members {
			t.Helper()
			var raw string
			f.shared.edit(func(hash map[string]string) { raw = hash[record.MembersField] })
			got, err := f.codec.OpenMembers([]byte(raw))
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if len(got.Entries) != len(want) {
				t.Errorf("%s: got list %v, want %v", when, got.Entries, want)
			}
			for _, id := range want {
				if got.Entries[id] == nil {
					t.Errorf("%s: %s is not in the list", when, id)
				}
			}
			return got
		}
		before := list("at the start", "v", "w")
		for name, damage := range map[string]func(hash map[string]string){
			"removed": func(hash map[string]string) { delete(hash, record.MembersField) },
			"garbage": func(hash map[string]string) { hash[record.MembersField] = "garbage" },
			"older":   func(hash map[string]string) { hash[record.MembersField] = older; delete(hash, "w") },
			"wiped":   func(hash map[string]string) { clear(hash) },
		} {
			f.shared.edit(damage)
			alive(t, 2*time.Second, v)
			if now := list(name, "v", "w"); now.Sequence <= before.Sequence || !now.Since.Equal(before.Since) {
				t.Errorf("%s: got %+v, want a later sequence and the same start as %+v", name, now, before)
			}
		}
		a.stop()
		f.shared.edit(func(hash map[string]string) { delete(hash, record.MembersField) })
		meta := f.codec.Meta()
		meta.MembersListed = false
		f.codec = record.NewCodec(f.ring, meta)
		b := f.authority()
		v.mustJoin(b, first())
		time.Sleep(2 * exchangeInterval)
		if now := list("made from the records in a store of an earlier release", "v", "w"); !now.Since.After(before.Since) {
			t.Errorf("the start of the list: got %v, want a later one than of the removed list", now.Since)
		}
	})
}

// TestB24_ListThatWasTakenAwayLeavesMembersUnknown: the list of members is removed or damaged while no
// authority runs. Then no authority completes a receipt until an operator confirms the members.
func TestB24_ListThatWasTakenAwayLeavesMembersUnknown(t *testing.T) {
	for name, damage := range map[string]func(hash map[string]string){
		"removed":                       func(hash map[string]string) { delete(hash, record.MembersField) },
		"removed with a record":         func(hash map[string]string) { delete(hash, record.MembersField); delete(hash, "w") },
		"garbage, a record removed":     func(hash map[string]string) { hash[record.MembersField] = "garbage"; delete(hash, "w") },
		"empty, a record removed":       func(hash map[string]string) { hash[record.MembersField] = ""; delete(hash, "w") },
		"the whole hash removed":        func(hash map[string]string) { clear(hash) },
		"a record in place of the list": func(hash map[string]string) { hash[record.MembersField] = hash["v"]; delete(hash, "w") },
		"all removed, garbage added":    func(hash map[string]string) { clear(hash); hash["w"] = "garbage" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				a := f.authority()
				v := f.validator("v", 0).mustJoin(a, first())
				f.validator("w", 0).mustJoin(a, first()).hangUp()
				time.Sleep(2 * time.Second)
				a.stop()
				f.shared.edit(damage)
				b := f.authority()
				v.mustJoin(b, first())
				joined := f.validator("joined", 0).mustJoin(b, first())
				alive(t, Lease+2*time.Second, v, joined)
				c := f.authority()
				for _, who := range []*authority{b, c} {
					if r, _, _ := who.wait(at(1, 1), time.Second)(); r.Complete || statesOf(r)[record.UnknownMembers] != Lost {
						t.Errorf("got %v, want it incomplete, with the unknown members LOST", statesOf(r))
					}
					alive(t, time.Second, v, joined)
				}
				rows := 0
				if err := b.Forget(t.Context(), record.UnknownMembers, func(context.Context) error { rows++; return nil }); err != nil ||
					rows != 1 {
					t.Fatalf("%v, %d rows", err, rows)
				}
				alive(t, 2*time.Second, v, joined)
				for _, who := range []*authority{b, c, f.authority()} {
					for _, entry := range who.List() {
						if entry.GetValidatorId() == record.UnknownMembers {
							t.Error("the members are still unknown")
						}
					}
				}
			})
		})
	}
}

// TestManyJoinAtOnce: a hundred validators join two authorities at once. They share a few writes of the list.
func TestManyJoinAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		all := []*authority{f.authority(), f.authority()}
		time.Sleep(2 * exchangeInterval)
		f.shared.edit(func(map[string]string) { f.shared.enrolled, f.shared.slow = 0, time.Millisecond })
		var joining sync.WaitGroup
		began := time.Now()
		for i := range 100 {
			joining.Go(func() {
				if err := f.validator(fmt.Sprint("v", i), 0).join(all[i%2], first()); err != nil {
					t.Error(err)
				}
			})
		}
		joining.Wait()
		took := time.Since(began)
		f.shared.edit(func(map[string]string) {
			if f.shared.enrolled > 12 || took > time.Second {
				t.Errorf("got %d changes of the list in %v, want at most 12 in 1 s", f.shared.enrolled, took)
			}
		})
		time.Sleep(2 * exchangeInterval)
		for _, a := range all {
			if got := len(a.names()); got != 100 {
				t.Errorf("got %d validators, want 100", got)
			}
		}
	})
}

// TestB24_FieldsThatDoNotVerify: receipts name the fields of the hash that do not verify, until an operator
// forgets them. The names can be typed on a keyboard. Forgetting leaves an audit row (B23).
func TestB24_FieldsThatDoNotVerify(t *testing.T) {
	for name, field := range map[string]string{
		"a name": "ghost", "binary": "\xff\x00\xfe", "empty": "", "a megabyte": strings.Repeat("x", 1<<20), "spaces": " v ",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				a := f.authority()
				v := f.validator("v", 0).mustJoin(a, first())
				f.shared.edit(func(hash map[string]string) { hash[field] = "garbage" })
				r, _, _ := a.wait(at(1, 1), time.Second)()
				called := record.FieldName(field)
				if want := map[string]State{"v": Applied, called: Lost}; r.Complete || !maps.Equal(statesOf(r), want) ||
					!ValidID(called) {
					t.Errorf("got %+v, want it incomplete, with the field LOST", r)
				}
				a.want("listed", map[string]string{"v": "REPORTING", called: "UNREADABLE"})
				if err := a.Forget(t.Context(), "somebody", audited); apierr.ReasonOf(err) != "VALIDATOR_NOT_FOUND" {
					t.Errorf("forgetting an unknown name: got %v, want VALIDATOR_NOT_FOUND", err)
				}
				// The caller waits for v only. The record was LOST when the wait began, and does not block
				// it.
				a.past.move(0, at(1, 2))
				result := a.wait(at(1, 2), time.Minute)
				refused, rows := errors.New("no row"), 0
				if err := a.Forget(t.Context(), called, func(context.Context) error { return refused }); !errors.Is(err, refused) {
					t.Errorf("forgetting without an audit row: got %v, want the error of audit", err)
				}
				if r, took, _ := a.wait(at(1, 1), time.Minute)(); r.Complete || took > 0 {
					t.Errorf("after an audit row that could not be written: got %+v", r)
				}
				if err := a.Forget(t.Context(), called, func(context.Context) error { rows++; return nil }); err != nil || rows != 1 {
					t.Fatalf("%v, %d audit rows", err, rows)
				}
				_ = v.report(to(at(1, 2)))
				if r, took, _ := result(); !r.Complete || took > time.Second {
					t.Errorf("after the field was forgotten, after %v: got %+v, want it complete", took, r)
				}
				alive(t, time.Second, v)
				a.want("when the field was forgotten", map[string]string{"v": "REPORTING"})
			})
		})
	}
}

// TestB30_ValidatorsThatNobodyKnowsOfHaveALeaseToReportIn: the list of members may lack validators that run.
// Then a new authority gives unlisted validators a lease to report, as it does for listed ones. A store whose
// list was never removed has no unlisted validators.
func TestB30_ValidatorsThatNobodyKnowsOfHaveALeaseToReportIn(t *testing.T) {
	for name, tt := range map[string]struct {
		damage func(f *fixture)
		lacks  bool
	}{
		"a new store":                        {damage: func(*fixture) {}},
		"a restoration has begun a new list": {damage: func(f *fixture) { f.beginAt(time.Now()) }, lacks: true},
		"a new list, and a validator has joined another authority": {damage: func(f *fixture) {
			f.beginAt(time.Now())
			f.validator("v", 0).mustJoin(f.authority(), first())
		}, lacks: true},
		"the list is removed": {damage: func(f *fixture) {
			f.shared.edit(func(hash map[string]string) { delete(hash, record.MembersField) })
		}, lacks: true},
		"the list is damaged": {damage: func(f *fixture) {
			f.shared.edit(func(hash map[string]string) { hash[record.MembersField] = "garbage" })
		}, lacks: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				time.Sleep(time.Hour)
				tt.damage(f)
				a := f.authority()
				lacks := func() bool {
					_, silent := a.Present(0, time.Time{})
					return slices.Contains(silent, record.UnknownMembers)
				}
				if got := lacks(); got != tt.lacks {
					t.Errorf("at the start: got a wait for unlisted validators: %t", got)
				}
				time.Sleep(Lease)
				if got := lacks(); got != tt.lacks {
					t.Errorf("at the end of the lease: got a wait for unlisted validators: %t", got)
				}
				time.Sleep(time.Millisecond)
				if lacks() {
					t.Error("after the lease: got a wait for unlisted validators, want none")
				}
			})
		})
	}
}
