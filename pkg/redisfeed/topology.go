package redisfeed

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// slots is the number of hash slots of a cluster.
const slots = 16384

// layout maps each slot to its master. It is immutable.
type layout struct {
	ranges []slotRange
	// moved holds single slots that were found elsewhere after the ranges were read.
	moved map[int]string
	// servers are the addresses of all servers, replicas included. masters are the addresses of masters.
	servers, masters []string
}

// slotRange is the slots from first to last, which have one master.
type slotRange struct {
	first, last int
	master      string
}

// oneMaster is the layout of a single server, or of the master that Sentinel names.
func oneMaster(address string) *layout {
	return &layout{ranges: []slotRange{{0, slots - 1, address}}, servers: []string{address}, masters: []string{address}}
}

var errNoMaster = errors.New("no server has the slot")

func (l *layout) master(slot int) (string, error) {
	if address, ok := l.moved[slot]; ok {
		return address, nil
	}
	for _, r := range l.ranges {
		if r.first <= slot && slot <= r.last {
			return r.master, nil
		}
	}
	return "", errNoMaster
}

func (l *layout) knows(address string) bool { return slices.Contains(l.servers, address) }

func (l *layout) isMaster(address string) bool { return slices.Contains(l.masters, address) }

// with returns a copy of the layout with one slot on another master.
func (l *layout) with(slot int, master string) *layout {
	changed := *l
	changed.moved = maps.Clone(l.moved)
	if changed.moved == nil {
		changed.moved = map[int]string{}
	}
	changed.moved[slot] = master
	if !l.knows(master) {
		changed.servers = append(slices.Clone(l.servers), master)
	}
	if !l.isMaster(master) {
		changed.masters = append(slices.Clone(l.masters), master)
	}
	return &changed
}

const (
	// locateTimeout bounds one attempt to learn the layout.
	locateTimeout = 2 * time.Second
	// locatePause is the least time between the starts of two attempts.
	locatePause = 100 * time.Millisecond
	// sentinelAge and clusterAge are the ages at which a layout is read again without another reason. Under
	// Sentinel a deposed master goes on answering. In a cluster it soon names its successor.
	sentinelAge = time.Second
	clusterAge  = 5 * time.Second
)

// topology keeps the layout up to date for all connections of a Client. Callers wait only while no layout is
// known.
type topology struct {
	// locate reads the layout; nil when the layout can never change.
	locate func(ctx context.Context, last *layout) (*layout, error)
	age    time.Duration
	// changed is called with each new layout. It must not call the topology.
	changed func(*layout)

	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	current *layout
	read    time.Time // when current was read
	tried   time.Time // when the latest attempt began
	trying  chan struct{}
	err     error // of the latest attempt
}

func newTopology() *topology {
	t := &topology{}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// layout returns the known layout, and learns it first when none is known.
func (t *topology) layout(ctx context.Context) (*layout, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil && (t.locate == nil || time.Since(t.read) < t.age) {
		return t.current, nil
	}
	t.try()
	if t.current == nil && t.trying != nil {
		ready := t.trying
		t.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-ready:
		}
		t.mu.Lock()
	}
	switch {
	case t.current != nil:
		return t.current, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, t.err
}

// suspect starts to read the layout again.
func (t *topology) suspect() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.try()
}

// learn takes from a command's error where a slot has moved, or that the layout may be outdated.
func (t *topology) learn(origin string, err error) {
	if answered(err) && !NotRun(err) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if r, ok := redirected(err); ok && !r.ask && t.locate != nil && t.current != nil {
		t.current = t.current.with(r.slot, seenFrom(origin, r.address))
		t.changed(t.current)
	}
	t.try()
}

// try starts to read the layout, unless that is under way or was begun just before. The caller holds the
// lock.
func (t *topology) try() {
	if t.locate == nil || t.trying != nil || time.Since(t.tried) < locatePause {
		return
	}
	if t.ctx.Err() != nil {
		t.err = redis.ErrClosed
		return
	}
	t.tried, t.trying = time.Now(), make(chan struct{})
	last := t.current
	t.done.Go(func() {
		ctx, cancel := context.WithTimeout(t.ctx, locateTimeout)
		defer cancel()
		found, err := t.locate(ctx, last)
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.err = err; err == nil {
			t.current, t.read = found, time.Now()
			t.changed(found)
		}
		close(t.trying)
		t.trying = nil
	})
}

// stop ends an attempt that is under way, and prevents further ones.
func (t *topology) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel()
}
