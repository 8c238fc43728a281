package replica

import (
	"maps"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/table"
)

// The bounds that tests check.
const (
	HistoryLength  = historyLength
	HistorySlack   = historySlack
	ReadInterval   = readInterval
	TailLimit      = tailLimit
	PacedLinks     = pacedLinks
	PollTimeout    = pollTimeout
	RepairInterval = repairInterval
	QuietTime      = logInterval
)

// Pace makes loads pause after every step, as on one very slow processor, or never, as on several
// processors. It must be called before Run.
func (r *Replica) Pace(paced bool) {
	if !paced {
		r.throttle = newThrottle(2)
		return
	}
	r.throttle = newThrottle(1)
	r.throttle.burst = 0
}

// Retake compares a partition with a loaded state of the same data, calls meanwhile, and returns what a load
// would then show.
func (r *Replica) Retake(partition int, meanwhile func()) *table.Partition {
	p := r.partitions[partition]
	loaded := state{cursor: p.position(), revoked: stickies{}}
	loaded.rows = table.NewPartition(maps.Collect(p.state.rows.All()), loaded.cursor.Revision)
	seen := p.newCarryOver(&pacer{}, &loaded)
	meanwhile()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keepRevoked(&loaded, seen, false)
	return loaded.rows
}

// Corrupt changes an app's entry and the sum with it, as a bug or a flipped bit of memory would.
func (r *Replica) Corrupt(partition int, appID string, e *table.Entry) {
	p := r.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	if was := p.state.rows.Get(appID); was != nil {
		p.state.sum = r.codec.Remove(p.state.sum, partition, appID, was.Revision)
	}
	p.state.sum = r.codec.Add(p.state.sum, partition, appID, e.Revision)
	p.state.rows.Put(appID, e)
}

// Freshness exports freshness.
type Freshness struct{ f freshness }

func (f *Freshness) Mark(sent time.Time)                     { f.f.mark(stampOf(sent)) }
func (f *Freshness) Recall(wall time.Time)                   { f.f.recall(wall) }
func (f *Freshness) Reached(t time.Time) bool                { return f.f.reached(t) }
func (f *Freshness) Age(now time.Time) (time.Duration, bool) { return f.f.age(stampOf(now)) }

func stampOf(t time.Time) stamp { return (&Replica{}).stamp(t) }

// History exports history.
type History struct{ h history }

// NewHistory returns an empty history after a cursor.
func NewHistory(base record.Cursor) *History { return &History{history{base: base}} }

func (h *History) Add(at record.Cursor, raw []byte) { h.h.add(at, raw) }
func (h *History) Agrees(c record.Cursor) bool      { return h.h.agrees(c) }
func (h *History) Base() record.Cursor              { return h.h.base }
func (h *History) Len() int                         { return len(h.h.links) }

// After returns the data of the links after a cursor.
func (h *History) After(c record.Cursor) (data [][]byte, ok bool) {
	links, ok := h.h.after(c)
	for _, link := range links {
		data = append(data, link.raw)
	}
	return data, ok
}
