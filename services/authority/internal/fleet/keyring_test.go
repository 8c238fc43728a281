package fleet

import (
	"context"
	"encoding/json"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
)

// ringsOf returns a key ring, and a ring that also has a newer key.
func ringsOf(t *testing.T) (old, both *keyring.Ring) {
	ring := func(current string, ids ...string) *keyring.Ring {
		keys := map[string][]byte{}
		for _, id := range ids {
			keys[id] = make([]byte, 32)
			copy(keys[id], id)
		}
		raw, err := json.Marshal(map[string]any{"current": current, "keys": keys})
		if err != nil {
			t.Fatal(err)
		}
		r, err := keyring.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	return ring("k1", "k1"), ring("k2", "k1", "k2")
}

// TestB24_ListThatAnOlderKeyRingCannotReadIsLeftAlone: the list is signed with a key that an authority lacks.
// That authority does not replace the list, and completes no receipt. Validators can still join and leave
// there.
func TestB24_ListThatAnOlderKeyRingCannotReadIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		old, both := ringsOf(t)
		meta := f.codec.Meta()
		f.codec = record.NewCodec(both, meta)
		f.begin()
		a := f.authority()
		v := f.validator("v", 0).mustJoin(a, first())
		f.validator("w", 0).mustJoin(a, first()).hangUp()
		time.Sleep(2 * time.Second)
		a.stop()
		var list string
		f.shared.edit(func(hash map[string]string) {
			list = hash[record.MembersField]
			delete(hash, "v")
			delete(hash, "w")
		})

		f.codec = record.NewCodec(old, meta)
		b := f.authority()
		v.mustJoin(b, first())
		left := f.validator("left", 0).mustJoin(b, first())
		if err := b.leave(t.Context(), left.next(nil)); err != nil {
			t.Fatal(err)
		}
		alive(t, 3*time.Second, v)
		r, _, _ := b.wait(at(1, 1), time.Second)()
		if want := map[string]State{"v": Applied, record.UnknownMembers: Lost}; r.Complete || !maps.Equal(statesOf(r), want) {
			t.Errorf("at the authority without the key: got %+v", r)
		}
		b.stop()
		f.shared.edit(func(hash map[string]string) {
			if hash[record.MembersField] != list {
				t.Error("the list was replaced")
			}
		})

		f.codec = record.NewCodec(both, meta)
		c := f.authority()
		v.mustJoin(c, first())
		alive(t, Lease+2*time.Second, v)
		c.want("at an authority with the key", map[string]string{"v": "REPORTING", "w": "LOST"})
	})
}

// TestB24_ListOfARetiredKeyIsReplacedByCommand: the list is signed with a key that no authority has.
// Forgetting the unknown members replaces the list, and leaves an audit row.
func TestB24_ListOfARetiredKeyIsReplacedByCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		old, both := ringsOf(t)
		meta := f.codec.Meta()
		f.codec = record.NewCodec(both, meta)
		f.begin()
		a := f.authority()
		v := f.validator("v", 0).mustJoin(a, first())
		a.stop()
		f.shared.edit(func(hash map[string]string) { delete(hash, "v") })
		f.codec = record.NewCodec(old, meta)
		b := f.authority()
		v.mustJoin(b, first())
		rows := 0
		if err := b.Forget(t.Context(), record.UnknownMembers, func(context.Context) error { rows++; return nil }); err != nil ||
			rows != 1 {
			t.Fatalf("forgetting the members: got %v, %d audit rows, want 1", err, rows)
		}
		alive(t, 2*time.Second, v)
		for _, who := range []*authority{b, f.authority()} {
			who.want("afterwards", map[string]string{"v": "REPORTING"})
		}
	})
}

// TestB24_TwoKeyRingsAtOnce: one authority has a new key and another has not. They do not replace each
// other's list of members.
func TestB24_TwoKeyRingsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		old, both := ringsOf(t)
		meta := f.codec.Meta()
		f.codec = record.NewCodec(both, meta)
		f.begin()
		a := f.authority()
		v := f.validator("v", 0).mustJoin(a, first())
		f.codec = record.NewCodec(old, meta)
		b := f.authority()
		alive(t, 2*time.Second, v)
		f.shared.edit(func(map[string]string) { f.shared.enrolled = 0 })
		alive(t, time.Minute, v)
		f.shared.edit(func(map[string]string) {
			if f.shared.enrolled > 0 {
				t.Errorf("got %d changes of the list in a minute, want 0", f.shared.enrolled)
			}
		})
		if r, _, _ := a.wait(at(1, 1), time.Second)(); !r.Complete {
			t.Errorf("at the authority with the key: got %+v, want it complete", r)
		}
		if r, _, _ := b.wait(at(1, 1), time.Second)(); r.Complete {
			t.Errorf("at the authority without the key: got %+v, want it incomplete", r)
		}
	})
}
