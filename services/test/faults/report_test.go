package faults

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ledger records the faults of a run.
type ledger struct {
	oracle *oracle
	going  atomic.Int64

	mu  sync.Mutex
	all []*inflicted
}

// inflicted is one fault that is or was active.
type inflicted struct {
	lane, name string

	mu       sync.Mutex
	detail   string
	from, to moment // to is 0 while the fault is active
	err      error
}

func (i *inflicted) note(format string, args ...any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.detail += " " + fmt.Sprintf(format, args...)
}

func (i *inflicted) String() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	text := fmt.Sprintf("%s to %s: %s%s", i.from, i.to, i.name, i.detail)
	if i.err != nil {
		text += " (" + i.err.Error() + ")"
	}
	return text
}

// fitted reports whether the fault was inflicted. The caller holds the mutex, or all faults are over.
func (i *inflicted) fitted() bool { return !errors.Is(i.err, errNotNow) }

func (l *ledger) begin(lane, name string) *inflicted {
	i := &inflicted{lane: lane, name: name, from: l.oracle.now()}
	l.going.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, i)
	return i
}

func (l *ledger) end(i *inflicted, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.to, i.err = l.oracle.now(), err
	l.going.Add(-1)
}

// active reports whether a fault is active.
func (l *ledger) active() bool { return l.going.Load() > 0 }

// during returns the faults that were active at a time or shortly before.
func (l *ledger) during(at moment, before time.Duration) (found []*inflicted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range l.all {
		i.mu.Lock()
		if i.from <= at && (i.to == 0 || i.to >= at-moment(before)) {
			found = append(found, i)
		}
		i.mu.Unlock()
	}
	return found
}

// stats counts what happens in a campaign, such as acknowledged changes and healed losses.
type stats struct {
	mu           sync.Mutex
	changes      map[string]int
	errors       map[string]int
	undecided    map[string]int
	reached      map[string]int
	heals        []healing
	examples     []string
	acknowledged []acknowledgement
}

// acknowledgement is one acknowledged change.
type acknowledgement struct {
	requestID, method string
	app               *app
	position          string
	made
}

func newStats() *stats {
	return &stats{changes: map[string]int{}, errors: map[string]int{}, undecided: map[string]int{}, reached: map[string]int{}}
}

func (s *stats) count(in map[string]int, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in[what]++
}

func (s *stats) acknowledge(a acknowledgement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acknowledged = append(s.acknowledged, a)
}

// acknowledgedOf counts the acknowledged changes of a kind.
func (s *stats) acknowledgedOf(kind func(acknowledgement) bool) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.acknowledged {
		if kind(a) {
			n++
		}
	}
	return n
}

func (s *stats) example(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.examples) < maxDetails {
		s.examples = append(s.examples, what)
	}
}

func (s *stats) healed(h healing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heals = append(s.heals, h)
}

// summary is the result of a campaign.
type summary struct {
	Topology string        `json:"topology"`
	Quorum   int           `json:"quorum"`
	Seed     uint64        `json:"seed"`
	Took     time.Duration `json:"took"`
	// Faults counts the inflicted faults by name. NotNow counts the faults that were not inflicted, because
	// they did not fit the current state.
	Faults map[string]int `json:"faults"`
	Total  int            `json:"total_faults"`
	NotNow int            `json:"not_now"`
	Failed []string       `json:"failed_faults,omitempty"`
	// Decisions were all judged. Excused are those that only a loss explains, Suspected those that were
	// judged twice.
	Decisions int64 `json:"decisions"`
	Excused   int64 `json:"excused"`
	Suspected int64 `json:"suspected"`
	// Older are the answers with which a restarted validator accepted a token that it had denied before, and
	// said how old its data is.
	Older     int64          `json:"older"`
	Undecided map[string]int `json:"undecided"`
	// Reached counts the rare states.
	Reached map[string]int `json:"reached"`
	// Changes counts the changes by outcome and method. Durable are those that all Redis replicas had when
	// they were acknowledged.
	Changes map[string]int `json:"changes"`
	Durable int            `json:"durable"`
	Errors  map[string]int `json:"errors"`
	// Losses are the intervals in which the store may have lacked changes. Healed are the losses in which it
	// did.
	Losses     int           `json:"losses"`
	Healed     int           `json:"healed"`
	HealedP50  time.Duration `json:"healed_p50"`
	HealedMax  time.Duration `json:"healed_max"`
	SinceP50   time.Duration `json:"since_loss_p50"`
	SinceMax   time.Duration `json:"since_loss_max"`
	Missing    int           `json:"missing"`
	Revoked    int           `json:"missing_revocations"`
	Superseded int           `json:"superseded"`
	Gone       int           `json:"gone"`
	Restored   int           `json:"restored_by_operator"`
	Examples   []string      `json:"superseded_examples,omitempty"`
	Heals      []healing     `json:"heals,omitempty"`
	Receipts   receiptCounts `json:"receipts"`
	AuditRows  int           `json:"audit_rows"`
	AuditLost  int           `json:"audit_rows_lost"`
	Converged  time.Duration `json:"converged"`
	// Violations counts by kind; Found has the first of each kind.
	Violations map[string]int `json:"violations"`
	Found      []violation    `json:"found,omitempty"`
	// History lists every fault and every loss, in order.
	History []string `json:"history"`
}

func (c *campaign) newSummary() *summary {
	r := &summary{
		Topology: c.topology.kind, Quorum: c.options.quorum, Seed: c.options.seed,
		Faults: map[string]int{}, Decisions: c.oracle.judged.Load(), Excused: c.oracle.excusedOnes.Load(),
		Suspected: c.oracle.suspected.Load(), Older: c.oracle.older.Load(),
		Losses: len(*c.oracle.losses.Load()), Receipts: c.receipts.counts(),
	}
	for _, i := range c.faults.all {
		r.History = append(r.History, i.String())
		switch {
		case !i.fitted():
			r.NotNow++
			continue
		case i.err != nil:
			r.Failed = append(r.Failed, i.String())
		}
		r.Faults[i.name]++
		r.Total++
	}
	for _, l := range *c.oracle.losses.Load() {
		r.History = append(r.History, fmt.Sprintf("%s to %s: %s (may lack what came after %s)", l.From, moment(l.until.Load()),
			l.What, l.Floor))
	}
	s := c.stats
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Undecided, r.Changes, r.Errors, r.Examples = s.undecided, s.changes, s.errors, s.examples
	r.Reached = map[string]int{}
	for _, rare := range rarities {
		r.Reached[rare.name] = s.reached[rare.name]
	}
	for _, a := range s.acknowledged {
		if a.durable {
			r.Durable++
		}
	}
	var took, since []time.Duration
	for _, h := range s.heals {
		r.Superseded += h.Superseded
		r.Gone += h.Gone
		if h.Restored { // the wait of an operator is not measured
			r.Restored++
			r.Heals = append(r.Heals, h)
			continue
		}
		if h.Missing > 0 {
			r.Healed++
			r.Missing += h.Missing
			r.Revoked += h.Revocations
			r.Heals = append(r.Heals, h)
			took, since = append(took, h.Took), append(since, h.SinceLoss)
		}
	}
	slices.Sort(took)
	if slices.Sort(since); len(took) > 0 {
		r.HealedP50, r.HealedMax = took[len(took)/2], took[len(took)-1]
		r.SinceP50, r.SinceMax = since[len(took)/2], since[len(took)-1]
	}
	c.oracle.mu.Lock()
	defer c.oracle.mu.Unlock()
	r.Violations = c.oracle.counts
	for _, v := range c.oracle.found {
		for _, i := range c.faults.during(v.At, 10*time.Second) {
			v.Faults = append(v.Faults, i.String())
		}
		r.Found = append(r.Found, v)
	}
	return r
}

// String returns the report as text for people.
func (r *summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, write quorum %d, seed %d, %s\n", r.Topology, r.Quorum, r.Seed, r.Took.Round(time.Second))
	fmt.Fprintf(&b, "%d faults (%d did not fit, %d failed):\n%s", r.Total, r.NotNow, len(r.Failed), table(r.Faults))
	fmt.Fprintf(&b,
		"%d decisions, %d judged twice, %d explained by a loss, %d from an older copy after a restart; undecided:\n%s",
		r.Decisions, r.Suspected, r.Excused, r.Older, table(r.Undecided))
	fmt.Fprintf(&b, "changes, %d of them on all replicas when acknowledged:\n%s", r.Durable, table(r.Changes))
	fmt.Fprintf(&b, "calls that failed:\n%s", table(r.Errors))
	fmt.Fprintf(&b, "receipts: %+v\n", r.Receipts)
	fmt.Fprintf(&b,
		"%d possible losses, %d real ones: %d changes missing, %d of them revocations; "+
			"healed p50 %s, max %s after the store was writable, p50 %s, max %s after the loss; "+
			"superseded %d, gone with all holders %d; restored by the operator %d times\n",
		r.Losses, r.Healed, r.Missing, r.Revoked, r.HealedP50.Round(time.Millisecond), r.HealedMax.Round(time.Millisecond),
		r.SinceP50.Round(time.Millisecond), r.SinceMax.Round(time.Millisecond), r.Superseded, r.Gone, r.Restored)
	fmt.Fprintf(&b, "audit: %d rows, %d lost with the store; everything equal %s after the last fault\n", r.AuditRows,
		r.AuditLost, r.Converged.Round(time.Millisecond))
	fmt.Fprintf(&b, "rare states:\n%s", table(r.Reached))
	fmt.Fprintf(&b, "violations: %v\n", r.Violations)
	for _, v := range r.Found {
		fmt.Fprintf(&b, "\n%s at %s: %s\n\t%s\n", v.Kind, v.At, v.What, strings.Join(v.Faults, "\n\t"))
	}
	for _, f := range r.Failed {
		fmt.Fprintf(&b, "failed: %s\n", f)
	}
	return b.String()
}

func table(counts map[string]int) string {
	var b strings.Builder
	for _, name := range slices.SortedFunc(maps.Keys(counts),
		func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b)) }) {
		fmt.Fprintf(&b, "%10d %s\n", counts[name], name)
	}
	return b.String()
}

// write appends the report to a file, as one line of JSON.
func (r *summary) write(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	return json.NewEncoder(file).Encode(r)
}
