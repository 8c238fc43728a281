package store_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/services/store"
)

// TestNotices: entries are added once, and replaced or removed only as they were read. They are more than one
// call reads or writes.
func TestNotices(t *testing.T) {
	errands := store.NewErrands(redisClient(t, redistest.Start(t).URL()), "0123456789abcdef")
	all := map[string]string{}
	for i := range 2_345 {
		all[fmt.Sprint("n", i)] = fmt.Sprint("entry ", i)
	}
	for _, entries := range []map[string]string{nil, {"n7": "first"}, all, all} {
		before := check.Must(errands.Notices(t.Context()))(t)
		var fresh []string
		for id := range entries {
			if before[id] == "" {
				fresh = append(fresh, id)
			}
		}
		slices.Sort(fresh)
		added := check.Must(errands.AddNotices(t.Context(), entries))(t)
		if slices.Sort(added); !slices.Equal(added, fresh) {
			t.Errorf("%d were added, want %d", len(added), len(fresh))
		}
	}
	all["n7"] = "first"
	want := func(what string) {
		t.Helper()
		if got := check.Must(errands.Notices(t.Context()))(t); !maps.Equal(got, all) {
			t.Errorf("%s: %d entries, want %d", what, len(got), len(all))
		}
	}
	want("added")

	check.NoError(t, errands.PutNotice(t.Context(), "n8", "of another authority"))
	all["n8"] = "of another authority"
	from, to := map[string]string{"n8": "entry 8", "n9": "entry", "missing": "", "absent": "x"},
		map[string]string{"n8": "late", "missing": "new", "absent": "new"}
	for i := 100; i < 2_000; i++ {
		id := fmt.Sprint("n", i)
		from[id] = all[id]
		if delete(all, id); i%2 == 0 {
			all[id] = "replaced"
			to[id] = "replaced"
		}
	}
	check.NoError(t, errands.ReplaceNotices(t.Context(), from, to))
	want("replaced")
	check.NoError(t, errands.ReplaceNotices(t.Context(), nil, nil))
}
