package fleet

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/countersign/countersign/pkg/clockskew"
	"github.com/countersign/countersign/pkg/record"
)

const (
	// Lease is how long after its latest report a validator counts as one that reports.
	Lease = 10 * time.Second
	// goneLife is how long it is remembered that a validator is gone, so that an authority that did not
	// hear of it for a while does not bring it back.
	goneLife = time.Hour
	// claim is how long a validator that was heard of keeps its name from one that was started before it.
	claim = 3 * time.Second
)

// Past is what the registry asks of the authority's own replica. None of it waits.
type Past interface {
	Codec() *record.Codec
	// These are those of a replica.Replica.
	Cursors() []record.Cursor
	Changed() <-chan struct{}
	Confirmed(partition int) record.Cursor
	Orphans(partition int) []record.Tag
	State(partition int) (record.Cursor, record.Sum, bool)
	Reached(partition int, at record.Cursor) (bool, error)
	LinkAt(partition int, at record.Cursor) ([]byte, bool)
	Freshness(partition int, now time.Time) (age time.Duration, stale bool)
}

// Shared is what authorities share of their fleets; see store.Fleet. It must be safe for concurrent use.
type Shared interface {
	Names(ctx context.Context) ([]string, error)
	Read(ctx context.Context, names ...string) (map[string]string, error)
	Write(ctx context.Context, records map[string][]byte) error
	Enroll(ctx context.Context, before, after []byte, records map[string][]byte) (done bool, err error)
	Mend(ctx context.Context) (mended bool, err error)
	Remove(ctx context.Context, names []string) error
	Tell(ctx context.Context, news []byte) error
	Listen(ctx context.Context, each func(news []byte)) error
}

// Registry knows every validator of the fleet: those that report here from their reports, others from what
// the authorities share. Make one with NewRegistry, start it with Run. It is safe for concurrent use.
type Registry struct {
	past    Past
	shared  Shared
	codec   *record.Codec
	log     *slog.Logger
	metrics *Metrics
	notice  func(partition int)

	tell, keep chan struct{}   // wake the loops that share
	asks       chan chan error // of confirm

	mu      sync.Mutex
	members map[string]*member
	waits   []map[*wait]struct{} // by partition
	// news is what the other authorities are not told yet, by name.
	news map[string]*record.Validator
	// unreadable is what stands in the hash and does not verify, by name.
	unreadable map[string]string
	gathers    map[*gather]struct{}
	membership membership
	floor      floor
}

// member is one validator. One that is gone is kept for a while.
type member struct {
	record.Validator
	// stream is where it reports; nil when that is at another authority, or nowhere.
	stream *stream
	// heard is when a report of it last arrived, here or elsewhere, as far as this authority knows; moved
	// is that time for each of the cursors.
	heard time.Time
	moved map[int]time.Time
	// told is, for each of the cursors, the sequence of the latest report that told it.
	told map[int]uint64
	// kept is what stands in the hash.
	kept string
	// digests are those of cursors that were not compared yet, begins where its links begin, orphans what
	// it holds on to, by partition. Only one that reports here has them.
	digests map[int][32]byte
	begins  map[int]uint64
	orphans map[int][]record.Tag
	// contested is when another instance was last refused that wanted to report by its name.
	contested time.Time
	// clock is what its time of day is, alarm whether that was said to be wrong.
	clock clock
	alarm clockskew.Alarm
	// unreached are the partitions of which it knows more than this authority, or something else, and since
	// when.
	unreached map[int]time.Time
}

func newMember(v *record.Validator, now time.Time) *member {
	m := &member{
		Validator: *v, heard: now, moved: map[int]time.Time{}, told: map[int]uint64{}, digests: map[int][32]byte{},
		begins: map[int]uint64{}, orphans: map[int][]record.Tag{}, unreached: map[int]time.Time{},
	}
	m.Cursors = map[int]record.Cursor{}
	m.clock.remember(v.Clock)
	return m
}

// NewRegistry returns a registry that knows nobody. It calls notice, which must not wait, when a validator
// knows of changes of a partition that this authority does not find in the store's past: again and again
// while that is so.
func NewRegistry(past Past, shared Shared, notice func(partition int), metrics *Metrics, log *slog.Logger) *Registry {
	r := &Registry{
		past: past, shared: shared, codec: past.Codec(), log: log, metrics: metrics, notice: notice,
		tell: make(chan struct{}, 1), keep: make(chan struct{}, 1), asks: make(chan chan error),
		members: map[string]*member{}, news: map[string]*record.Validator{}, unreadable: map[string]string{},
		gathers: map[*gather]struct{}{}, membership: newMembership(), floor: floor{known: make(chan struct{})},
	}
	for range r.codec.Partitions() {
		r.waits = append(r.waits, map[*wait]struct{}{})
	}
	metrics.registry.Store(r)
	return r
}

// seat gives a member the place of its name. What another instance has shown does not count for it. The
// caller holds the mutex.
func (r *Registry) seat(m *member) {
	r.members[m.ID] = m
	for _, waits := range r.waits {
		for w := range waits {
			delete(w.seen, m.ID)
		}
	}
}

func wake(loop chan struct{}) {
	select {
	case loop <- struct{}{}:
	default:
	}
}

// silent tells whether a member's lease has ended.
func (m *member) silent(now time.Time) bool { return now.Sub(m.heard) > Lease }

// move notes where a member is in a partition, and tells whether that is news. The caller holds the mutex.
func (r *Registry) move(m *member, partition int, to record.Cursor, now time.Time) bool {
	if m.Cursors[partition] == to {
		return false
	}
	m.Cursors[partition], m.moved[partition] = to, now
	delete(m.digests, partition)
	delete(m.unreached, partition)
	if lost, reached := r.follows(partition, to); !reached {
		m.unreached[partition] = now
		if lost {
			r.notice(partition)
		}
	}
	for w := range r.waits[partition] {
		r.see(w, m)
	}
	return true
}

// tellLater adds what has changed of a member to the news. The caller holds the mutex.
func (r *Registry) tellLater(m *member, moved []int) {
	n := r.news[m.ID]
	if n == nil || n.InstanceID != m.InstanceID {
		n = &record.Validator{Cursors: map[int]record.Cursor{}}
	}
	cursors := n.Cursors
	*n = m.Validator
	n.Cursors = cursors
	for _, partition := range moved {
		cursors[partition] = m.Cursors[partition]
	}
	r.news[m.ID] = n
	wake(r.tell)
}

// whole returns a copy of a member's record. The caller holds the mutex.
func (m *member) whole() *record.Validator {
	v := m.Validator
	v.Cursors = maps.Clone(v.Cursors)
	return &v
}

// Highest returns the furthest cursors of a partition that anybody has seen: this authority's and those of
// all validators, each once.
func (r *Registry) Highest(partition int) []record.Cursor {
	seen := map[record.Cursor]bool{}
	own := r.past.Cursors()[partition]
	if own.Epoch > 0 {
		seen[own] = true
	}
	if confirmed := r.past.Confirmed(partition); own.Before(confirmed) {
		seen[confirmed] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		if at, has := m.Cursors[partition]; has && !m.Gone {
			seen[at] = true
		}
	}
	all := make([]record.Cursor, 0, len(seen))
	for at := range seen {
		all = append(all, at)
	}
	return all
}

// Present returns where the validators are in a partition whose leases have not ended, and the names of
// those of which no report has arrived since a time. One that is known from Redis alone, at the start of
// this authority, has a whole lease to report in. So have those that nobody knows of, where the list of
// members may lack some: record.UnknownMembers is silent then.
func (r *Registry) Present(partition int, since time.Time) (at []record.Cursor, silent []string) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		if m.Gone || m.silent(now) {
			continue
		}
		if c, has := m.Cursors[partition]; has {
			at = append(at, c)
		}
		if m.heard.Before(since) {
			silent = append(silent, m.ID)
		}
	}
	if r.strangersMayCome(now) {
		silent = append(silent, record.UnknownMembers)
	}
	return at, silent
}

// Orphans returns the tags of changes that validators which report here hold on to, of those that are in an
// epoch of a partition or in a later one.
func (r *Registry) Orphans(partition int, epoch uint64) []record.Tag {
	var all []record.Tag
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		if m.Gone || m.Cursors[partition].Epoch < epoch {
			continue
		}
		for _, tag := range m.orphans[partition] {
			if !slices.Contains(all, tag) {
				all = append(all, tag)
			}
		}
	}
	return all
}
