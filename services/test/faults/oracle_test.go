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

// moment is a time of the campaign: nanoseconds since its start, by the monotonic clock.
type moment int64

func (m moment) String() string { return time.Duration(m).Truncate(100 * time.Microsecond).String() }

// credential is the state of a token that decides its verdict. The zero value is a token that does not exist.
type credential struct {
	state  policy.State
	scopes policy.ScopeSet
	expiry expiry
}

// expiry is the earliest and the latest time at which a token may expire, in milliseconds since the Unix
// epoch. 0 is never; endedAtOnce is before any time.
type expiry struct{ from, to int64 }

// setting is what an app enforces. The zero value is an app that does not exist.
type setting struct {
	configured bool
	scopes     policy.ScopeSet
}

// made is when and where a change was made.
type made struct {
	// sent is when the change was sent, acked when a response acknowledged it; 0 while it is not
	// acknowledged.
	sent, acked moment
	// durable says that all Redis replicas had the change when it was acknowledged.
	durable bool
	// by is the authority that made it, in the start of that number; nil while unknown.
	by   *authority
	life int64
	// at is its cursor in the store; zero while unknown.
	at record.Cursor
}

// write is one value that was written to a register.
type write[V any] struct {
	made
	value V
}

// register holds every value of one thing that changes, in the order in which they were sent. It has one
// writer at a time, and any number of readers.
type register[V any] struct{ writes atomic.Pointer[[]write[V]] }

// newRegister returns a register that had a value from the start.
func newRegister[V any](value V) *register[V] {
	r := &register[V]{}
	r.writes.Store(&[]write[V]{{made{acked: 1, durable: true}, value}})
	return r
}

// all returns every value that was sent, oldest first.
func (r *register[V]) all() []write[V] { return *r.writes.Load() }

// last returns the latest value that was sent.
func (r *register[V]) last() write[V] { all := r.all(); return all[len(all)-1] }

// set appends a value that is being sent or, when acked is not 0, is in the store.
func (r *register[V]) set(value V, m made) {
	all := append(slices.Clone(r.all()), write[V]{m, value})
	r.writes.Store(&all)
}

// conclude records the outcome of the latest value: it is in the store, or it was refused.
func (r *register[V]) conclude(value V, m made, refused bool) {
	all := slices.Clone(r.all())
	all = all[:len(all)-1]
	if !refused {
		all = append(all, write[V]{m, value})
	}
	r.writes.Store(&all)
}

// span is what an answer claims about its data.
type span struct {
	// low is the earliest time at which the data can have been complete: it must contain everything that was
	// acknowledged before.
	low moment
	// end is when the answer was there: it cannot contain anything that was sent later. The data may be this
	// new, because the validator reads its age before the data.
	end moment
	// about is a change that the data must contain in any case; the zero value is none.
	about made
	// seat and life tell whose answer it is; zero is nobody's. Late says that all losses are known.
	seat int
	life int64
	late bool
}

// possible calls each for every value that an answer may show.
func (r *register[V]) possible(losses []*loss, s span, each func(V)) {
	all := r.all()
	for i := len(all) - 1; i >= 0; i-- {
		w := &all[i]
		if w.sent > s.end {
			continue
		}
		each(w.value)
		// A change that was made while the store lacked something may have changed nothing.
		if w.acked != 0 && (w.made == s.about || w.acked <= s.low) && !excused(losses, w.made, s) {
			return
		}
	}
}

// loss is an interval in which the store lacked acknowledged changes: after a failover, a wipe, or an older
// copy.
type loss struct {
	What string `json:"what"`
	// Floor is before everything that may be lost; From is before the store began to lack it.
	Floor, From moment
	// Whole says that even changes that all Redis replicas had may be lost.
	Whole bool
	// Restored says that an operator replaced the store by a backup: changes that no validator holds are
	// lost.
	Restored bool
	// held is what validators could supply at that time.
	held held
	// until is when the store was complete again; 0 while it is not.
	until atomic.Int64
}

// covers reports whether a change may be missing, from From until until.
func (l *loss) covers(m made) bool {
	until := moment(l.until.Load())
	return (l.Whole || !m.durable) && m.acked > l.Floor && (until == 0 || m.sent < until)
}

// excused reports whether an answer may lack a change because the store lacked it.
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
	// Three registers hold what decides the verdict. They are apart because a change of one says nothing
	// about the others: it may be made on top of a store that has lost their changes.
	state  *register[policy.State]
	scopes *register[policy.ScopeSet]
	expiry *register[expiry]
	// revoked is when its revocation was first sent; 0 is never.
	revoked atomic.Int64
	// receipts has, by validator, the receipt of the revocation, if it says APPLIED. denials has in which
	// start a validator answered that the token is revoked.
	receipts []atomic.Pointer[receipt]
	denials  []atomic.Pointer[denial]
}

// denial says that a validator, in one of its starts, has answered that a token is revoked.
type denial struct {
	at   moment
	life int64
}

// receipt says that a validator has applied a change.
type receipt struct {
	at moment
	// life is the start of the validator; 0 when it was restarted meanwhile.
	life int64
	// fenced says that the validator was silent, and decides nothing from data that old.
	fenced bool
}

// app is one app of the campaign. The mutex is held to change the app, or what is known about it.
type app struct {
	id      string
	mu      sync.Mutex
	setting *register[setting]
	tokens  atomic.Pointer[[]*token]
	// changes are all changes that were not refused.
	changes []made
	// doubtful are the names of tokens that may exist without an acknowledgement.
	doubtful map[string]bool
}

func (a *app) list() []*token {
	if all := a.tokens.Load(); all != nil {
		return *all
	}
	return nil
}

// oracle knows what was sent and what was acknowledged. By that alone it judges the answers of validators and
// the content of the store. It is safe for concurrent use.
type oracle struct {
	began  time.Time
	seats  int
	losses atomic.Pointer[[]*loss]

	mu       sync.Mutex
	apps     []*app
	tokens   []*token // tokens with a known secret
	hot      []*token // the tokens among them that were changed last
	suspects []suspect
	damages  []*damage
	found    []violation
	counts   map[string]int

	// judged counts all answers, excusedOnes those that only a loss explains, suspected those that were
	// judged twice. older counts the answers with which a restarted validator accepted a token that it had
	// denied before, and said how old its data is.
	judged, excusedOnes, suspected, older atomic.Int64
}

// suspect is an answer that could not be explained when it came. A loss that becomes known later may explain
// it.
type suspect struct {
	at moment
	// review judges it again, and returns the broken promise; an empty kind when it is explained.
	review func() (kind, what string)
}

// violation is one broken promise.
type violation struct {
	Kind string `json:"kind"`
	At   moment `json:"at"`
	What string `json:"what"`
	// Faults are the faults that were active then or shortly before.
	Faults []string `json:"faults,omitempty"`
}

func newOracle(seats int) *oracle {
	o := &oracle{began: time.Now(), seats: seats, counts: map[string]int{}}
	o.losses.Store(&[]*loss{})
	return o
}

func (o *oracle) now() moment { return moment(time.Since(o.began)) }

// open notes that the store may lack something from this moment on.
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

// newToken notes a token that exists. The caller holds the app's mutex.
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

// latest returns what a token was last set to; false when the outcome is unknown.
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

// maxDetails is how many violations of one kind are kept with their details.
const maxDetails = 20

func (o *oracle) violate(kind string, at moment, format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts[kind]++
	if o.counts[kind] <= maxDetails {
		o.found = append(o.found, violation{Kind: kind, At: at, What: fmt.Sprintf(format, args...)})
	}
}
