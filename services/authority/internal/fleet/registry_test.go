package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
)

// partitions is the number of partitions of the store in these tests.
const partitions = 4

// fakePast is the replica of an authority. The store has one history. The tag of each cursor in it follows
// from its epoch and revision.
type fakePast struct {
	codec *record.Codec

	mu      sync.Mutex
	cursors []record.Cursor
	changed chan struct{}
	forks   map[uint64]uint64 // the last revision of each epoch that has ended
	floors  map[int]record.Cursor
	orphans map[int][]record.Tag
	reads   time.Time // when the store became unreadable; zero while it is readable
}

// at returns a cursor of that history. off returns a cursor with another tag, which is in no history that the
// store has.
func at(epoch, revision uint64) record.Cursor {
	return record.Cursor{Epoch: epoch, Revision: revision, Tag: record.Tag{byte(epoch), byte(revision)}}
}

func off(epoch, revision uint64) record.Cursor {
	c := at(epoch, revision)
	c.Tag[15] = 1
	return c
}

func (p *fakePast) move(partition int, to record.Cursor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cursors[partition] = to
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *fakePast) Codec() *record.Codec { return p.codec }

func (p *fakePast) Cursors() []record.Cursor {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.cursors)
}

func (p *fakePast) Confirmed(partition int) record.Cursor {
	p.mu.Lock()
	defer p.mu.Unlock()
	if floor := p.floors[partition]; p.cursors[partition].Before(floor) {
		return floor
	}
	return p.cursors[partition]
}

// confirm sets the confirmed cursor of a partition, which may be beyond the replica's cursor.
func (p *fakePast) confirm(partition int, at record.Cursor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.floors[partition] = at
}

func (p *fakePast) Orphans(partition int) []record.Tag {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.orphans[partition]
}

// holdOn sets the orphans of a partition.
func (p *fakePast) holdOn(partition int, tags ...record.Tag) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.orphans = map[int][]record.Tag{partition: tags}
}

func (p *fakePast) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

func (p *fakePast) State(partition int) (record.Cursor, record.Sum, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cursors[partition], record.Sum{}, true
}

func (p *fakePast) Reached(partition int, c record.Cursor) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	own := p.cursors[partition]
	switch {
	case own.Before(c):
		return false, nil
	case c.Epoch < own.Epoch && c.Revision > p.forks[c.Epoch], c != at(c.Epoch, c.Revision):
		return false, replica.ErrLost
	}
	return true, nil
}

// Freshness returns the age of a replica that reads the store every 250 ms.
func (p *fakePast) Freshness(_ int, now time.Time) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	read := now.Truncate(250 * time.Millisecond)
	if !p.reads.IsZero() {
		read = p.reads
	}
	return now.Sub(read), false
}

func (p *fakePast) LinkAt(int, record.Cursor) ([]byte, bool) { return nil, false }

// fakeShared is the data in Redis that the authorities share.
type fakeShared struct {
	mu        sync.Mutex
	hash      map[string]string
	listeners map[*Registry]func([]byte)
	failing   bool
	deaf      bool
	enrolled  int           // how many times the list was written
	slow      time.Duration // how long a write of the list takes
}

var errDown = errors.New("redis is down")

func (s *fakeShared) do(f func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing {
		return errDown
	}
	f()
	return nil
}

// copy returns the content of the fake. put replaces it.
func (s *fakeShared) copy() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.hash)
}

func (s *fakeShared) put(hash map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hash = hash
}

func (s *fakeShared) Names(context.Context) (names []string, err error) {
	err = s.do(func() { names = slices.Collect(maps.Keys(s.hash)) })
	return names, err
}

func (s *fakeShared) Read(_ context.Context, names ...string) (found map[string]string, err error) {
	err = s.do(func() {
		found = maps.Clone(s.hash)
		if len(names) > 0 {
			maps.DeleteFunc(found, func(name, _ string) bool { return !slices.Contains(names, name) })
		}
	})
	return found, err
}

func (s *fakeShared) Write(_ context.Context, records map[string][]byte) error {
	return s.do(func() {
		for name, raw := range records {
			s.hash[name] = string(raw)
		}
	})
}

func (s *fakeShared) Enroll(_ context.Context, before, after []byte, records map[string][]byte) (done bool, err error) {
	time.Sleep(s.slow)
	err = s.do(func() {
		if done = s.hash[record.MembersField] == string(before); !done {
			return
		}
		s.enrolled++
		s.hash[record.MembersField] = string(after)
		for name, raw := range records {
			s.hash[name] = string(raw)
		}
	})
	return done, err
}

func (s *fakeShared) Mend(context.Context) (bool, error) { return false, nil }

func (s *fakeShared) Remove(_ context.Context, names []string) error {
	return s.do(func() {
		for _, name := range names {
			delete(s.hash, name)
		}
	})
}

func (s *fakeShared) Tell(_ context.Context, news []byte) error {
	var all []func([]byte)
	err := s.do(func() {
		if !s.deaf {
			all = slices.Collect(maps.Values(s.listeners))
		}
	})
	for _, hear := range all {
		hear(news)
	}
	return err
}

// sharedOf is the Shared of one registry.
type sharedOf struct {
	*fakeShared
	registry *Registry
}

func (s *sharedOf) Listen(ctx context.Context, each func([]byte)) error {
	s.mu.Lock()
	s.listeners[s.registry] = each
	s.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

// authority is a running registry.
type authority struct {
	*Registry
	t       *testing.T
	past    *fakePast
	noticed map[int]int // guarded by mu
	mu      sync.Mutex
	ctx     context.Context
	stop    func()
}

// fixture is a store and its authorities.
type fixture struct {
	t      *testing.T
	ring   *keyring.Ring
	codec  *record.Codec
	shared *fakeShared
}

func newFixture(t *testing.T) *fixture {
	ring := keyring.Generate()
	f := &fixture{
		t: t, ring: ring,
		codec: record.NewCodec(ring, record.Meta{
			StoreID: "store", Partitions: partitions, CreateTime: time.Now(),
			MembersListed: true,
		}),
		shared: &fakeShared{hash: map[string]string{}, listeners: map[*Registry]func([]byte){}},
	}
	f.begin()
	return f
}

// begin writes an empty list of members, as in a store that no validator has joined.
func (f *fixture) begin() {
	f.beginAt(f.codec.Meta().CreateTime)
}

// beginAt writes an empty list of members that was begun at a time.
func (f *fixture) beginAt(since time.Time) {
	list, err := f.codec.SealMembers(record.NewMembers(since))
	if err != nil {
		f.t.Fatal(err)
	}
	f.shared.edit(func(hash map[string]string) { hash[record.MembersField] = string(list) })
}

// authority starts an authority. Its replica is at revision 1 of epoch 1 in all partitions.
func (f *fixture) authority() *authority {
	past := &fakePast{codec: f.codec, changed: make(chan struct{}), forks: map[uint64]uint64{}, floors: map[int]record.Cursor{}}
	for range partitions {
		past.cursors = append(past.cursors, at(1, 1))
	}
	a := &authority{t: f.t, past: past, noticed: map[int]int{}}
	shared := &sharedOf{fakeShared: f.shared}
	a.Registry = NewRegistry(past, shared, func(partition int) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.noticed[partition]++
	}, NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
	shared.registry = a.Registry
	var cancel func()
	a.ctx, cancel = context.WithCancel(f.t.Context())
	if err := a.Load(a.ctx); err != nil {
		f.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = a.Run(a.ctx)
	}()
	a.stop = func() { cancel(); <-ended }
	f.t.Cleanup(a.stop)
	synctest.Wait()
	return a
}

// reporter is a validator whose reports the test sends itself.
type reporter struct {
	hello    update
	sequence uint64
	at       *authority
	stream   *stream
	// ahead is how far its clock is ahead. Reports have the time from the first one with an ahead other than
	// 0. tells remembers that.
	ahead time.Duration
	tells bool
}

// validator returns a validator that starts at the time of the call, with a name and a staleness bound; 0 for
// none.
func (f *fixture) validator(id string, fencedAfter time.Duration) *reporter {
	return &reporter{hello: update{validator: record.Validator{
		ID: id, InstanceID: fmt.Sprint(id, time.Now().UnixNano()), Start: time.Now().Truncate(time.Millisecond),
		FencedAfter: fencedAfter,
	}}}
}

func (v *reporter) next(cursors map[int]record.Cursor) *update {
	v.sequence++
	u := v.hello
	u.validator.Sequence, u.validator.Cursors, u.heartbeat = v.sequence, cursors, true
	u.digests = map[int][32]byte{}
	if v.tells = v.tells || v.ahead != 0; v.tells {
		u.validator.Clock = record.Clock{Wall: time.Now().Add(v.ahead).Round(0), Monotonic: time.Since(u.validator.Start)}
	}
	return &u
}

// join opens a stream to an authority.
func (v *reporter) join(a *authority, cursors map[int]record.Cursor) error {
	s := &stream{wants: make(chan int, partitions), ended: make(chan error, 1)}
	err := a.Registry.join(a.t.Context(), s, v.next(cursors))
	if err == nil {
		v.at, v.stream = a, s
	}
	return err
}

func (v *reporter) mustJoin(a *authority, cursors map[int]record.Cursor) *reporter {
	a.t.Helper()
	if err := v.join(a, cursors); err != nil {
		a.t.Fatal(err)
	}
	return v
}

// report sends a report; without cursors it is a heartbeat.
func (v *reporter) report(cursors map[int]record.Cursor) error {
	return v.at.Registry.report(v.stream, v.next(cursors))
}

// hangUp ends the stream without leaving.
func (v *reporter) hangUp() { v.at.drop(v.stream) }

// first returns the cursors of a validator that has loaded the store.
func first() map[int]record.Cursor {
	cursors := map[int]record.Cursor{}
	for partition := range partitions {
		cursors[partition] = at(1, 1)
	}
	return cursors
}

func to(c record.Cursor) map[int]record.Cursor { return map[int]record.Cursor{0: c} }

// wait starts a wait for a change of partition 0 in the background. It returns a function that waits for the
// result and returns it.
func (a *authority) wait(change record.Cursor, most time.Duration) (result func() (Receipt, time.Duration, error)) {
	ctx, cancel := context.WithTimeout(a.t.Context(), most)
	began := time.Now()
	var receipt Receipt
	var err error
	var took time.Duration
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer cancel()
		receipt, err = a.Wait(ctx, []record.Position{{StoreID: "store", Cursor: change}})
		took = time.Since(began)
	}()
	synctest.Wait()
	return func() (Receipt, time.Duration, error) { <-ended; return receipt, took, err }
}

func statesOf(r Receipt) map[string]State {
	all := map[string]State{}
	for _, e := range r.Entries {
		all[e.ID] = e.State
	}
	return all
}

// alive makes validators send a heartbeat every second for a time.
func alive(t *testing.T, most time.Duration, all ...*reporter) {
	t.Helper()
	for range most / time.Second {
		time.Sleep(time.Second)
		for _, v := range all {
			if err := v.report(nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}
