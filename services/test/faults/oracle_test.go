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

// moment is a time of the campaign: nanoseconds since it began, by the monotonic clock.
type moment int64

func (m moment) String() string { return time.Duration(m).Truncate(100 * time.Microsecond).String() }

// credential is what a token is worth. The zero value is one that is not there.
type credential struct {
	state  policy.State
	scopes policy.ScopeSet
	expiry expiry
}

// expiry is the earliest and the latest that a token may expire, in milliseconds since the Unix epoch; 0 is
// never, endedAtOnce before any time.
type expiry struct{ from, to int64 }

// setting is what an app enforces. The zero value is an app that is not there.
type setting struct {
	configured bool
	scopes     policy.ScopeSet
}

// made is when a change was made.
type made struct {
	// sent is when it was asked for, acked when somebody was told that it is made; 0 while nobody was.
	sent, acked moment
	// durable says that all replicas had it by then.
	durable bool
	// by is the authority that made it, in its life of that number; nil while it is not known.
	by   *authority
	life int64
	// at is where it stands in the history of the store; the zero cursor while that is not known.
	at record.Cursor
}

// write is one value that a register was given.
type write[V any] struct {
	made
	value V
}

// register is one thing that changes, with everything it was ever set to, in the order in which that was
// asked for. It has one writer at a time, and any number of readers.
type register[V any] struct{ writes atomic.Pointer[[]write[V]] }

// newRegister returns a register that has had a value since the beginning.
func newRegister[V any](value V) *register[V] {
	r := &register[V]{}
	r.writes.Store(&[]write[V]{{made{acked: 1, durable: true}, value}})
	return r
}

// all returns every value that was set, oldest first.
func (r *register[V]) all() []write[V] { return *r.writes.Load() }

// last returns the latest value that was asked for.
func (r *register[V]) last() write[V] { all := r.all(); return all[len(all)-1] }

// set says that a value is being asked for, or when acked is not 0 that it is there.
func (r *register[V]) set(value V, m made) {
	all := append(slices.Clone(r.all()), write[V]{m, value})
	r.writes.Store(&all)
}

// settle says what became of the latest value: it is there, or it was never set.
func (r *register[V]) settle(value V, m made, refused bool) {
	all := slices.Clone(r.all())
	all = all[:len(all)-1]
	if !refused {
		all = append(all, write[V]{m, value})
	}
	r.writes.Store(&all)
}

// span is what an answer says of the data that it rests on.
type span struct {
	// low is the earliest time at which the data can have been complete: everything that was acknowledged
	// before must be in it.
	low moment
	// end is when the answer was there: nothing that was asked for later can be in it. The data may be as
	// new as that, since its age is taken before it is looked at.
	end moment
	// about is a change that must be in the data, whatever else is said; the zero value is none.
	about made
	// seat and life are whose answer it is; the zero values are nobody's. Late says that all is known of
	// the losses then.
	seat int
	life int64
	late bool
}

// possible calls each for every value that may show in an answer.
func (r *register[V]) possible(losses []*loss, s span, each func(V)) {
	all := r.all()
	for i := len(all) - 1; i >= 0; i-- {
		w := &all[i]
		if w.sent > s.end {
			continue
		}
		each(w.value)
		// What was asked for while the store lacked something may have changed nothing there.
		if w.acked != 0 && (w.made == s.about || w.acked <= s.low) && !excused(losses, w.made, s) {
			return
		}
	}
}

// loss is a time in which the store did not have everything that was acknowledged: a failover, a wipe, an
// older copy.
type loss struct {
	What string `json:"what"`
	// Floor is before everything that can have been lost, From before the store began to lack it.
	Floor, From moment
	// Whole says that even what all replicas had may be lacking.
	Whole bool
	// Restored says that an operator put a backup in the place of the store: what is in no validator is
	// lost then.
	Restored bool
	// held is what validators could supply then.
	held held
	// until is when everything was there again; 0 while it is not.
	until atomic.Int64
}

// covers tells whether a change may be lacking, from From until until.
func (l *loss) covers(m made) bool {
	until := moment(l.until.Load())
	return (l.Whole || !m.durable) && m.acked > l.Floor && (until == 0 || m.sent < until)
}

// excused tells whether an answer may lack a change because the store did.
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
	// secret is the zero value when its answer was lost.
	secret   secret.Secret
	imported bool
	// What it is worth is in three registers, since a change of one thing says nothing of the others: it
	// may be made on top of what the store has lost.
	state  *register[policy.State]
	scopes *register[policy.ScopeSet]
	expiry *register[expiry]
	// revoked is when its revocation was first asked for; 0 is never.
	revoked atomic.Int64
	// receipts are, by validator, that of the revocation, if it is applied there; denials in which life of
	// a validator it was denied for being revoked.
	receipts []atomic.Pointer[receipt]
	denials  []atomic.Pointer[denial]
}

// denial says that a validator, in one of its lives, has answered that a token is revoked.
type denial struct {
	at   moment
	life int64
}

// receipt says that a validator has applied something.
type receipt struct {
	at moment
	// life is that of the validator; 0 when it was started again meanwhile.
	life int64
	// fenced says that the validator had gone silent, and decides nothing from data that old.
	fenced bool
}

// app is one app of the campaign. Whoever changes it, or what is known of it, holds the mutex.
type app struct {
	id      string
	mu      sync.Mutex
	setting *register[setting]
	tokens  atomic.Pointer[[]*token]
	// changes are all that were not refused.
	changes []made
	// doubtful are the names of tokens that may be there though nobody was told so.
	doubtful map[string]bool
}

func (a *app) list() []*token {
	if all := a.tokens.Load(); all != nil {
		return *all
	}
	return nil
}

// oracle knows what was asked for and what was acknowledged, and judges by that alone what validators
// answer and what the store holds. It is safe for concurrent use.
type oracle struct {
	began  time.Time
	seats  int
	losses atomic.Pointer[[]*loss]

	mu       sync.Mutex
	apps     []*app
	tokens   []*token // those that can be asked about
	hot      []*token // those of them that were changed last
	suspects []suspect
	damages  []*damage
	found    []violation
	counts   map[string]int

	// judged are all answers, excusedOnes those that only a loss explains, suspected those that were looked
	// at twice, older those by which a validator that was started again accepted what it had applied
	// before, and said how old its data is.
	judged, excusedOnes, suspected, older atomic.Int64
}

// suspect is an answer that was not understood when it came. It may be once it is known what had happened
// to the store.
type suspect struct {
	at moment
	// review looks at it again, and returns which promise was broken; none if it is understood now.
	review func() (kind, what string)
}

// violation is one promise that was broken.
type violation struct {
	Kind string `json:"kind"`
	At   moment `json:"at"`
	What string `json:"what"`
	// Faults are those that were going on then or shortly before.
	Faults []string `json:"faults,omitempty"`
}

func newOracle(seats int) *oracle {
	o := &oracle{began: time.Now(), seats: seats, counts: map[string]int{}}
	o.losses.Store(&[]*loss{})
	return o
}

func (o *oracle) now() moment { return moment(time.Since(o.began)) }

// open notes that the store may lack something from now on.
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

// newToken notes a token that is there. The caller holds the app's mutex.
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

// latest returns what a token was last asked to be; false when it is not known what has become of that.
func (t *token) latest() (c credential, known bool) {
	state, scopes, expires := t.state.last(), t.scopes.last(), t.expiry.last()
	return credential{state.value, scopes.value, expires.value}, state.acked != 0 && scopes.acked != 0 && expires.acked != 0
}

// history returns the latest of what a register was set to, for people.
func history[V any](r *register[V]) string {
	all := r.all()
	text := ""
	for _, w := range all[max(0, len(all)-4):] {
		text += fmt.Sprintf("[%v sent %s acked %s durable %t]", w.value, w.sent, w.acked, w.durable)
	}
	return text
}

// maxDetails is how many violations of one kind are kept with what is known about them.
const maxDetails = 20

func (o *oracle) violate(kind string, at moment, format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts[kind]++
	if o.counts[kind] <= maxDetails {
		o.found = append(o.found, violation{Kind: kind, At: at, What: fmt.Sprintf(format, args...)})
	}
}
