package fleet

import (
	"context"
	"crypto/rand"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/countersign/countersign/pkg/clockskew"
	"github.com/countersign/countersign/pkg/record"
)

const (
	// Lease is how long a validator counts as reporting after its latest report.
	Lease = 10 * time.Second
	// goneLife is how long an authority remembers a validator that has left. Another authority may have
	// missed the news, and must not bring the validator back.
	goneLife = time.Hour
	// claim is how long a validator keeps its name after its latest report. In that time an instance that was
	// started earlier cannot take the name.
	claim = 3 * time.Second
)

// Past is the authority's own replica, as far as the registry needs it. No method blocks.
type Past interface {
	Codec() *record.Codec
	// These methods are documented at replica.Replica.
	Cursors() []record.Cursor
	Changed() <-chan struct{}
	Confirmed(partition int) record.Cursor
	Orphans(partition int) []record.Tag
	State(partition int) (record.Cursor, record.Sum, bool)
	Reached(partition int, at record.Cursor) (bool, error)
	LinkAt(partition int, at record.Cursor) ([]byte, bool)
	Freshness(partition int, now time.Time) (age time.Duration, stale bool)
}

// Shared is the data in Redis with which authorities share what they know of the fleet; see store.Fleet. It
// must be safe for concurrent use.
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

// Registry knows every validator of the fleet. It knows the validators that report here from their reports,
// and the others from the records that the authorities share. Make one with NewRegistry, start it with Load
// and Run. It is safe for concurrent use.
type Registry struct {
	past    Past
	shared  Shared
	codec   *record.Codec
	log     *slog.Logger
	metrics *Metrics
	notice  func(partition int)

	publish, exchangeNow chan struct{}   // wake publishAll and exchangeAll
	asks                 chan chan error // calls of confirm, for answerAsks

	mu      sync.Mutex
	members map[string]*member
	waits   []map[*wait]struct{} // by partition
	// news has the records and moved cursors that publishAll has not sent yet, by validator.
	news map[string]*record.Validator
	// unreadable has the records in the hash that do not verify, by hash field.
	unreadable map[string]string
	gathers    map[*gather]struct{}
	// sender names this start of the authority in its offers. offers are those of other authorities.
	sender     string
	offers     map[offerer]*offer
	membership membership
	floor      floor
}

// member is one validator. A validator that has left stays in Registry.members for goneLife, with Gone set.
type member struct {
	record.Validator
	// stream is the validator's Report call here; nil when it reports to another authority, or to none.
	stream *stream
	// heard is when the latest report arrived at any authority, as far as this authority knows. moved has, by
	// partition, when the report of the present cursor arrived.
	heard time.Time
	moved map[int]time.Time
	// sequences has, by partition, the sequence of the latest report with a cursor.
	sequences map[int]uint64
	// stored is the record of the validator in the hash; empty when the hash has an older one or none.
	stored string
	// These fields are by partition, and are set only for validators that report here. digests has the
	// digests that were not compared yet. begins has the revision at which the validator's links begin.
	// orphans has the tags of its orphans.
	digests map[int][32]byte
	begins  map[int]uint64
	orphans map[int][]record.Tag
	// settled are those of its orphans that the store has or has settled, although the validator does not
	// know that yet.
	settled map[record.Tag]bool
	// contested is when the latest other instance was refused this validator's name.
	contested time.Time
	// clock measures the skew of the validator's clock. alarm remembers whether a wrong clock was logged.
	clock clock
	alarm clockskew.Alarm
	// unreached has the partitions in which the validator's cursor is not in this authority's history. The
	// value is when that cursor was reported.
	unreached map[int]time.Time
}

func newMember(v *record.Validator, now time.Time) *member {
	m := &member{
		Validator: *v, heard: now, moved: map[int]time.Time{}, sequences: map[int]uint64{}, digests: map[int][32]byte{},
		begins: map[int]uint64{}, orphans: map[int][]record.Tag{}, settled: map[record.Tag]bool{}, unreached: map[int]time.Time{},
	}
	m.Cursors = map[int]record.Cursor{}
	m.clock.remember(v.Clock)
	return m
}

// NewRegistry returns a registry without members. It calls notice when a validator holds changes of a
// partition that are not in this authority's history. It repeats the call while that lasts. notice must not
// block.
func NewRegistry(past Past, shared Shared, notice func(partition int), metrics *Metrics, log *slog.Logger) *Registry {
	r := &Registry{
		past: past, shared: shared, codec: past.Codec(), log: log, metrics: metrics, notice: notice,
		publish: make(chan struct{}, 1), exchangeNow: make(chan struct{}, 1), asks: make(chan chan error),
		members: map[string]*member{}, news: map[string]*record.Validator{}, unreadable: map[string]string{},
		gathers: map[*gather]struct{}{}, sender: rand.Text(), offers: map[offerer]*offer{},
		membership: newMembership(), floor: floor{known: make(chan struct{})},
	}
	for range r.codec.Partitions() {
		r.waits = append(r.waits, map[*wait]struct{}{})
	}
	metrics.registry.Store(r)
	return r
}

// addMember adds a member, or replaces another instance of the same name. A new instance must show each
// change again. The caller holds the mutex.
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

// silent reports whether a member's lease has expired.
func (m *member) silent(now time.Time) bool { return now.Sub(m.heard) > Lease }

// move sets a member's cursor of a partition, and reports whether the cursor has changed. The caller holds
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

// publishLater adds a member's record and its moved cursors to the next message of news. The caller holds the
// mutex.
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

// Highest returns the cursors of a partition that this authority and the validators have seen last, each
// once.
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

// Present returns the cursors of a partition at the validators whose lease runs. silent names those of them
// whose latest report is from before since.
//
// When this authority starts, a validator that it knows only from Redis has a whole lease in which to report.
// A validator that the list of members lacks has the same time. While the list may lack one, silent contains
// record.UnknownMembers.
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

// Orphans returns the tags of the orphans of a partition, each once. It includes only validators that report
// here and whose cursor is in epoch or in a later one.
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
