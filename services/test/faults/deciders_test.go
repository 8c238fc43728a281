package faults

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/validator"
)

const (
	// burst is the number of questions that a decider asks between two readings of the clock.
	burst = 256
	// hotTokens is the number of recently changed tokens that are asked about more often.
	hotTokens = 64
	lastScope = policy.ScopeGDPR
)

// freshChange is a change that was just acknowledged, with its consistency token.
type freshChange struct {
	token    *token
	position string
	made
}

// heat adds a token to the hot tokens, which deciders ask about more often.
func (o *oracle) heat(t *token) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if t.secret.Reveal() == "" {
		return
	}
	o.hot = append(o.hot, t)
	o.hot = o.hot[max(0, len(o.hot)-hotTokens):]
}

// sample returns some tokens to ask about.
func (o *oracle) sample(random *rand.Rand, into []*token) []*token {
	o.mu.Lock()
	defer o.mu.Unlock()
	into = into[:0]
	if len(o.tokens) == 0 {
		return into
	}
	for range burst {
		if len(o.hot) > 0 && random.IntN(3) > 0 {
			into = append(into, o.hot[random.IntN(len(o.hot))])
		} else {
			into = append(into, o.tokens[random.IntN(len(o.tokens))])
		}
	}
	return into
}

// decide asks validators about tokens at a given rate, and passes every answer to the oracle.
func (c *campaign) decide(ctx context.Context, seats []*seat, random *rand.Rand, perSecond float64) {
	began := time.Now()
	forged := secret.Mint()
	var tokens []*token
	for asked := 0; ctx.Err() == nil; {
		tokens = c.oracle.sample(random, tokens)
		for i, t := range tokens {
			d := decision{
				seat: oneOf(random, seats).number, app: t.app, token: t,
				scope: 1 + policy.Scope(random.IntN(int(lastScope))),
			}
			text := t.secret
			switch {
			case i%32 == 0:
				d.token, text = nil, forged
			case i%32 == 1: // the token of another app
				d.token, text = nil, tokens[(i+1)%len(tokens)].secret
				if other := tokens[(i+1)%len(tokens)]; other.app == t.app || other.imported {
					continue
				}
			}
			c.ask(ctx, &d, text, "")
		}
		asked += burst
		if ahead := time.Duration(float64(asked)/perSecond*float64(time.Second)) - time.Since(began); ahead > 0 ||
			len(tokens) == 0 {
			time.Sleep(max(ahead, time.Millisecond))
		} else if -ahead > time.Second { // do not make up for missed decisions
			began, asked = time.Now(), 0
		}
	}
}

// follow asks about tokens right after their change was acknowledged, with the consistency token (B25).
func (c *campaign) follow(ctx context.Context, random *rand.Rand) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-c.fresh:
			d := decision{
				seat: random.IntN(len(c.seats)), app: f.token.app, token: f.token,
				scope: 1 + policy.Scope(random.IntN(int(lastScope))), about: f.made,
			}
			c.ask(ctx, &d, f.token.secret, f.position)
		}
	}
}

// ask asks one question and passes the answer to the oracle.
func (c *campaign) ask(ctx context.Context, d *decision, text secret.Secret, position string) {
	e := c.seats[d.seat].now.Load()
	if e == nil {
		return
	}
	d.life = e.life
	start := time.Now()
	d.asked, d.askedMillis = moment(start.Sub(c.oracle.began)), start.UnixMilli()
	answer, err := e.Authorize(ctx, validator.Request{AppID: d.app.id, Token: text, Scope: d.scope, MinRevision: position})
	end := time.Now()
	d.answered, d.answeredMillis = moment(end.Sub(c.oracle.began)), end.UnixMilli()
	if err != nil {
		c.judgeError(ctx, d, e, err)
		return
	}
	d.age, d.answer = answer.DataAge, answer.Decision
	least, most := c.seats[d.seat].clock.between(d.asked, d.answered)
	if least != 0 && least == most && d.token.turned(d.answer.Reason, d.answeredMillis) {
		c.stats.reach(skewExpired)
	}
	d.askedMillis, d.answeredMillis = d.askedMillis+least.Milliseconds(), d.answeredMillis+most.Milliseconds()
	if c.seats[d.seat].justContinued(d.answered) && d.age > replica.StaleAfter {
		c.stats.reach(continuedOld)
	}
	if bound := c.seats[d.seat].config.MaxStaleness[d.scope]; bound > 0 && d.age > bound {
		c.oracle.violate(tooOld, d.answered, "bound %s: %s", bound, d)
	}
	c.oracle.judge(d)
}

const (
	tooOld      = "decided from data older than the bound"
	unavailable = "UNAVAILABLE without a reason"
)

// judgeError judges an answer without a decision (B20).
func (c *campaign) judgeError(ctx context.Context, d *decision, e *occupant, err error) {
	if errors.Is(err, errAway) || ctx.Err() != nil {
		return
	}
	reason := apierr.ReasonOf(err)
	c.stats.count(c.stats.undecided, reason)
	switch reason {
	case apierr.NotLoaded:
		if at := e.ready.Load(); at != 0 && d.asked > moment(at) {
			c.oracle.violate(unavailable, d.answered, "%s after it was ready: %s", reason, d)
		}
	case apierr.DataTooOld:
		if c.seats[d.seat].justContinued(d.answered) {
			c.stats.reach(continuedMute)
		}
		if bound := c.seats[d.seat].config.MaxStaleness[d.scope]; bound == 0 || c.calmFor() > calmEnough {
			c.oracle.violate(unavailable, d.answered, "%s, bound %s: %s", reason, bound, d)
		}
	case apierr.RevisionNotReached:
		if d.about.acked == 0 || c.calmFor() > calmEnough {
			c.oracle.violate(unavailable, d.answered, "%s: %s", reason, d)
		}
	case apierr.RevisionLost:
		c.oracle.suspect(func() (string, string) {
			for _, l := range *c.oracle.losses.Load() {
				if l.covers(d.about) {
					return "", ""
				}
			}
			return unavailable, reason + ": " + d.String()
		})
	case apierr.PolicyUnverified:
		// The store has lost the app's first change, and nobody had brought it back, as far as this validator
		// can know: it cannot always read the store.
		read := d.answered - moment(e.DataAge())
		c.oracle.suspect(func() (string, string) {
			if c.oracle.damaged(c.codec.PartitionOf(d.app.id), min(d.asked, read)-moment(slack)) {
				return "", ""
			}
			d.app.mu.Lock()
			defer d.app.mu.Unlock()
			for _, l := range *c.oracle.losses.Load() {
				until := moment(l.until.Load())
				if (until == 0 || until+moment(slack) > min(d.asked, read)) && len(d.app.changes) > 0 && l.covers(d.app.changes[0]) {
					return "", ""
				}
			}
			return unavailable, reason + ": " + d.String()
		})
	default:
		c.oracle.violate(unavailable, d.answered, "%v: %s", err, d)
	}
}
