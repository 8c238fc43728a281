package replica_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/table"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

var (
	seeds     = flag.Int("seeds", 1000, "how many random histories the model test tries")
	firstSeed = flag.Uint64("first-seed", 1, "the seed of the first of them")
)

// TestAnyHistoryOfFaultsConverges tries random histories of changes and faults. At every moment each
// partition shows exactly one state that the store had or a hint claimed. While no write is lost, a partition
// never goes back. After the faults end, the replica equals the store within seconds. It then holds the log
// as far back as the log leads to the head without a gap.
//
// A failure names its seed: go test -run AnyHistory -first-seed=N -seeds=1.
func TestAnyHistoryOfFaultsConverges(t *testing.T) {
	workers := min(runtime.GOMAXPROCS(0), *seeds)
	var total reached
	for worker := range workers {
		t.Run(fmt.Sprint(worker), func(t *testing.T) {
			t.Parallel()
			for i := worker; i < *seeds && !t.Failed(); i += workers {
				simulate(t, modelPartitions, func(w *world) {
					m := newModel(w, *firstSeed+uint64(i))
					m.run()
					total.add(&m.reached)
				})
			}
		})
	}
	t.Cleanup(func() { total.check(t, *seeds) })
}

const (
	modelPartitions = 2
	modelApps       = 4 // in each partition
)

// model is one random history.
type model struct {
	*world
	seed   uint64
	random *rand.Rand
	// Lossy histories lose writes. Damaging ones damage records and the replica's data.
	lossy, damaging bool
	tokens          int
	trace           []string

	mu sync.Mutex
	// sums are the sums of every state that a partition had. versions are the policies of every revision of
	// an app.
	sums     [modelPartitions]map[record.Cursor]record.Sum
	versions map[string]map[uint64][]*policy.Policy
	// The latest revisions that readers saw, of apps and of partitions.
	seen    map[string]uint64
	views   map[int]uint64
	checked map[string]table.Row
	// revoked are the digests of each app that were seen revoked.
	revoked map[string]map[secret.Digest]bool
	// spoilt partitions were changed inside the replica. damaged apps may have an older policy, or none.
	spoilt  map[int]bool
	damaged map[string]bool
	// arriving is how many of ten hints are delivered at once. The others are lost or delayed.
	arriving int
	held     []hint
	faulty   *rand.Rand // for decisions of the store, on any goroutine
	failing  int        // percentage of read steps that fail
	// What keeps the replica from loading: see model_damage_test.go.
	wrong   wrongTypes
	ahead   atomic.Int64 // how far its clock is ahead, in ns; the replica reads it while it holds locks that look waits for
	reached reached
	// inTheWay says that something keeps, or may keep, a new replica from loading.
	inTheWay bool
}

type hint struct {
	partition int
	raw       []byte
}

func newModel(w *world, seed uint64) *model {
	m := &model{
		world: w, seed: seed, random: rand.New(rand.NewPCG(seed, 0)), faulty: rand.New(rand.NewPCG(seed, 1)),
		lossy: seed%3 == 1, damaging: seed%3 == 2, arriving: 10,
		versions: map[string]map[uint64][]*policy.Policy{}, spoilt: map[int]bool{}, damaged: map[string]bool{},
	}
	m.paced = seed%2 == 1
	m.wrong.Store, w.source = w.store, &m.wrong
	m.clock = m.timeOfDay
	for partition := range m.sums {
		m.sums[partition] = map[record.Cursor]record.Sum{w.store.Head(partition).Cursor: w.store.Sum(partition)}
	}
	w.store.Observe(m.note)
	return m
}

// note adds a state that readers may see from now on.
func (m *model) note(made storetest.Commit) {
	p, err := made.After.Policy()
	if err != nil {
		m.Errorf("seed %d: %v", m.seed, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sums[made.Partition][made.Cursor] = made.Sum
	if m.versions[made.AppID] == nil {
		m.versions[made.AppID] = map[uint64][]*policy.Policy{}
	}
	m.versions[made.AppID][made.Cursor.Revision] = append(m.versions[made.AppID][made.Cursor.Revision], p)
}

// look checks what readers see.
func (m *model) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for partition, sums := range m.sums {
		if cursor, sum, loaded := m.r.State(partition); loaded && !m.spoilt[partition] {
			if want, known := sums[cursor]; !known || sum != want {
				m.Errorf("seed %d: partition %d is in a state at %v that the store never had", m.seed, partition, cursor)
			}
		}
	}
	for app, versions := range m.versions {
		view := m.r.Table().Find(app)
		if !view.Loaded || m.spoilt[view.Partition] {
			continue
		}
		revision := uint64(0)
		entry := view.Entry()
		if entry != nil {
			revision = entry.Revision
			if m.checked[app] != view.Row && !m.known(versions, entry, m.damaged[app]) {
				m.Errorf("seed %d: %s has a policy at revision %d that it never had: %+v", m.seed, app, revision, entry.StoredPolicy())
			}
		}
		m.stayRevoked(app, entry)
		if !m.lossy && (revision < m.seen[app] || view.Revision < m.views[view.Partition]) {
			m.Errorf("seed %d: %s goes back from %d of %d to %d of %d", m.seed, app, m.seen[app], m.views[view.Partition],
				revision, view.Revision)
		}
		m.seen[app], m.views[view.Partition], m.checked[app] = revision, view.Revision, view.Row
	}
}

// stayRevoked checks that a token that was seen revoked stays revoked while the app has a policy (B08).
func (m *model) stayRevoked(app string, e *table.Entry) {
	if e == nil || e.Policy == nil {
		return
	}
	if m.revoked[app] == nil {
		m.revoked[app] = map[secret.Digest]bool{}
	}
	for digest := range m.revoked[app] {
		if t := e.Policy.FindDigest(digest); t == nil || t.State != policy.Revoked {
			m.Errorf("seed %d: %s has a token that was revoked and is %+v", m.seed, app, t)
		}
	}
	for _, t := range e.Policy.Tokens() {
		if t.State == policy.Revoked {
			m.revoked[app][t.Digest] = true
		}
	}
}

// known reports whether an app had an entry's policy at its revision, or at an earlier one if it was damaged.
func (m *model) known(versions map[uint64][]*policy.Policy, e *table.Entry, damaged bool) bool {
	same := func(p *policy.Policy) bool { return samePolicy(p, e.StoredPolicy()) }
	if slices.ContainsFunc(versions[e.Revision], same) {
		return !e.Behind() || damaged
	}
	if !damaged || e.Policy != nil && !e.Behind() {
		return false
	}
	for revision, policies := range versions {
		if revision < e.Revision && slices.ContainsFunc(policies, same) {
			return true
		}
	}
	return e.Policy == nil
}

func (m *model) say(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

// decide returns a random number below n. It may run on any goroutine.
func (m *model) decide(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.faulty.IntN(n)
}

// disturb sets new faults of reads and hints.
func (m *model) disturb() {
	slow := time.Duration(m.random.IntN(3)) * 10 * time.Millisecond
	m.mu.Lock()
	m.arriving, m.failing = m.random.IntN(11), m.random.IntN(3)*5
	m.say("disturb: %d of 10 hints arrive, %d%% of reads fail, latency %v", m.arriving, m.failing, slow)
	m.mu.Unlock()
	m.faults(storetest.Faults{
		Latency: func() time.Duration { return latency + slow*time.Duration(m.decide(10))/10 },
		Twice:   m.random.IntN(2) == 0,
		Hint: func(partition int, raw []byte) [][]byte {
			m.mu.Lock()
			defer m.mu.Unlock()
			switch n := m.faulty.IntN(10); {
			case n >= m.arriving:
				m.held = append(m.held, hint{partition, raw})
				return nil
			case n == 0:
				return [][]byte{raw, raw}
			}
			return [][]byte{raw}
		},
		Step: func(storetest.Step, int) error {
			m.look()
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.faulty.IntN(100) < m.failing {
				return errRefused
			}
			return nil
		},
	})
}

// change returns a random change of an app.
func (m *model) change(app string) storetest.Change {
	var ids []string
	if d := m.store.Document(app); d != nil {
		for _, token := range d.Tokens {
			ids = append(ids, token.ID)
		}
	}
	switch n := m.random.IntN(10); {
	case n < 4 || len(ids) == 0:
		m.tokens++
		return storetest.AddToken(fmt.Sprintf("token%d", m.tokens), policy.Scope(1+m.random.IntN(3)))
	case n < 8:
		return storetest.SetState(ids[m.random.IntN(len(ids))], policy.State(1+m.random.IntN(3)))
	case n < 9:
		return storetest.Remove(ids[m.random.IntN(len(ids))])
	}
	return storetest.Enforce(policy.Scope(1 + m.random.IntN(3)))
}

func (m *model) app() string {
	return m.store.App(m.random.IntN(modelPartitions), m.random.IntN(modelApps))
}

func (m *model) commit(n int) {
	for range n {
		app := m.app()
		made := m.store.Commit(app, m.change(app))
		m.say("commit %s at %v", app, made.Cursor)
	}
}

func (m *model) pause(most time.Duration) {
	d := time.Duration(m.random.Int64N(int64(most)))
	m.say("%v pass", d)
	m.pass(d)
}

// step does one thing, most often a change.
func (m *model) step() {
	partition := m.random.IntN(modelPartitions)
	switch n := m.random.IntN(100); {
	case n < 40:
		m.commit(1 + m.random.IntN(4))
	case n < 60:
		m.pause(600 * time.Millisecond)
	case n < 65:
		m.pause(20 * time.Millisecond)
	case n < 72:
		m.disturb()
	case n < 78:
		m.mu.Lock()
		m.random.Shuffle(len(m.held), func(i, j int) { m.held[i], m.held[j] = m.held[j], m.held[i] })
		late := m.held
		m.held = nil
		m.mu.Unlock()
		m.say("%d late hints", len(late))
		for _, h := range late {
			m.store.Publish(h.partition, h.raw)
		}
	case n < 82:
		keep := m.random.IntN(5)
		m.say("trim %d to %d", partition, keep)
		m.store.Trim(partition, keep)
	case n < 84:
		m.say("cut")
		m.store.CutWatches()
	case n < 86:
		m.say("garbage")
		m.store.Publish(partition, []byte("garbage"))
	case n < 87:
		m.jump()
	case n < 89:
		m.say("restart")
		m.countRestart()
		m.stop()
		m.forget()
		m.start()
	case m.lossy && n < 94:
		m.lose()
	case m.lossy:
		m.fork(partition)
	case m.damaging && n < 93:
		m.damage(partition)
	case m.damaging && n < 97:
		m.putInTheWay(partition)
	case m.damaging:
		m.say("spoil %d", partition)
		app := m.store.App(partition, m.random.IntN(modelApps+1))
		m.mu.Lock()
		m.spoilt[partition] = true
		delete(m.revoked, app) // the replica has lost everything about the app
		m.mu.Unlock()
		if _, _, loaded := m.r.State(partition); loaded {
			m.r.Corrupt(partition, app, &table.Entry{Revision: 1<<40 + m.random.Uint64N(30)})
		}
	}
}

// forget replaces the replica with an empty one.
func (m *model) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen, m.views, m.checked = map[string]uint64{}, map[int]uint64{}, map[string]table.Row{}
	m.revoked = map[string]map[secret.Digest]bool{}
	clear(m.spoilt)
}

// lose takes changes back after they were published and before a read could confirm them.
func (m *model) lose() {
	synctest.Wait() // no read is between the store and its answer
	was := m.store.Save()
	m.commit(1 + m.random.IntN(4))
	m.say("lose them")
	m.store.RollBack(was)
	if m.random.IntN(2) == 0 {
		m.commit(m.random.IntN(6))
	}
}

// fork takes changes back after a read may have confirmed them, and begins a new epoch.
func (m *model) fork(partition int) {
	was := m.store.Save()
	m.commit(1 + m.random.IntN(4))
	m.pause(600 * time.Millisecond)
	m.say("fork %d", partition)
	m.store.RollBackPartition(partition, was)
	m.commit(m.random.IntN(6))
	m.pause(2 * time.Second)
	m.store.NewEpoch(partition)
	head, sum := m.store.Head(partition), m.store.Sum(partition)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.say("new epoch at %v", head.Cursor)
	m.sums[partition][head.Cursor] = sum
}

func (m *model) converged() bool {
	for partition := range m.sums {
		if m.difference(partition) != "" || m.age(partition) > longestPoll || m.lacking(partition) > 0 {
			return false
		}
	}
	return true
}

func (m *model) run() {
	m.forget()
	m.disturb()
	m.start()
	for range 12 + m.random.IntN(24) {
		m.step()
		m.look()
		m.mu.Lock()
		for partition := range m.spoilt {
			delete(m.spoilt, partition)
			if m.difference(partition) != "" {
				m.spoilt[partition] = true
			}
		}
		m.mu.Unlock()
		if m.Failed() {
			break
		}
	}
	m.faults(storetest.Faults{})
	m.clearTheWay()
	// A damaged document is read again when it is changed.
	for app := range m.damaged {
		m.store.Commit(app, m.change(app))
	}
	m.pass(longestPoll)
	for began := time.Now(); time.Since(began) < enough && !m.converged(); {
		m.pass(longestPoll)
	}
	m.seen, m.views, m.checked = map[string]uint64{}, map[int]uint64{}, map[string]table.Row{}
	m.look()
	for partition := range m.sums {
		if why := m.difference(partition); why != "" {
			m.Errorf("seed %d: partition %d did not converge: %s", m.seed, partition, why)
		}
		if age := m.age(partition); age > 2*longestPoll {
			m.Errorf("seed %d: partition %d is %v old", m.seed, partition, age)
		}
		if n := m.lacking(partition); n > 0 {
			m.Errorf("seed %d: partition %d: %d entries of the log are not held", m.seed, partition, n)
		}
	}
	m.reached.WrongTypes = m.wrong.hits
	if m.r.Stats().Quarantined > 0 {
		m.reached.Quarantined++
	}
	if m.Failed() {
		m.Logf("%v", m.trace)
		m.Logf("%s", m.log)
	}
}
