package table_test

import (
	"fmt"
	"maps"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/table"
)

func entry(revision uint64) *table.Entry { return &table.Entry{Revision: revision} }

// partitionOf returns where a table of n partitions looks for an app.
func partitionOf(n int, app string) int {
	hash := policy.HashApp(app)
	return hash.Partition(n)
}

// TestTableIsAMap: whatever is put, swapped and searched, the table answers as a plain map would.
func TestTableIsAMap(t *testing.T) {
	const partitions = 3
	var apps []string
	for i := range 40 {
		apps = append(apps, fmt.Sprintf("app%d", i))
	}
	rapid.Check(t, func(t *rapid.T) {
		tab := table.New(partitions)
		want := make([]map[string]*table.Entry, partitions)
		revisions := make([]uint64, partitions)
		next := uint64(0)
		app := rapid.SampledFrom(apps)
		check := func() {
			for _, id := range apps {
				p := partitionOf(partitions, id)
				view := tab.Find(id)
				if view.Partition != p || view.Loaded != (want[p] != nil) || view.Revision != revisions[p] ||
					!reflect.DeepEqual(view.Entry(), want[p][id]) {
					t.Fatalf("%s: %+v, want revision %d and %+v", id, view, revisions[p], want[p][id])
				}
			}
			for i := range want {
				p := tab.Partition(i)
				if (p == nil) != (want[i] == nil) {
					t.Fatalf("partition %d is there: %v", i, p != nil)
				}
				if p != nil && (p.Len() != len(want[i]) || !reflect.DeepEqual(maps.Collect(p.All()), want[i])) {
					t.Fatalf("partition %d holds %d: %v, want %v", i, p.Len(), maps.Collect(p.All()), want[i])
				}
			}
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			next++
			id := app.Draw(t, "app")
			i := partitionOf(partitions, id)
			switch p := tab.Partition(i); {
			case p == nil || rapid.IntRange(0, 9).Draw(t, "swap") == 0:
				entries := map[string]*table.Entry{}
				for _, other := range rapid.SliceOf(app).Draw(t, "entries") {
					if partitionOf(partitions, other) == i {
						entries[other] = entry(next)
					}
				}
				tab.Swap(i, table.NewPartition(entries, next))
				want[i], revisions[i] = maps.Clone(entries), next
				clear(entries) // the table must not use the caller's map
			default:
				e := entry(next)
				p.Put(id, e)
				p.SetRevision(next)
				want[i][id], revisions[i] = e, next
				if !reflect.DeepEqual(p.Get(id), e) {
					t.Fatalf("%s was put and is not there", id)
				}
			}
		}
		check()
	})
}

// TestTimesKeepTheirClock: a wall time stays one, and a monotonic reading is kept.
func TestTimesKeepTheirClock(t *testing.T) {
	now := time.Now()
	for name, since := range map[string]time.Time{"monotonic": now, "wall": now.Round(0), "wall, long ago": time.UnixMilli(1)} {
		p := table.NewPartition(map[string]*table.Entry{"a": {Revision: 2, PolicyRevision: 1, Since: since}}, 2)
		got := p.Get("a").Since
		if monotonic := got != got.Round(0); !got.Equal(since) || monotonic != (name == "monotonic") {
			t.Errorf("%s: %v became %v", name, since, got)
		}
	}
}

// TestLacks: missing apps are distinguished from unknown ones, until they are put.
func TestLacks(t *testing.T) {
	tab, p := table.New(1), table.NewPartition(map[string]*table.Entry{"a": entry(1)}, 1)
	if n := p.Lacks([]string{"a", "gone"}); n != 1 {
		t.Errorf("%d are missing", n)
	}
	tab.Swap(0, p)
	for id, want := range map[string]bool{"a": false, "gone": true, "other": false} {
		if view := tab.Find(id); view.Missing != want {
			t.Errorf("%s: %+v", id, view)
		}
	}
	p.Put("gone", entry(2))
	if view := tab.Find("gone"); view.Missing || len(p.Missing()) != 0 {
		t.Errorf("%+v, %v", view, p.Missing())
	}
}

// TestRowsOfAnySize: what is prefetched depends on a row's size and position, and what is found does not.
func TestRowsOfAnySize(t *testing.T) {
	entries := map[string]*table.Entry{}
	sized := func(tokens int) *table.Entry {
		list := make([]policy.Token, tokens)
		for i := range list {
			list[i] = policy.Token{ID: fmt.Sprintf("tok_%016d", i), State: policy.Active}
			list[i].Digest[0], list[i].Digest[1] = byte(i>>8), byte(i)
		}
		p, err := policy.New(policy.Enforcement{}, list, false)
		if err != nil {
			t.Fatal(err)
		}
		return &table.Entry{Policy: p, Revision: 1, PolicyRevision: 1}
	}
	sizes := []*table.Entry{entry(1), sized(0), sized(1), sized(10), sized(15), sized(1000)}
	next := func() (string, *table.Entry) {
		id := fmt.Sprintf("app%d", len(entries))
		entries[id] = sizes[len(entries)%len(sizes)]
		return id, entries[id]
	}
	for range 100 {
		next()
	}
	tab := table.New(1)
	tab.Swap(0, table.NewPartition(entries, 1))
	for range 400 {
		tab.Partition(0).Put(next())
	}
	for id, want := range entries {
		place := tab.Locate(id)
		tab.Fetch(place)
		if view := tab.FindAt(place, id); !reflect.DeepEqual(view.Entry(), want) {
			t.Fatalf("%s is not what was put", id)
		}
	}
}

func TestTableIsAsLongAsItWasMade(t *testing.T) {
	if got := table.New(7).Len(); got != 7 {
		t.Errorf("%d partitions, want 7", got)
	}
}

func TestAllStopsWhenAsked(t *testing.T) {
	p := table.NewPartition(map[string]*table.Entry{"a": entry(1), "b": entry(1), "c": entry(1)}, 1)
	n := 0
	for range p.All() {
		n++
		break
	}
	if n != 1 {
		t.Errorf("went on after a break: %d", n)
	}
}

// TestFindDoesNotAllocate for a known app, an unknown one, the longest id, and before anything is loaded.
func TestFindDoesNotAllocate(t *testing.T) {
	const longest = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	for name, loaded := range map[string]bool{"loaded": true, "not loaded": false} {
		tab := table.New(1)
		if loaded {
			tab.Swap(0, table.NewPartition(map[string]*table.Entry{"known": entry(1), longest: entry(1)}, 1))
		}
		for _, app := range []string{"known", "unknown", longest} {
			var view table.View
			if n := testing.AllocsPerRun(100, func() {
				place := tab.Locate(app)
				tab.Fetch(place)
				view = tab.FindAt(place, app)
			}); n != 0 {
				t.Errorf("%s, %s: %v allocations", name, app, n)
			}
			if view.Loaded != loaded || (view.Entry() != nil) != (loaded && app != "unknown") {
				t.Errorf("%s, %s: %+v", name, app, view)
			}
		}
	}
}

// BenchmarkFind finds one of a hundred thousand apps.
func BenchmarkFind(b *testing.B) {
	const partitions, apps = 64, 100_000
	tab := table.New(partitions)
	entries := make([]map[string]*table.Entry, partitions)
	for i := range entries {
		entries[i] = map[string]*table.Entry{}
	}
	ids := make([]string, apps)
	for i := range ids {
		ids[i] = fmt.Sprintf("%012d", i)
		entries[partitionOf(partitions, ids[i])][ids[i]] = entry(1)
	}
	for i := range entries {
		tab.Swap(i, table.NewPartition(entries[i], 1))
	}
	for name, prefix := range map[string]string{"known": "", "unknown": "x"} {
		b.Run(name, func(b *testing.B) {
			for i := range ids {
				ids[i] = (prefix + ids[i])[:12]
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					tab.Find(ids[i*7919%apps])
				}
			})
		})
	}
}

// BenchmarkPut changes one app of a partition with its share of a million apps.
func BenchmarkPut(b *testing.B) {
	entries := map[string]*table.Entry{}
	for i := range 1_000_000 / 64 {
		entries[fmt.Sprintf("%012d", i)] = entry(1)
	}
	p := table.NewPartition(entries, 1)
	b.ReportAllocs()
	for b.Loop() {
		p.Put("000000000042", entry(2))
	}
}
