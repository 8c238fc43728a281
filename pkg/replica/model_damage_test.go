package replica_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// reached counts rare states over all histories, so that a model that never gets to one of them is noticed.
type reached struct {
	mu sync.Mutex
	// WrongTypes counts reads of keys of a wrong type. Strays counts fields that are not policies. Heads
	// counts garbage heads. Restarts counts replicas that started while one of these was there.
	WrongTypes, Strays, Heads, Restarts int
	// Jumps counts changes of the clock that made data stale. Quarantined counts histories in which a record
	// did not verify.
	Jumps, Quarantined int
}

func (r *reached) add(of *reached) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum, other := reflect.ValueOf(r).Elem(), reflect.ValueOf(of).Elem()
	for i := range sum.NumField() {
		if sum.Field(i).CanInt() {
			sum.Field(i).SetInt(sum.Field(i).Int() + other.Field(i).Int())
		}
	}
}

// enoughSeeds is how many histories get to every state with practical certainty.
const enoughSeeds = 1000

func (r *reached) check(t *testing.T, seeds int) {
	all := reflect.ValueOf(r).Elem()
	for i := range all.NumField() {
		if !all.Field(i).CanInt() {
			continue
		}
		name, n := all.Type().Field(i).Name, all.Field(i).Int()
		t.Logf("%s: %d", name, n)
		if n == 0 && seeds >= enoughSeeds && !t.Failed() {
			t.Errorf("%d histories never came to this: %s", seeds, name)
		}
	}
}

// wrongTypes is a store with some keys of a wrong type.
type wrongTypes struct {
	*storetest.Store
	mu   sync.Mutex
	keys map[string]bool
	hits int
}

// set says whether a key of a partition has a wrong type.
func (w *wrongTypes) set(kind string, partition int, wrong bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.keys == nil {
		w.keys = map[string]bool{}
	}
	w.keys[fmt.Sprint(kind, partition)] = wrong
}

func (w *wrongTypes) err(kind string, partition int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.keys[fmt.Sprint(kind, partition)] {
		return nil
	}
	w.hits++
	return fmt.Errorf("%w: %s", replica.ErrWrongType, kind)
}

// Heads implements replica.Source.
func (w *wrongTypes) Heads(ctx context.Context) ([]replica.HeadRead, error) {
	heads, err := w.Store.Heads(ctx)
	for i := range heads {
		if wrong := w.err("head", i); wrong != nil {
			heads[i] = replica.HeadRead{Err: wrong}
		}
	}
	return heads, err
}

// Tail implements replica.Source.
func (w *wrongTypes) Tail(ctx context.Context, partition int, after uint64, limit int) ([]byte, []record.RawEntry, error) {
	if err := errors.Join(w.err("head", partition), w.err("log", partition)); err != nil {
		return nil, nil, err
	}
	return w.Store.Tail(ctx, partition, after, limit)
}

// Documents implements replica.Source.
func (w *wrongTypes) Documents(ctx context.Context, partition int, each func(appID string, raw []byte)) error {
	if err := w.err("policies", partition); err != nil {
		return err
	}
	return w.Store.Documents(ctx, partition, each)
}

// damage damages a record.
func (m *model) damage(partition int) {
	if log := m.store.Log(partition); len(log) > 0 && m.random.IntN(2) == 0 {
		revision := log[m.random.IntN(len(log))].Revision
		m.say("damage link %d of %d", revision, partition)
		m.store.SetLink(partition, revision, []byte("garbage"))
		return
	}
	app := m.store.App(partition, m.random.IntN(modelApps))
	raw := slices.Clone(m.store.RawDocument(app))
	if raw == nil {
		return
	}
	m.say("damage %s", app)
	raw[m.random.IntN(len(raw))] ^= 1 << m.random.IntN(8)
	m.mu.Lock()
	m.damaged[app] = true
	m.mu.Unlock()
	m.store.SetDocument(app, raw)
}

// putInTheWay gives a key of a partition a wrong type, replaces its head with garbage, or adds a field to its
// policies. Or it ends all of that.
func (m *model) putInTheWay(partition int) {
	switch m.random.IntN(4) {
	case 0:
		kind := []string{"head", "policies", "log"}[m.random.IntN(3)]
		m.say("wrong type of %s of %d", kind, partition)
		m.wrong.set(kind, partition, true)
	case 1:
		m.say("garbage for the head of %d", partition)
		m.store.SetHead(partition, []byte("garbage"))
		m.reached.Heads++
	case 2:
		m.say("stray field in %d", partition)
		m.store.SetDocument(m.store.App(partition, modelApps+1+m.random.IntN(3)), []byte("garbage"))
		m.reached.Strays++
	default:
		m.clearTheWay()
	}
	m.inTheWay = true
}

// clearTheWay ends what putInTheWay has done, except for stray fields, which nobody has to remove. Each
// change writes a head.
func (m *model) clearTheWay() {
	for partition := range m.sums {
		for _, kind := range []string{"head", "policies", "log"} {
			m.wrong.set(kind, partition, false)
		}
		app := m.store.App(partition, m.random.IntN(modelApps))
		made := m.store.Commit(app, m.change(app))
		m.say("way cleared: commit %s at %v", app, made.Cursor)
	}
	m.inTheWay = false
}

func (m *model) countRestart() {
	if m.inTheWay {
		m.reached.Restarts++
	}
}

// timeOfDay returns what the replica's clock shows.
func (m *model) timeOfDay() time.Time {
	return time.Now().Add(time.Duration(m.ahead.Load()))
}

// jump sets the replica's clock. Data that was fresh counts as stale until the store is read again.
func (m *model) jump() {
	by := []time.Duration{-5 * time.Minute, -2 * time.Second, 2 * time.Second, 5 * time.Minute}[m.random.IntN(4)]
	m.say("clock jumps by %v", by)
	fresh := map[int]bool{}
	for partition := range m.sums {
		_, _, loaded := m.r.State(partition)
		_, stale := m.r.Freshness(partition, time.Now())
		fresh[partition] = loaded && !stale
	}
	m.mu.Lock()
	m.ahead.Add(int64(by))
	m.mu.Unlock()
	for partition, was := range fresh {
		if !was {
			continue
		}
		if age, stale := m.r.Freshness(partition, time.Now()); !stale {
			m.Errorf("seed %d: the clock has jumped by %v, and partition %d is taken for fresh, %v old", m.seed, by, partition, age)
		}
		m.reached.Jumps++
	}
}
