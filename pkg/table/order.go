package table

import (
	"container/heap"
	"errors"
	"strings"
	"sync"

	"github.com/tidwall/btree"
)

// order is the sorted app ids of a partition, without deleted apps. Only a process that lists apps keeps one,
// since it takes about 60 bytes for each app, with pointers.
type order struct {
	mu   sync.RWMutex // the writer holds it for one app, readers for one page
	apps btree.Set[string]
}

// Order makes the partition keep its apps sorted, for Table.Apps. It must be called before the partition is
// shown.
func (p *Partition) Order() {
	p.order = &order{}
	for appID, e := range p.All() {
		p.order.put(appID, e)
	}
}

// put records an app's newest entry. It does nothing without an order.
func (o *order) put(appID string, e *Entry) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case e.Policy != nil && e.Policy.Deleted():
		o.apps.Delete(appID)
	case !o.apps.Contains(appID):
		o.apps.Insert(strings.Clone(appID)) // it may point into a row
	}
}

// ErrNoOrder says that a partition does not keep its apps sorted.
var ErrNoOrder = errors.New("table: the apps are not kept in order")

// Apps returns up to limit app ids after a given one, in order, and whether there are more. It leaves out
// deleted apps, and partitions that are not loaded. Its cost grows with limit and the number of partitions,
// not with the number of apps. It fails with ErrNoOrder.
func (t *Table) Apps(after string, limit int) (apps []string, more bool, err error) {
	var next nextApps
	for i := range t.partitions {
		p := t.partitions[i].Load()
		switch {
		case p == nil:
			continue
		case p.order == nil:
			return nil, false, ErrNoOrder
		}
		p.order.mu.RLock()
		defer p.order.mu.RUnlock()
		at := p.order.apps.Iter()
		if found := at.Seek(after); found && (at.Key() != after || at.Next()) {
			next = append(next, at)
		}
	}
	heap.Init(&next)
	for ; len(next) > 0; heap.Fix(&next, 0) {
		if len(apps) == limit {
			return apps, true, nil
		}
		apps = append(apps, next[0].Key())
		if !next[0].Next() {
			last := len(next) - 1
			next[0], next = next[last], next[:last]
		}
		if len(next) == 0 {
			break
		}
	}
	return apps, false, nil
}

// nextApps is a heap of positions in the orders of several partitions. The least app is first.
type nextApps []btree.SetIter[string]

func (n nextApps) Len() int           { return len(n) }
func (n nextApps) Less(i, j int) bool { return n[i].Key() < n[j].Key() }
func (n nextApps) Swap(i, j int)      { n[i], n[j] = n[j], n[i] }
func (n *nextApps) Push(any)          {}
func (n *nextApps) Pop() any          { return nil }
