package table_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/countersign/countersign/pkg/table"
)

// writes is how many changes a concurrent test makes.
const writes = 20_000

// TestReaderNeverSeesAnEntryOlderThanTheRevisionItRead: entries include every change up to the revision,
// while the writer changes entries and swaps whole partitions.
func TestReaderNeverSeesAnEntryOlderThanTheRevisionItRead(t *testing.T) {
	const apps = 16
	ids := make([]string, apps)
	for i := range ids {
		ids[i] = fmt.Sprintf("app%d", i)
	}
	tab := table.New(1)
	newest := map[string]*table.Entry{}
	for i, id := range ids {
		newest[id] = entry(uint64(i + 1))
	}
	tab.Swap(0, table.NewPartition(newest, apps))

	var done atomic.Bool
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			last := make([]uint64, apps)
			for n := 0; !done.Load(); n++ {
				i := n % apps
				place := tab.Locate(ids[i])
				tab.Fetch(place)
				view := tab.FindAt(place, ids[i])
				// Change r was made to app (r-1) mod apps, so this is the app's latest change up to the
				// revision.
				least := view.Revision - (view.Revision-1-uint64(i))%apps
				if view.Entry() == nil || view.Entry().Revision < least {
					t.Errorf("revision %d with an entry of %s older than %d: %+v", view.Revision, ids[i], least, view.Entry())
					return
				}
				if view.Entry().Revision < last[i] {
					t.Errorf("%s goes back from %d to %d", ids[i], last[i], view.Entry().Revision)
					return
				}
				last[i] = view.Entry().Revision
			}
		})
	}
	for r := uint64(apps + 1); r < writes; r++ {
		id := ids[(r-1)%apps]
		newest[id] = entry(r)
		if r%97 == 0 {
			tab.Swap(0, table.NewPartition(newest, r))
			continue
		}
		p := tab.Partition(0)
		p.Put(id, newest[id])
		p.SetRevision(r)
	}
	done.Store(true)
	readers.Wait()
}

// TestSwapIsAllOrNothing: a reader sees the revision and the entry of the same partition.
func TestSwapIsAllOrNothing(t *testing.T) {
	tab := table.New(1)
	swap := func(r uint64) {
		entries := map[string]*table.Entry{"a": entry(r), "b": entry(r)}
		if r%2 == 0 {
			delete(entries, "b")
		}
		tab.Swap(0, table.NewPartition(entries, r))
	}
	swap(1)
	var done atomic.Bool
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for !done.Load() {
				p := tab.Partition(0)
				a, b := p.Get("a"), p.Get("b")
				if b != nil && a.Revision != b.Revision || (b == nil) != (a.Revision%2 == 0) || p.Len() != 1+int(a.Revision%2) {
					t.Errorf("a mixture: %+v and %+v", a, b)
					return
				}
				view := tab.Find("a")
				if view.Revision != view.Entry().Revision {
					t.Errorf("revision of one and entry of another: %d with %+v", view.Revision, view.Entry())
					return
				}
				if view := tab.Find("b"); (view.Entry() != nil) != (view.Revision%2 == 1) {
					t.Errorf("revision of one and entries of another: %+v", view)
					return
				}
			}
		})
	}
	for r := uint64(2); r < writes; r++ {
		swap(r)
	}
	done.Store(true)
	readers.Wait()
}
