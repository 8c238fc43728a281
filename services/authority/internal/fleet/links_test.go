package fleet

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// TestLinks: Links asks one validator at each cursor, and every validator that has orphans. It returns each
// link once.
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

// TestB30_OfThoseAtOnePlaceTheOneIsAskedWhoseLinksGoBackFurthest: of the validators at one cursor, the one
// with the earliest links is asked. A restarted validator holds fewer links, and its answer would pass for
// all links of the fleet. A validator of an earlier release does not report where its links begin, and is
// asked as well.
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
				t.Errorf("%s: got %d validators asked, want %d", when, len(got), len(want))
			}
			for _, v := range want {
				if !slices.Contains(got, v.stream) {
					t.Errorf("%s: validator %s is not asked", when, v.hello.validator.ID)
				}
			}
		}
		wantAsked("with a validator that holds all links", long)
		old := f.validator("old", 0).mustJoin(a, to(at(1, 50)))
		wantAsked("with a validator of an earlier release", long, old)
		long.hangUp()
		old.hangUp()
		wantAsked("after both have ended their streams", short[0])
		// The validator has read links from before the ones it had loaded. Its cursor has not moved.
		wantAsked("when another validator has read earlier links", tell(short[7], 3))
	})
}
