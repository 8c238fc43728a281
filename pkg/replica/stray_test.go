package replica_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestStrayFieldsAreLeftOut: a field that is proven not to be a policy keeps no replica from loading, and
// opens nothing (B20). Its app counts as an app without a policy, and all other apps are intact.
func TestStrayFieldsAreLeftOut(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fields func(w *world, apps []string) map[string][]byte
		// undecidable are apps whose own document is damaged as well.
		undecidable func(w *world, apps []string) []string
	}{
		{name: "no app id", fields: func(*world, []string) map[string][]byte {
			return map[string][]byte{
				"not an app id!": []byte("x"), strings.Repeat("long", 100_000): []byte("x"), "": []byte("x"),
				"\xff\n": nil,
			}
		}},
		{name: "an app of another partition", fields: func(w *world, _ []string) map[string][]byte {
			return map[string][]byte{w.store.App(1, 0): w.store.RawDocument(w.store.App(1, 0))}
		}},
		{name: "garbage under the id of an app of the partition", fields: func(w *world, _ []string) map[string][]byte {
			return map[string][]byte{w.store.App(0, 50): []byte("garbage")}
		}},
		{name: "much of it", fields: func(w *world, _ []string) map[string][]byte {
			all := map[string][]byte{}
			for i := range 40 {
				all[w.store.App(0, 50+i)] = fmt.Appendf(nil, "garbage %d", i)
			}
			return all
		}},
		{name: "another app's document", fields: func(w *world, apps []string) map[string][]byte {
			return map[string][]byte{w.store.App(0, 50): w.store.RawDocument(apps[1])}
		}},
		{name: "beside a damaged document that can be read", fields: func(w *world, apps []string) map[string][]byte {
			return map[string][]byte{w.store.App(0, 50): []byte("garbage"), w.store.App(0, 51): flipped(w.store.RawDocument(apps[1]))}
		}, undecidable: func(w *world, apps []string) []string {
			w.store.SetDocument(apps[2], flipped(w.store.RawDocument(apps[2])))
			return apps[2:3]
		}},
		{name: "beside a damaged document that cannot be read", fields: func(w *world, _ []string) map[string][]byte {
			return map[string][]byte{w.store.App(0, 50): []byte("garbage"), w.store.App(0, 51): nil}
		}, undecidable: func(w *world, apps []string) []string {
			w.store.SetDocument(apps[2], []byte("garbage"))
			return apps[2:3]
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, 2, func(w *world) {
				apps := w.fill(0, 5)
				w.fill(1, 1)
				fields := tt.fields(w, apps)
				var undecidable []string
				if tt.undecidable != nil {
					undecidable = tt.undecidable(w, apps)
				}
				for field, raw := range fields {
					if raw == nil {
						raw = []byte{}
					}
					w.store.SetField(0, field, raw)
				}
				w.start()
				w.mustLoad()
				w.mustDifferIn(0, undecidable...)
				for _, app := range undecidable {
					if entry := w.entry(app); entry == nil || entry.Policy != nil {
						w.Errorf("the damaged %s: %+v, want no policy, but an entry", app, entry)
					}
				}
				for field := range fields {
					if view := w.r.Table().Find(field); len(field) <= 64 && w.store.Codec().PartitionOf(field) == 0 && view.Entry() != nil {
						w.Errorf("%q has %+v", field, view.Entry())
					}
				}
				if n := w.r.Stats().Strays; n != uint64(len(fields)) {
					w.Errorf("%d strays were counted, want %d", n, len(fields))
				}
				if w.log.count("ERROR") == 0 || len(w.log.String()) > 20_000 {
					w.Errorf("the log says %d bytes", len(w.log.String()))
				}
				w.commit(apps[1], storetest.AddToken("third"))
				w.pass(enough)
				w.mustBeFresh(0)
				w.mustDifferIn(0, undecidable...)
			})
		})
	}
}

func flipped(raw []byte) []byte {
	raw = bytes.Clone(raw)
	raw[len(raw)-1] ^= 1
	return raw
}

// TestB20_StrayFieldsHideNothing: an extra field does not make up for a document that is missing, old, or
// newer than the head.
func TestB20_StrayFieldsHideNothing(t *testing.T) {
	for name, damage := range map[string]func(w *world, apps []string){
		"a document is missing": func(w *world, apps []string) {
			w.store.SetDocument(apps[2], nil)
			w.store.SetDocument(w.store.App(0, 50), []byte("garbage"))
		},
		"a document is missing, and a stray claims its revision": func(w *world, apps []string) {
			w.store.SetDocument(w.store.App(0, 50), flipped(w.store.RawDocument(apps[2])))
			w.store.SetDocument(apps[2], nil)
		},
		"a document is old": func(w *world, apps []string) {
			old := w.store.RawDocument(apps[2])
			w.store.Commit(apps[2], storetest.AddToken("third"))
			w.store.SetDocument(apps[2], old)
			w.store.SetDocument(w.store.App(0, 50), []byte("garbage"))
		},
		"a document that verifies is not counted": func(w *world, _ []string) {
			before := w.store.Save()
			fresh := w.store.App(0, 50)
			w.store.Commit(fresh, storetest.AddToken("first", events), storetest.Enforce(events))
			raw := w.store.RawDocument(fresh)
			w.store.RollBack(before)
			w.store.SetDocument(fresh, raw)
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 1, func(w *world) {
				apps := w.fill(0, 5)
				damage(w, apps)
				w.start()
				w.pass(enough)
				ctx, cancel := context.WithTimeout(w.Context(), enough)
				defer cancel()
				if err := w.r.WaitLoaded(ctx); err == nil {
					t.Error("it was loaded")
				}
			})
		})
	}
}
