package model

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	seeds     = flag.Int("seeds", 200, "how many random histories are tried")
	firstSeed = flag.Uint64("first-seed", 1, "the seed of the first of them")
)

const (
	partitions  = 2
	apps        = 6
	authorities = 2
	validators  = 3
	writers     = 3
	// recovery is how long the system may take to recover after the last fault.
	recovery = 30 * time.Second
)

// TestNoHistoryOfFaultsLosesAPromise runs two authorities, three validators and three writers against a Redis
// that fails over, and a network that loses messages. At every moment each partition of a validator has a
// state that some master had, and a revocation that it has shown stays in force.
//
// When the faults end, all processes agree. Every acknowledged revocation is in force, and every change that
// the Redis replica had acknowledged is there. In histories whose failovers lose no writes, every
// acknowledged change is there.
//
// A failure names its seed: go test -run NoHistory -first-seed=N -seeds=1.
func TestNoHistoryOfFaultsLosesAPromise(t *testing.T) {
	workers := min(runtime.GOMAXPROCS(0), *seeds)
	var mu sync.Mutex
	total := tally{}
	for worker := range workers {
		t.Run(fmt.Sprint(worker), func(t *testing.T) {
			t.Parallel()
			for i := worker; i < *seeds && !t.Failed(); i += workers {
				seed := *firstSeed + uint64(i)
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, seed)
					w.run()
					mu.Lock()
					defer mu.Unlock()
					total.add(w.tally)
				})
			}
		})
	}
	t.Cleanup(func() {
		t.Logf("%d histories: %+v", *seeds, total)
		for what, n := range total.rare() {
			if n == 0 && *seeds >= 100 {
				t.Errorf("%d histories without one of: %s", *seeds, what)
			}
		}
	})
}

// tally counts events, so that a model without events is noticed.
type tally struct {
	changes, unknown, failovers, heals, superseded int
	// refused counts changes in an epoch that an operator began and that was not healed. merged counts apps
	// with two histories that had changed the same value. wiped counts partitions that were wiped after a
	// restore.
	restored, adopted, refused, merged, wiped int
}

// rare returns how often the rare events occurred that a run of many histories must have.
func (a *tally) rare() map[string]int {
	return map[string]int{
		"failovers": a.failovers, "healings": a.heals, "restorations": a.restored, "adoptions": a.adopted,
		"changes refused before a healing": a.refused, "apps merged": a.merged, "wipes after a restoration": a.wiped,
	}
}

func (a *tally) add(b tally) {
	a.changes += b.changes
	a.unknown += b.unknown
	a.failovers += b.failovers
	a.heals += b.heals
	a.superseded += b.superseded
	a.restored += b.restored
	a.adopted += b.adopted
	a.refused += b.refused
	a.merged += b.merged
	a.wiped += b.wiped
}

// member is one process: an authority or a validator.
type member struct {
	name    string
	client  *Client
	replica *replica.Replica
	store   *store.Store // nil for a validator
	stop    func()
	// lost is the percentage of the member's messages that are lost; cut is since when all of them are.
	lost int
	cut  time.Time
}

type world struct {
	*testing.T
	seed  uint64
	redis *Redis
	codec *record.Codec
	meta  []byte
	log   *logbook
	// lossy histories have failovers that lose writes. In other histories every write stays.
	lossy, quorum bool
	members       []*member
	apps          []string
	// backup is what an operator has saved, nil for nothing. restored says that it was restored once.
	backup   any
	restored bool

	mu      sync.Mutex
	random  *rand.Rand
	tally   tally
	states  []map[record.Cursor]record.Head
	written []written
	revoked map[string]map[string]bool // by validator's name and instance: app/token that it has shown revoked
	trace   []string
	offers  map[offerer]offer
}

// written is a change as its caller knows it.
type written struct {
	app, token   string
	revoke       bool
	acknowledged bool // by the replica
	at           record.Cursor
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		T: t, seed: seed, random: rand.New(rand.NewPCG(seed, 7)), log: &logbook{},
		lossy: seed%3 != 0, quorum: seed%3 == 2, revoked: map[string]map[string]bool{},
		offers: map[offerer]offer{},
	}
	ring := keyring.Generate()
	meta := record.Meta{StoreID: "0123456789abcdef0123456789abcdef", Partitions: partitions, CreateTime: time.Now()}
	w.codec = record.NewCodec(ring, meta)
	w.meta = check.Must(record.SealMeta(ring, meta))(w)
	var heads [][]byte
	for p := range partitions {
		h := record.Head{Cursor: record.Cursor{Epoch: 1, Tag: record.NewTag()}, State: w.codec.SealSum(p, record.Sum{})}
		heads = append(heads, check.Must(w.codec.SealHead(p, h))(w))
		w.states = append(w.states, map[record.Cursor]record.Head{h.Cursor: h})
	}
	for i := 0; len(w.apps) < apps; i++ {
		w.apps = append(w.apps, fmt.Sprintf("app%d", i))
	}
	w.redis = NewRedis(w.meta, heads, func() time.Duration { return w.upTo(30 * time.Millisecond) })
	w.redis.wrote = func(partition int, raw []byte) {
		if h, err := w.codec.OpenHead(partition, raw); err == nil {
			w.mu.Lock()
			w.states[partition][h.Cursor] = h
			w.mu.Unlock()
		}
	}
	return w
}

func (w *world) intn(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.IntN(n)
}

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.intn(int(d))) }

func (w *world) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

// join starts a process.
func (w *world) join(name string, authority bool) *member {
	m := &member{name: name}
	m.client = w.redis.Connect(Network{
		Latency: func() time.Duration { return 100*time.Microsecond + w.upTo(time.Millisecond) },
		Lost:    func() bool { return w.intn(100) < w.loss(m) },
		Hint: func(_ int, raw []byte) [][]byte {
			switch n := w.intn(100); {
			case n < w.loss(m):
				return nil
			case n >= 95:
				return [][]byte{raw, raw}
			}
			return [][]byte{raw}
		},
	})
	m.client.Quorum = authority && w.quorum
	m.replica = replica.New(m.client, w.codec, slog.New(w.log).With("member", name))
	if authority {
		m.replica.Heals()
		options := store.Options{Meta: w.meta}
		if w.quorum {
			options.WriteQuorum = 1
		}
		m.store = store.New(m.client, m.replica, options, slog.New(w.log).With("member", name))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = m.replica.Run(ctx) })
	if authority {
		running.Go(func() { w.heal(ctx, m) })
	} else {
		running.Go(func() { w.watch(ctx, m) })
	}
	m.stop = func() { cancel(); running.Wait() }
	return m
}

func (w *world) loss(m *member) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return m.lost
}

// write makes one change and records the result.
func (w *world) write(ctx context.Context, number int) {
	authority := w.members[w.intn(authorities)]
	app := w.apps[w.intn(len(w.apps))]
	change := written{app: app, token: fmt.Sprintf("t%d", number)}
	revoke := w.intn(3) == 0
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	pick := w.intn(1000)
	result, err := authority.store.Update(ctx, store.Call{
		AppID: app, Request: store.Request{Identity: "model", Method: "Change", ID: fmt.Sprint(number), Digest: []byte{1}},
		Change: func(before *record.Document) (*record.Document, error) {
			after := &record.Document{CreateMillis: time.Now().UnixMilli()}
			if before != nil {
				*after = *before
				after.Tokens = slices.Clone(before.Tokens)
			}
			after.UpdateMillis = time.Now().UnixMilli()
			if change.revoke = revoke && len(after.Tokens) > 0; change.revoke {
				t := &after.Tokens[pick%len(after.Tokens)]
				change.token, t.State = t.ID, policy.Revoked
				return after, nil
			}
			change.token = fmt.Sprintf("t%d", number)
			if slices.ContainsFunc(after.Tokens, func(t record.Token) bool { return t.ID == change.token }) {
				return nil, nil // a healing has brought it back
			}
			after.Tokens = append(after.Tokens, record.Token{
				Token: policy.Token{ID: change.token, Digest: secret.DigestOf(app + change.token), State: policy.Active},
				Name:  change.token,
			})
			return after, nil
		},
		Event: &countersignv1.AuditEvent{Method: "Change"},
		Answer: func(_ *record.Document, at record.Position) proto.Message {
			return &countersignv1.RevokeTokenResponse{ConsistencyToken: record.EncodePosition(at)}
		},
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.tally.unknown++
		if apierr.ReasonOf(err) == apierr.StoreUnhealed {
			w.tally.refused++
		}
		return
	}
	w.tally.changes++
	change.acknowledged = result.Durability.Acknowledged > 0
	change.at = result.Position.Cursor
	w.written = append(w.written, change)
	w.trace = append(w.trace, fmt.Sprintf("%s %s: %s %s revoke=%t at %v, replica has it: %t",
		time.Now().Format("05.000"), authority.name, app, change.token, change.revoke, change.at, change.acknowledged))
}

// disturb causes one fault.
func (w *world) disturb() {
	if w.intn(8) == 0 {
		w.operate()
		return
	}
	victim := w.members[w.intn(len(w.members))]
	switch n := w.intn(100); {
	case n < 30:
		lost := w.intn(4) * 10
		w.say("%s loses %d %% of its messages", victim.name, lost)
		w.mu.Lock()
		victim.lost = lost
		w.mu.Unlock()
	case n < 40:
		w.say("%s is cut off", victim.name)
		w.mu.Lock()
		victim.lost, victim.cut = 100, time.Now()
		w.mu.Unlock()
	case n < 60:
		w.say("everybody is back")
		w.mu.Lock()
		for _, m := range w.members {
			m.lost = 0
		}
		w.mu.Unlock()
	case n < 70:
		i := authorities + w.intn(validators)
		w.say("%s restarts", w.members[i].name)
		w.members[i].stop()
		w.mu.Lock()
		delete(w.revoked, w.members[i].name) // it starts with nothing
		w.mu.Unlock()
		again := w.join(w.members[i].name, false)
		w.mu.Lock()
		w.members[i] = again
		w.mu.Unlock()
	case n < 76:
		p, keep := w.intn(partitions), 3+w.intn(20)
		w.say("the log of %d is trimmed to %d", p, keep)
		w.redis.Trim(p, keep)
	case w.lossy && n < 82:
		w.say("the replica is severed")
		w.redis.Sever()
	case w.lossy:
		w.failover()
	}
}

// failover promotes the replica. Each process finds out in its own time.
func (w *world) failover() {
	w.say("failover")
	w.mu.Lock()
	w.tally.failovers++
	w.mu.Unlock()
	w.redis.Failover()
	for _, m := range w.members {
		go func() {
			time.Sleep(w.upTo(1500 * time.Millisecond))
			m.client.Reconnect()
		}()
	}
}

func (w *world) run() {
	join := func(name string, authority bool) {
		m := w.join(name, authority)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.members = append(w.members, m)
	}
	for i := range authorities {
		join(fmt.Sprintf("authority%d", i), true)
	}
	for i := range validators {
		join(fmt.Sprintf("validator%d", i), false)
	}
	time.Sleep(time.Second)
	writing, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i := range writers {
		running.Go(func() {
			for n := i; writing.Err() == nil; n += writers {
				w.write(writing, n)
				sleep(writing, w.upTo(300*time.Millisecond))
			}
		})
	}
	for range 8 + w.intn(16) {
		time.Sleep(w.upTo(800 * time.Millisecond))
		w.disturb()
	}
	stop()
	running.Wait()
	w.say("all faults end")
	w.mu.Lock()
	for _, m := range w.members {
		m.lost = 0
	}
	w.mu.Unlock()
	for _, m := range w.members {
		m.client.Reconnect()
	}
	began := time.Now()
	for why := "?"; why != ""; time.Sleep(100 * time.Millisecond) {
		if why = w.difference(); time.Since(began) > recovery {
			w.Errorf("seed %d: after %v: %s", w.seed, recovery, why)
			break
		}
	}
	w.check()
	w.tally.merged = int(w.log.merged.Load())
	for p := range partitions {
		head, _ := w.codec.OpenHead(p, w.redis.master.data.partitions[p].head)
		w.tally.heals += int(head.Epoch) - 1
	}
	for _, m := range w.members {
		m.stop()
	}
	time.Sleep(2 * time.Second) // reconnections that are due
	if w.Failed() {
		for _, m := range w.members {
			for p := range partitions {
				var held []string
				for _, raw := range m.replica.Links(p) {
					if link, err := w.codec.OpenLink(p, raw); err == nil {
						held = append(held, link.Cursor.String())
					} else if start, err := w.codec.OpenEpoch(p, raw); err == nil {
						held = append(held, "start "+start.Cursor.String())
					}
				}
				w.Logf("%s holds of partition %d: %v", m.name, p, held)
			}
		}
		w.Logf("%s", strings.Join(w.trace, "\n"))
		w.Logf("%s", w.log)
	}
}

// lease is how long a member that cannot be reached is waited for.
const lease = 10 * time.Second
