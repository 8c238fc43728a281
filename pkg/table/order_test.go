package table

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
)

func noTokens(t testing.TB, deleted bool) *policy.Policy {
	t.Helper()
	p, err := policy.New(policy.Enforcement{}, nil, deleted)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// appsOf reads all pages of the given size.
func appsOf(t *testing.T, table *Table, size int) (all []string) {
	t.Helper()
	last := ""
	for {
		page, more, err := table.Apps(last, size)
		if err != nil || len(page) > size || more && len(page) < size {
			t.Fatalf("a page of %d has %d apps, more: %t, %v", size, len(page), more, err)
		}
		all = append(all, page...)
		if !more {
			return all
		}
		last = page[len(page)-1]
	}
}

// TestAppsInOrder: whatever is put, deleted and put again, before Order is called and after, and for any page
// size.
func TestAppsInOrder(t *testing.T) {
	const partitions = 7
	random := rand.New(rand.NewPCG(1, 2))
	live := &Entry{Policy: noTokens(t, false), Revision: 1, PolicyRevision: 1}
	deleted := &Entry{Policy: noTokens(t, true), Revision: 1, PolicyRevision: 1}
	unverified := &Entry{Revision: 1}
	table, want := New(partitions), map[string]bool{}
	entries := make([]map[string]*Entry, partitions)
	for i := range entries {
		entries[i] = map[string]*Entry{}
	}
	pick := func() (string, *Entry) {
		appID := fmt.Sprintf("app%d", random.IntN(2000))
		e := []*Entry{live, live, deleted, unverified}[random.IntN(4)]
		if want[appID] = e != deleted; !want[appID] {
			delete(want, appID)
		}
		return appID, e
	}
	for range 1000 {
		appID, e := pick()
		entries[table.Locate(appID).Partition][appID] = e
	}
	for i := range partitions - 1 { // one is not loaded yet
		p := NewPartition(entries[i], 1)
		p.Order()
		table.Swap(i, p)
	}
	check := func() {
		t.Helper()
		var sorted []string
		for appID := range want {
			if table.Partition(table.Locate(appID).Partition) != nil {
				sorted = append(sorted, appID)
			}
		}
		slices.Sort(sorted)
		for _, size := range []int{1, 7, 100, 1000, 5000} {
			if got := appsOf(t, table, size); !slices.Equal(got, sorted) {
				t.Fatalf("pages of %d: %d apps, want %d", size, len(got), len(sorted))
			}
		}
	}
	check()
	last := NewPartition(entries[partitions-1], 1)
	last.Order()
	table.Swap(partitions-1, last)
	check()
	for range 5000 {
		appID, e := pick()
		table.Partition(table.Locate(appID).Partition).Put(appID, e)
	}
	check()
	for _, after := range []string{"app", "app1999", "app1999z", "zzz"} { // some are apps, others not
		page, _, err := table.Apps(after, 10)
		if err != nil || slices.ContainsFunc(page, func(appID string) bool { return appID <= after }) {
			t.Errorf("after %s: %v %v", after, page, err)
		}
	}
	table.Swap(0, NewPartition(entries[0], 1))
	if _, _, err := table.Apps("", 10); !errors.Is(err, ErrNoOrder) {
		t.Errorf("without an order: %v", err)
	}
}

// TestPageOfAppsCostsItsPage counts allocations: some for each partition, and none for apps that are not on
// the page.
func TestPageOfAppsCostsItsPage(t *testing.T) {
	for _, apps := range []int{1_000, 20_000} {
		table := ordered(t, apps)
		if n := testing.AllocsPerRun(10, func() { _, _, _ = table.Apps("app5", 100) }); n > 64*3+100 {
			t.Errorf("a page of 100 of %d apps makes %v allocations", apps, n)
		}
	}
}

// ordered returns a table of 64 partitions that keeps a number of apps sorted.
func ordered(t testing.TB, apps int) *Table {
	t.Helper()
	table := New(64)
	entries := make([]map[string]*Entry, table.Len())
	for i := range entries {
		entries[i] = map[string]*Entry{}
	}
	e := &Entry{Policy: noTokens(t, false), Revision: 1, PolicyRevision: 1}
	for i := range apps {
		appID := fmt.Sprintf("app%08d", i)
		entries[table.Locate(appID).Partition][appID] = e
	}
	for i := range entries {
		p := NewPartition(entries[i], 1)
		p.Order()
		table.Swap(i, p)
	}
	return table
}
