package faults

import (
	"fmt"
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/policy"
)

// decision is one question to a validator, with its answer.
type decision struct {
	seat int
	// life counts the starts of the validator in this seat, from 1.
	life  int64
	app   *app
	token *token // nil for a secret that no token has
	scope policy.Scope
	// asked and answered are when the question was sent and when its answer arrived. askedMillis and
	// answeredMillis are the same moments by the clock of the validator, in milliseconds since the Unix
	// epoch.
	asked, answered             moment
	askedMillis, answeredMillis int64
	// about is the change that the question named (MinRevision), which the data had to contain; the zero
	// value means none.
	about made
	// late says that all losses are known by the time of the judgement.
	late   bool
	age    time.Duration
	answer policy.Decision
}

// The kinds of violations that the oracle finds in answers.
const (
	afterReceipt = "revoked secret accepted after its receipt"
	afterDenial  = "revoked secret accepted after it was denied by the same validator"
	stale        = "decided from data older than it says"
	denied       = "denied although active and known"
	unexplained  = "no change explains an answer"
	wrong        = "decision and reason contradict each other"
)

// judge judges an answer. If it cannot explain the answer now, it queues the answer for review.
func (o *oracle) judge(d *decision) {
	o.judged.Add(1)
	accepted := d.answer.Reason == policy.TokenValid || d.answer.Reason == policy.TokenValidUnscoped
	if t := d.token; t != nil && accepted && t.revoked.Load() != 0 {
		// A restarted validator may decide from an older copy of the data. Its answer must then give the age
		// of this copy.
		if r := t.receipts[d.seat].Load(); r != nil && d.asked > r.at {
			if r.fenced || d.life == r.life || d.answered-moment(d.age) > r.at {
				o.violate(afterReceipt, d.answered, "%s, receipt of %s", d, r.at)
			} else {
				o.older.Add(1)
			}
		}
		if was := t.denials[d.seat].Load(); was != nil && was.life == d.life && d.asked > was.at {
			o.violate(afterDenial, d.answered, "%s", d)
		}
	}
	// Only an answer with the reason TOKEN_REVOKED proves that this validator knows of the revocation.
	if t := d.token; t != nil && d.answer.Reason == policy.TokenRevoked {
		if was := t.denials[d.seat].Load(); was == nil || was.life < d.life {
			t.denials[d.seat].CompareAndSwap(was, &denial{d.answered, d.life})
		}
	}
	if d.answer.Reason != policy.AppNotConfigured && d.answer.Allow != (accepted || !d.answer.Enforced) {
		o.violate(wrong, d.answered, "%s", d)
	}
	switch {
	case o.explains(d, nil):
	case o.explains(d, o.lossesOf(d.app.id)):
		o.excusedOnes.Add(1)
	default:
		kept := *d
		o.suspect(func() (string, string) { return o.again(&kept) })
	}
}

// suspect queues an answer for review, as a function that judges it again.
func (o *oracle) suspect(review func() (kind, what string)) {
	o.suspected.Add(1)
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.suspects) < maxSuspects {
		o.suspects = append(o.suspects, suspect{o.now(), review})
	}
}

// again judges an answer a second time, with all losses that have become known since.
func (o *oracle) again(d *decision) (kind, what string) {
	d.late = true
	if o.explains(d, o.lossesOf(d.app.id)) {
		o.excusedOnes.Add(1)
		return "", ""
	}
	anything := *d
	anything.age, anything.about = time.Duration(d.answered), made{} // as if the answer claimed nothing about its data
	switch {
	case !o.explains(&anything, nil):
		return unexplained, d.String()
	case d.token != nil && !d.answer.Allow:
		return denied, d.String()
	}
	return stale, d.String()
}

const (
	// maxSuspects bounds the queue when a broken build makes every answer wrong.
	maxSuspects = 100_000
	// reviewAfter is the age at which a queued answer is judged again. By then the campaign knows of every
	// loss that can explain it, and whether the loss was healed at once.
	reviewAfter = healBound + 3*time.Second
)

// review judges the queued answers that are older than reviewAfter, or all of them.
func (o *oracle) review(all bool) {
	o.mu.Lock()
	n := 0
	for n < len(o.suspects) && (all || o.now()-o.suspects[n].at > moment(reviewAfter)) {
		n++
	}
	ripe := slices.Clone(o.suspects[:n])
	o.suspects = slices.Delete(o.suspects, 0, n)
	o.mu.Unlock()
	for _, r := range ripe {
		if kind, what := r.review(); kind != "" {
			o.violate(kind, r.at, "%s", what)
		}
	}
}

// explains reports whether the answer is right for some state of the app that the validator's data may have
// had.
func (o *oracle) explains(d *decision, losses []*loss) bool {
	// The data contains the change that the question named, and so everything that was acknowledged before
	// that change.
	s := span{
		low: max(d.asked-moment(d.age), d.about.acked), end: d.answered, about: d.about, seat: d.seat, life: d.life,
		late: d.late,
	}
	notThere, enforced, open := false, false, false
	d.app.setting.possible(losses, s, func(e setting) {
		switch {
		case !e.configured:
			notThere = true
		case e.scopes.Has(d.scope):
			enforced = true
		default:
			open = true
		}
	})
	if d.answer.Reason == policy.AppNotConfigured {
		return notThere && !d.answer.Enforced
	}
	if d.answer.Enforced && !enforced || !d.answer.Enforced && !open {
		return false
	}
	if d.token == nil {
		return d.answer.Reason == policy.TokenUnknown
	}
	if at := d.token.revoked.Load(); at != 0 && moment(at) <= s.end && d.answer.Reason == policy.TokenRevoked {
		return true // an answer may always show a revocation that was sent, whatever the store has lost
	}
	return d.token.says(losses, s, d)
}

// says reports whether the reason of an answer is right for some state that the token may have had (B19).
func (t *token) says(losses []*loss, s span, d *decision) bool {
	absent, active, other := false, false, false
	t.state.possible(losses, s, func(state policy.State) {
		absent = absent || state == 0
		active = active || state == policy.Active
		other = other || state == policy.Disabled && d.answer.Reason == policy.TokenDisabled || state == policy.Revoked &&
			d.answer.Reason == policy.TokenRevoked
	})
	expired, alive := false, false
	t.expiry.possible(losses, s, func(e expiry) {
		expired = expired || e.from != 0 && d.answeredMillis >= e.from
		alive = alive || e.to == 0 || d.askedMillis < e.to
	})
	switch d.answer.Reason {
	case policy.TokenUnknown:
		return absent
	case policy.TokenMalformed:
		return absent && t.imported
	case policy.TokenRevoked, policy.TokenDisabled:
		return other
	case policy.TokenExpired:
		return active && expired
	}
	granted := false
	t.scopes.possible(losses, s, func(set policy.ScopeSet) {
		want := policy.ScopeNotGranted
		switch {
		case set == 0:
			want = policy.TokenValidUnscoped
		case set.Has(d.scope) || d.scope == policy.ScopeGDPR:
			want = policy.TokenValid
		}
		granted = granted || d.answer.Reason == want
	})
	return active && alive && granted
}

func (d *decision) String() string {
	text := fmt.Sprintf("validator %d (life %d), app %s, scope %d: allow=%t reason=%d enforced=%t, data as of %s to %s",
		d.seat, d.life, d.app.id, d.scope, d.answer.Allow, d.answer.Reason, d.answer.Enforced,
		d.asked-moment(d.age), d.answered-moment(d.age))
	if d.about.acked != 0 {
		text += fmt.Sprintf(", asked for the change of %s", d.about.acked)
	}
	if d.token != nil {
		text += fmt.Sprintf("; token %s %s", d.token.id, d.token)
	}
	return text + "; app " + history(d.app.setting)
}

func (t *token) String() string {
	return "state " + history(t.state) + " scopes " + history(t.scopes) + " expiry " + history(t.expiry)
}
