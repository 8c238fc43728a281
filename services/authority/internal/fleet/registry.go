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
	// Lease is how long after its latest report a validator counts as reporting.
	Lease = 10 * time.Second
	// goneLife is how long a validator that has left is remembered, so that an authority that missed the news
	// does not bring it back.
	goneLife = time.Hour
	// claim is how long after its latest report a validator keeps its name from one that was started before
	// it.
	claim = 3 * time.Second
)

// Past is what the registry needs of the authority's own replica. No method blocks.
type Past interface {
	Codec() *record.Codec
	// See replica.Replica.
	Cursors() []record.Cursor
	Changed() <-chan struct{}
	Confirmed(partition int) record.Cursor
	Orphans(partition int) []record.Tag
	State(partition int) (record.Cursor, record.Sum, bool)
	Reached(partition int, at record.Cursor) (bool, error)
	LinkAt(partition int, at record.Cursor) ([]byte, bool)
	Freshness(partition int, now time.Time) (age time.Duration, stale bool)
}

// Shared is the part of Redis in which authorities share their fleets; see store.Fleet. It must be safe for
// concurrent use.
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

// Registry knows every validator of the fleet: the ones that report here from their reports, the others from
// what the authorities share. Make one with NewRegistry, start it with Load and Run. It is safe for
// concurrent use.
type Registry struct {
	past    Past
	shared  Shared
	codec   *record.Codec
	log     *slog.Logger
	metrics *Metrics
	notice  func(partition int)

	publish, exchangeNow chan struct{}   // wake publishAll and exchangeAll
	asks                 chan chan error // calls of confirm

	mu      sync.Mutex
	members map[string]*member
	waits   []map[*wait]struct{} // by partition
	// news has the changes that were not published yet, by validator.
	news map[string]*record.Validator
	// unreadable has the records in the hash that do not verify, by field.
	unreadable map[string]string
	gathers    map[*gather]struct{}
	membership membership
	floor      floor
}

// member is one validator. A validator that has left stays a member for goneLife.
type member struct {
	record.Validator
	// stream is the stream of its reports; nil when it reports to another authority, or nowhere.
	stream *stream
	// heard is when its latest report arrived at any authority, as far as this one knows. moved has that time
	// for each cursor.
	heard time.Time
	moved map[int]time.Time
	// sequences has the sequence of the latest report of each cursor, by partition.
	sequences map[int]uint64
	// stored is its record as the hash has it; empty when that is older or missing.
	stored string
	// The registry has these fields only for validators that report here, by partition. digests has the
	// digests that were not compared yet, begins the revision at which its links begin, orphans the tags of
	// its orphans.
	digests map[int][32]byte
	begins  map[int]uint64
	orphans map[int][]record.Tag
	// contested is when another instance was last refused its name.
	contested time.Time
	// clock measures its clock. alarm is whether a wrong clock was logged.
	clock clock
	alarm clockskew.Alarm
	// unreached has the partitions in which its cursor is not in this authority's history, and since when.
	unreached map[int]time.Time
}

func newMember(v *record.Validator, now time.Time) *member {
	m := &member{
		Validator: *v, heard: now, moved: map[int]time.Time{}, sequences: map[int]uint64{}, digests: map[int][32]byte{},
		begins: map[int]uint64{}, orphans: map[int][]record.Tag{}, unreached: map[int]time.Time{},
	}
	m.Cursors = map[int]record.Cursor{}
	m.clock.remember(v.Clock)
	return m
}

// NewRegistry returns a registry without members. It calls notice when a validator knows changes of a
// partition that are not in this authority's history of the store, repeatedly while that lasts. notice must
// not block.
func NewRegistry(past Past, shared Shared, notice func(partition int), metrics *Metrics, log *slog.Logger) *Registry {
	r := &Registry{
		past: past, shared: shared, codec: past.Codec(), log: log, metrics: metrics, notice: notice,
		publish: make(chan struct{}, 1), exchangeNow: make(chan struct{}, 1), asks: make(chan chan error),
		members: map[string]*member{}, news: map[string]*record.Validator{}, unreadable: map[string]string{},
		gathers: map[*gather]struct{}{}, membership: newMembership(), floor: floor{known: make(chan struct{})},
	}
	for range r.codec.Partitions() {
		r.waits = append(r.waits, map[*wait]struct{}{})
	}
	metrics.registry.Store(r)
	return r
}

// addMember adds a member, or replaces another instance with its name. Changes that the former instance has
// shown do not count for the new one. The caller holds the mutex.
func (r *Registry) addMember(m *member) {
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

// move sets a member's cursor of a partition, and tells whether it was another one before. The caller holds
// the mutex.
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
		r.memberMoved(w, m)
	}
	return true
}

// publishLater adds a member and its moved cursors to the news. The caller holds the mutex.
func (r *Registry) publishLater(m *member, moved []int) {
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
	wake(r.publish)
}

// copyRecord returns a copy of a member's record. The caller holds the mutex.
func (m *member) copyRecord() *record.Validator {
	v := m.Validator
	v.Cursors = maps.Clone(v.Cursors)
	return &v
}

// Highest returns the furthest cursors of a partition that this authority or a validator has seen, each once.
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

// Present returns the cursors of a partition of the validators whose lease runs. silent has the names of
// those that have not reported since a time. At the start of this authority, a validator that is known from
// Redis alone has a whole lease in which to report. So have unlisted validators, when the list of members may
// lack some: silent then has record.UnknownMembers.
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
	if r.unlistedMayRun(now) {
		silent = append(silent, record.UnknownMembers)
	}
	return at, silent
}

// Orphans returns the tags of the orphans of a partition, of the validators that report here and are in an
// epoch or a later one.
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
