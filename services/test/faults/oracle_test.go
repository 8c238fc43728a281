package faults

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
)

// moment is a time in the campaign, in nanoseconds since its start by the monotonic clock.
type moment int64

func (m moment) String() string { return time.Duration(m).Truncate(100 * time.Microsecond).String() }

// credential holds the parts of a token that decide the answer for it. The zero value stands for a token that
// does not exist.
type credential struct {
	state  policy.State
	scopes policy.ScopeSet
	expiry expiry
}

// expiry is the earliest and the latest time at which a token may expire, in milliseconds since the Unix
// epoch. 0 means never. endedAtOnce is earlier than any real time.
type expiry struct{ from, to int64 }

// setting is the enforcement of an app. The zero value stands for an app that does not exist.
type setting struct {
	configured bool
	scopes     policy.ScopeSet
}

// made says when a change was made, by which authority, and at which cursor of the store.
type made struct {
	// sent is when the change was sent to an authority. acked is when a response acknowledged it; 0 while
	// none has.
	sent, acked moment
	// durable says that all Redis replicas had the change when it was acknowledged.
	durable bool
	// by is the authority that made the change; nil while unknown. life says in which start of that
	// authority, counted from 1.
	by   *authority
	life int64
	// at is the cursor of the change in the store; zero while unknown.
	at record.Cursor
}

// write is one value of a register, with the change that sets this value.
type write[V any] struct {
	made
	value V
}

// register holds all values that one field, such as the state of a token, may have had, in the order in which
// they were sent. One goroutine at a time may write to it, and any number may read.
type register[V any] struct{ writes atomic.Pointer[[]write[V]] }

// newRegister returns a register with a value that counts as acknowledged from the start of the campaign.
func newRegister[V any](value V) *register[V] {
	r := &register[V]{}
	r.writes.Store(&[]write[V]{{made{acked: 1, durable: true}, value}})
	return r
}

// all returns all values that were sent, oldest first.
func (r *register[V]) all() []write[V] { return *r.writes.Load() }

// last returns the latest value that was sent.
func (r *register[V]) last() write[V] { all := r.all(); return all[len(all)-1] }

// set appends a value. With m.acked = 0 the value is about to be sent; otherwise it is in the store.
func (r *register[V]) set(value V, m made) {
	all := append(slices.Clone(r.all()), write[V]{m, value})
	r.writes.Store(&all)
}

// conclude records the outcome of the latest value. If it was refused, conclude removes it. Otherwise it
// replaces it by the given value, which is in the store.
func (r *register[V]) conclude(value V, m made, refused bool) {
	all := slices.Clone(r.all())
	all = all[:len(all)-1]
	if !refused {
		all = append(all, write[V]{m, value})
	}
	r.writes.Store(&all)
}

// span is the interval in which the data behind an answer can have been read, with what else the data must
// contain.
type span struct {
	// low is the earliest time at which the data can have been complete. The data must contain every change
	// that was acknowledged before low.
	low moment
	// end is when the answer arrived. The data cannot contain a change that was sent later. The data can be
	// newer than its age says, because the validator reads the age before the data.
	end moment
	// about is the change that the request named (MinRevision), which the data must contain; the zero value
	// means none.
	about made
	// seat and life say which validator answered, and in which of its starts; life 0 means no validator. late
	// says that by the time of the judgement all losses are known.
	seat int
	life int64
	late bool
}

// possible calls each for every value of the register that an answer may show. It goes from the newest value
// to the oldest. It ends at a value that the data must contain, unless a loss excuses that the value is
// missing.
func (r *register[V]) possible(losses []*loss, s span, each func(V)) {
	all := r.all()
	for i := len(all) - 1; i >= 0; i-- {
		w := &all[i]
		if w.sent > s.end {
			continue
		}
		each(w.value)
		// The data contains a change that was acknowledged before low, so the answer cannot show older
		// values, unless the store may have lost this change.
		if w.acked != 0 && (w.made == s.about || w.acked <= s.low) && !excused(losses, w.made, s) {
			return
		}
	}
}

// loss is an interval in which the store may lack acknowledged changes: after a failover, after a wipe, or
// after an older copy of the data was put back.
type loss struct {
	What string `json:"what"`
	// Every change that may be lost was acknowledged after Floor. The store began to lack changes after From.
	Floor, From moment
	// Whole says that every change after Floor may be lost, including changes that all Redis replicas had.
	Whole bool
	// Restored says that an operator replaced the store by a backup. Changes that are neither in the backup
	// nor held by a validator are then lost.
	Restored bool
	// held lists the changes that validators could supply when the loss began.
	held held
	// until is when the store was complete again; 0 while it is not.
	until atomic.Int64
}

// covers reports whether the store may lack a change because of this loss.
func (l *loss) covers(m made) bool {
	until := moment(l.until.Load())
	return (l.Whole || !m.durable) && m.acked > l.Floor && (until == 0 || m.sent < until)
}

// excused reports whether one of the losses explains that the data behind an answer lacks a change.
func excused(losses []*loss, m made, s span) bool {
	for _, l := range losses {
		until := moment(l.until.Load())
		if (until == 0 || until >= s.low) && s.end >= l.From && l.covers(m) && !l.shows(m, s) {
			return true
		}
	}
	return false
}

// token is one token of the campaign.
type token struct {
	app      *app
	id, name string
	// secret is empty when the response with it was lost.
	secret   secret.Secret
	imported bool
	// Three registers hold the fields that decide the answer. There is one for each field, because a change
	// of one field proves nothing about the others: the store may have lost changes of the others before it.
	state  *register[policy.State]
	scopes *register[policy.ScopeSet]
	expiry *register[expiry]
	// revoked is when a revocation of the token was first sent; 0 means never.
	revoked atomic.Int64
	// receipts has, for each seat, the receipt that says that its validator has applied the revocation.
	// denials has, for each seat, the latest start of its validator in which it answered that the token is
	// revoked.
	receipts []atomic.Pointer[receipt]
	denials  []atomic.Pointer[denial]
}

// denial says that a validator, in the start number life, answered at the time at that a token is revoked.
type denial struct {
	at   moment
	life int64
}

// receipt says that a validator has applied a change.
type receipt struct {
	at moment
	// life is the number of the validator's start that applied the change; 0 when the validator was restarted
	// meanwhile.
	life int64
	// fenced says that the receipt counts the validator as FENCED: it has not reported for so long that its
	// data is older than its staleness bound, so it decides nothing.
	fenced bool
}

// app is one app of the campaign. Hold the mutex to change the app in the store, or to change these fields.
type app struct {
	id      string
	mu      sync.Mutex
	setting *register[setting]
	tokens  atomic.Pointer[[]*token]
	// changes are all changes of the app that were not refused.
	changes []made
	// doubtful holds the names of tokens that may exist although no response acknowledged them.
	doubtful map[string]bool
}

func (a *app) list() []*token {
	if all := a.tokens.Load(); all != nil {
		return *all
	}
	return nil
}

// oracle knows which changes were sent and which were acknowledged. From this alone it judges the answers of
// validators and the content of the store. It is safe for concurrent use.
type oracle struct {
	began  time.Time
	seats  int
	losses atomic.Pointer[[]*loss]

	mu       sync.Mutex
	apps     []*app
	tokens   []*token // tokens with a known secret
	hot      []*token // the tokens that were changed last
	suspects []suspect
	damages  []*damage
	found    []violation
	counts   map[string]int

	// judged counts all answers. excusedOnes counts the answers that only a loss explains. suspected counts
	// the answers that are judged a second time, later. older counts the answers in which a restarted
	// validator accepted a revoked token after a receipt, and correctly gave the age of its older data.
	judged, excusedOnes, suspected, older atomic.Int64
}

// suspect is an answer that the oracle could not explain when it came. A loss that becomes known later may
// explain it.
type suspect struct {
	at moment
	// review judges the answer again. It returns the kind of violation and a description; the kind is empty
	// when the answer is explained.
	review func() (kind, what string)
}

// violation is one broken promise.
type violation struct {
	Kind string `json:"kind"`
	At   moment `json:"at"`
	What string `json:"what"`
	// Faults are the faults that were active at that time or shortly before.
	Faults []string `json:"faults,omitempty"`
}

func newOracle(seats int) *oracle {
	o := &oracle{began: time.Now(), seats: seats, counts: map[string]int{}}
	o.losses.Store(&[]*loss{})
	return o
}

func (o *oracle) now() moment { return moment(time.Since(o.began)) }

// open records a loss that has just begun.
func (o *oracle) open(l *loss) {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := append(slices.Clone(*o.losses.Load()), l)
	o.losses.Store(&all)
}

func (o *oracle) newApp(id string) *app {
	a := &app{id: id, setting: newRegister(setting{}), doubtful: map[string]bool{}}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.apps = append(o.apps, a)
	return a
}

// newToken records a token that was created by the change m. The caller holds the app's mutex.
func (o *oracle) newToken(a *app, id, name string, s secret.Secret, imported bool, value credential, m made) *token {
	t := &token{
		app: a, id: id, name: name, secret: s, imported: imported,
		state: newRegister(policy.State(0)), scopes: newRegister(value.scopes), expiry: newRegister(value.expiry),
		receipts: make([]atomic.Pointer[receipt], o.seats), denials: make([]atomic.Pointer[denial], o.seats),
	}
	t.state.set(value.state, m)
	list := append(slices.Clone(a.list()), t)
	a.tokens.Store(&list)
	if s.Reveal() != "" {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.tokens = append(o.tokens, t)
	}
	return t
}

// latest returns the values that were last sent for a token. known is false when one of them was not
// acknowledged.
func (t *token) latest() (c credential, known bool) {
	state, scopes, expires := t.state.last(), t.scopes.last(), t.expiry.last()
	return credential{state.value, scopes.value, expires.value}, state.acked != 0 && scopes.acked != 0 && expires.acked != 0
}

// history describes the latest values of a register, for people.
func history[V any](r *register[V]) string {
	all := r.all()
	text := ""
	for _, w := range all[max(0, len(all)-4):] {
		text += fmt.Sprintf("[%v sent %s acked %s durable %t]", w.value, w.sent, w.acked, w.durable)
	}
	return text
}

// maxDetails is how many violations of one kind are kept with their details. Further ones are only counted.
const maxDetails = 20

func (o *oracle) violate(kind string, at moment, format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts[kind]++
	if o.counts[kind] <= maxDetails {
		o.found = append(o.found, violation{Kind: kind, At: at, What: fmt.Sprintf(format, args...)})
	}
}
