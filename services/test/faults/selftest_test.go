package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/secret"
)

// fixture is an oracle with one app and one token. The app enforces events. Token and app were made at 10 s,
// and the token was revoked at 20 s.
type fixture struct {
	*oracle
	app   *app
	token *token
}

const second = moment(time.Second)

var (
	active = credential{state: policy.Active, scopes: policy.ScopesOf(1)}
	made10 = made{sent: 10 * second, acked: 10*second + 1}
	made20 = made{sent: 20 * second, acked: 20*second + 1}
	// held20 is the revocation with a cursor in the store.
	held20 = made{sent: 20 * second, acked: 20*second + 1, at: record.Cursor{Epoch: 1, Revision: 2, Tag: record.Tag{3}}}
)

func newFixture(revocation made) *fixture {
	b := &fixture{oracle: newOracle(2)}
	b.app = b.newApp("app")
	b.app.setting.set(setting{configured: true, scopes: policy.ScopesOf(1)}, made10)
	b.token = b.newToken(b.app, "tok", "name", secret.Mint(), false, active, made10)
	b.token.state.set(policy.Revoked, revocation)
	b.token.revoked.Store(int64(revocation.sent))
	b.app.changes = []made{made10, revocation}
	return b
}

// answer returns an answer of validator 0 at a given time, from data of a given age.
func (b *fixture) answer(at moment, age time.Duration, reason policy.Reason) *decision {
	valid := reason == policy.TokenValid
	return &decision{
		seat: 0, life: 1, app: b.app, token: b.token, scope: 1, asked: at, answered: at + 1, age: age,
		answer: policy.Decision{Allow: valid, Reason: reason, Enforced: true, TokenID: "tok"},
	}
}

// TestOracleAnswers: the oracle reports wrong answers, and reports no right answer.
func TestOracleAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		revocation made
		do         func(*fixture)
		want       string // the kind of violation; empty for none
	}{
		"valid before the revocation": {
			made20,
			func(b *fixture) { b.judge(b.answer(15*second, 0, policy.TokenValid)) }, "",
		},
		"revoked after it": {
			made20,
			func(b *fixture) { b.judge(b.answer(25*second, 0, policy.TokenRevoked)) }, "",
		},
		"valid after it, from data of before": {
			made20,
			func(b *fixture) { b.judge(b.answer(25*second, 6*time.Second, policy.TokenValid)) }, "",
		},
		"valid after it, from data of after": {
			made20,
			func(b *fixture) { b.judge(b.answer(25*second, 4*time.Second, policy.TokenValid)) }, stale,
		},
		"valid while it is being made": {
			made{sent: 20 * second},
			func(b *fixture) { b.judge(b.answer(25*second, 0, policy.TokenValid)) }, "",
		},
		"revoked before anybody asked for it": {
			made20,
			func(b *fixture) { b.judge(b.answer(15*second, 0, policy.TokenRevoked)) }, unexplained,
		},
		"unknown though it was there": {
			made20,
			func(b *fixture) { b.judge(b.answer(15*second, 0, policy.TokenUnknown)) }, denied,
		},
		"unknown before it was there": {
			made20,
			func(b *fixture) { b.judge(b.answer(15*second, 6*time.Second, policy.TokenUnknown)) }, "",
		},
		"disabled though it never was": {
			made20,
			func(b *fixture) { b.judge(b.answer(15*second, 0, policy.TokenDisabled)) }, unexplained,
		},
		"no policy though the app has one": {made20, func(b *fixture) { b.judge(b.notConfigured(15*second, 0)) }, stale},
		"no policy before the app had one": {
			made20,
			func(b *fixture) { b.judge(b.notConfigured(15*second, 6*time.Second)) }, "",
		},
		"valid but denied": {
			made20,
			func(b *fixture) { d := b.answer(15*second, 0, policy.TokenValid); d.answer.Allow = false; b.judge(d) }, wrong,
		},
		"data of before the change that was asked": {
			made20,
			func(b *fixture) { b.judge(b.asking(25*second, 6*time.Second, policy.TokenValid)) }, stale,
		},
		"the change that was asked for": {
			made20,
			func(b *fixture) { b.judge(b.asking(25*second, 6*time.Second, policy.TokenRevoked)) }, "",
		},
		"a secret that nobody was given": {
			made20,
			func(b *fixture) { d := b.answer(15*second, 0, policy.TokenUnknown); d.token = nil; b.judge(d) }, "",
		},
		"a secret that nobody was given is accepted": {
			made20,
			func(b *fixture) { d := b.answer(15*second, 0, policy.TokenValid); d.token = nil; b.judge(d) }, unexplained,
		},
		"valid after a receipt, from data that says it is old": {made20, func(b *fixture) {
			b.token.receipts[0].Store(&receipt{at: 21 * second, life: 1})
			b.judge(b.answer(25*second, 6*time.Second, policy.TokenValid))
		}, afterReceipt},
		"valid after a receipt of an earlier life, from data that says it is older": {made20, func(b *fixture) {
			b.token.receipts[0].Store(&receipt{at: 21 * second})
			b.judge(b.answer(25*second, 6*time.Second, policy.TokenValid))
		}, ""},
		"valid after a receipt of an earlier life, from data that says it is newer": {made20, func(b *fixture) {
			b.token.receipts[0].Store(&receipt{at: 21 * second})
			b.judge(b.answer(25*second, time.Second, policy.TokenValid))
		}, afterReceipt},
		"valid at another validator than the receipt's": {made20, func(b *fixture) {
			b.token.receipts[1].Store(&receipt{at: 21 * second, life: 1})
			b.judge(b.answer(25*second, 6*time.Second, policy.TokenValid))
		}, ""},
		"valid after a receipt that fenced it, from data that says it is old": {made20, func(b *fixture) {
			b.token.receipts[0].Store(&receipt{at: 21 * second, fenced: true})
			b.judge(b.answer(25*second, 6*time.Second, policy.TokenValid))
		}, afterReceipt},
		"valid after it was denied there": {made20, func(b *fixture) {
			b.judge(b.answer(22*second, 0, policy.TokenRevoked))
			b.judge(b.answer(25*second, 6*time.Second, policy.TokenValid))
		}, afterDenial},
		"valid after it was denied there, in another life": {made20, func(b *fixture) {
			b.judge(b.answer(22*second, 0, policy.TokenRevoked))
			d := b.answer(25*second, 6*time.Second, policy.TokenValid)
			d.life++
			b.judge(d)
		}, ""},
		"valid while a failover has lost the revocation": {made20, func(b *fixture) {
			b.open(&loss{Floor: 19 * second, From: 24 * second})
			b.judge(b.answer(25*second, 0, policy.TokenValid))
		}, ""},
		"valid before the failover": {made20, func(b *fixture) {
			b.open(&loss{Floor: 19 * second, From: 24 * second})
			b.judge(b.answer(23*second, 2*time.Second, policy.TokenValid))
		}, stale},
		"valid though the failover cannot have lost the revocation": {made20, func(b *fixture) {
			b.open(&loss{Floor: 21 * second, From: 24 * second})
			b.judge(b.answer(25*second, 0, policy.TokenValid))
		}, stale},
		"valid though all replicas had the revocation": {
			made{sent: made20.sent, acked: made20.acked, durable: true},
			func(b *fixture) {
				b.open(&loss{Floor: 19 * second, From: 24 * second})
				b.judge(b.answer(25*second, 0, policy.TokenValid))
			}, stale,
		},
		"valid while the store is wiped": {made{sent: made20.sent, acked: made20.acked, durable: true}, func(b *fixture) {
			b.open(&loss{Floor: 19 * second, From: 24 * second, Whole: true})
			b.judge(b.answer(25*second, 0, policy.TokenValid))
		}, ""},
		"valid after the loss was healed": {made20, func(b *fixture) {
			l := &loss{Floor: 19 * second, From: 24 * second}
			l.until.Store(int64(26 * second))
			b.open(l)
			b.judge(b.answer(28*second, time.Second, policy.TokenValid))
		}, stale},
		"valid while a backup without the revocation is restored": {held20, func(b *fixture) {
			b.open(b.restored(0, 0))
			b.judge(b.answer(25*second, 0, policy.TokenValid))
		}, ""},
		"valid while it is restored, at a validator that held the revocation": {held20, func(b *fixture) {
			b.open(b.restored(1, 26*second))
			b.judge(b.answer(25*second, 0, policy.TokenValid))
		}, stale},
		"valid while it is restored, at a validator that was started since": {held20, func(b *fixture) {
			b.open(b.restored(2, 26*second))
			b.judge(b.answer(25*second, 0, policy.TokenValid))
		}, ""},
		"valid while it is restored for long, at a validator that held the revocation": {held20, func(b *fixture) {
			b.open(b.restored(1, 40*second))
			b.judge(b.answer(25*second, 0, policy.TokenValid))
		}, ""},
		"a loss that becomes known later": {made20, func(b *fixture) {
			b.judge(b.answer(25*second, 0, policy.TokenValid))
			b.open(&loss{Floor: 19 * second, From: 24 * second})
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(test.revocation)
			test.do(b)
			b.review(true)
			got := slices.DeleteFunc(slices.Collect(maps.Keys(b.counts)), func(kind string) bool {
				// A validator that accepts the token after a receipt or a denial may also have claimed too
				// much about its data.
				return kind == stale && (test.want == afterReceipt || test.want == afterDenial) || kind == denied && test.want == wrong
			})
			if test.want == "" && len(got) > 0 || test.want != "" && !slices.Equal(got, []string{test.want}) {
				t.Errorf("reported %q, want %q: %v", got, test.want, b.found)
			}
		})
	}
}

// restored returns a restoration at 24 s of a backup of 19 s, during which a start of validator 0 held the
// latest change. The restoration is over at a time.
func (b *fixture) restored(life int64, until moment) *loss {
	l := &loss{Floor: 19 * second, From: 24 * second, Whole: true, Restored: true, held: held{held20.at.Tag: {{0, life}}}}
	l.until.Store(int64(until))
	return l
}

func (b *fixture) notConfigured(at moment, age time.Duration) *decision {
	d := b.answer(at, age, policy.AppNotConfigured)
	d.answer.Allow, d.answer.Enforced = true, false
	return d
}

// asking returns an answer to a request that names the latest change.
func (b *fixture) asking(at moment, age time.Duration, reason policy.Reason) *decision {
	d := b.answer(at, age, reason)
	d.about = b.token.state.last().made
	return d
}

// TestOracleSeesALostExpiry: a token that never expires differs from one that was ended at once.
func TestOracleSeesALostExpiry(t *testing.T) {
	never, ended := expiry{}, expiry{endedAtOnce, endedAtOnce}
	for name, test := range map[string]struct {
		set    expiry
		stored int64
		gaps   int
	}{
		"never, and it never does":           {never, 0, 0},
		"never, and it does":                 {never, 5000, 1},
		"never, and it was ended":            {never, endedAtOnce, 1},
		"at a time":                          {expiry{5000, 5000}, 5000, 0},
		"at another time":                    {expiry{5000, 5000}, 6000, 1},
		"at a time, and it never does":       {expiry{5000, 5000}, 0, 1},
		"within a time":                      {expiry{5000, 6000}, 5500, 0},
		"ended":                              {ended, endedAtOnce, 0},
		"ended, and it never expires":        {ended, 0, 1},
		"by a time":                          {expiry{endedAtOnce, 5000}, 4000, 0},
		"by a time, and it was ended":        {expiry{endedAtOnce, 5000}, endedAtOnce, 0},
		"by a time, and it never expires":    {expiry{endedAtOnce, 5000}, 0, 1},
		"by a time, and it expires later on": {expiry{endedAtOnce, 5000}, 6000, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(made{sent: 20 * second})
			b.token.expiry.set(test.set, made20)
			d := &record.Document{AppID: "app", Enforcement: policy.Enforcement{Scopes: policy.ScopesOf(1)}}
			d.Tokens = []record.Token{{Token: policy.Token{
				ID: "tok", State: policy.Active, Scopes: policy.ScopesOf(1),
				ExpireMillis: test.stored,
			}, Name: "name"}}
			v := &view{from: 30 * second, to: 31 * second, documents: map[string]*record.Document{"app": d}}
			if gaps := b.gaps(v); len(gaps) != test.gaps {
				t.Errorf("gaps %+v", gaps)
			}
		})
	}
}

// TestOracleKnowsWhatDidNotReachTheStore: notAsked recognises the errors of commands that did not reach
// Redis. Such an error says nothing about the store.
func TestOracleKnowsWhatDidNotReachTheStore(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"nothing":               {nil, false},
		"a broken connection":   {fmt.Errorf("partition 3: %w", io.EOF), true},
		"a refused one":         {&net.OpError{Op: "dial", Err: errors.New("refused")}, true},
		"out of time":           {context.DeadlineExceeded, true},
		"a record that is none": {keyring.ErrMismatch, false},
		"no store":              {redisfeed.ErrNotInitialised, false},
	} {
		if got := notAsked(test.err); got != test.want {
			t.Errorf("%s: notAsked = %t, want %t", name, got, !got)
		}
	}
}

// TestOracleStore: the oracle finds the changes that the store lacks, and the tokens that it must not have.
func TestOracleStore(t *testing.T) {
	document := func(tokens ...record.Token) *record.Document {
		return &record.Document{AppID: "app", Tokens: tokens, Enforcement: policy.Enforcement{Scopes: policy.ScopesOf(1)}}
	}
	token := func(state policy.State) record.Token {
		return record.Token{Token: policy.Token{ID: "tok", State: state, Scopes: policy.ScopesOf(1)}, Name: "name"}
	}
	unlike := token(policy.Revoked)
	unlike.ID, unlike.Name = "tok2", "other"
	widened := token(policy.Active)
	widened.Scopes = policy.ScopesOf(1, 2)
	for name, test := range map[string]struct {
		revocation made
		d          *record.Document
		gaps       int
		revocations,
		unknownTokens int
	}{
		"as it should be":                      {made20, document(token(policy.Revoked)), 0, 0, 0},
		"the revocation is lost":               {made20, document(token(policy.Active)), 1, 1, 0},
		"the token is lost":                    {made20, document(), 1, 1, 0},
		"the app is lost":                      {made20, nil, 2, 1, 0},
		"a revocation that nobody was told of": {made{sent: 20 * second}, document(token(policy.Revoked)), 0, 0, 0},
		"one that was not made":                {made{sent: 20 * second}, document(token(policy.Active)), 0, 0, 0},
		"scopes that nobody asked for":         {made{sent: 20 * second}, document(widened), 1, 0, 0},
		"a token that nobody asked for":        {made20, document(token(policy.Revoked), unlike), 0, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(test.revocation)
			v := &view{from: 30 * second, to: 31 * second, documents: map[string]*record.Document{}}
			if test.d != nil {
				v.documents["app"] = test.d
			}
			gaps := b.gaps(v)
			revocations := 0
			for _, g := range gaps {
				if g.revocation {
					revocations++
				}
			}
			if len(gaps) != test.gaps || revocations != test.revocations || len(b.unknownTokens(v)) != test.unknownTokens {
				t.Errorf("gaps %+v, unknownTokens %v", gaps, b.unknownTokens(v))
			}
		})
	}
}

// TestOracleSuperseded: a lost change may stay lost when the same token or setting was changed on both sides,
// and it is no revocation (B30).
func TestOracleSuperseded(t *testing.T) {
	made30 := made{sent: 30 * second, acked: 30*second + 1}
	rename := func(m made) func(*fixture) { return func(b *fixture) { b.token.scopes.set(0, m) } }
	setting19 := &loss{Floor: 19 * second, From: 24 * second}
	for name, test := range map[string]struct {
		missing    made
		revocation bool
		more       func(*fixture)
		loss       *loss
		want       bool
	}{
		"changed on both sides": {made20, false, rename(made30), setting19, true},
		"a revocation":          {made20, true, rename(made30), setting19, false},
		"not changed since":     {made20, false, func(*fixture) {}, setting19, false},
		"another setting changed": {
			made20, false, func(b *fixture) { b.app.setting.set(setting{configured: true}, made30) },
			setting19, false,
		},
		"another token changed": {
			made20, false,
			func(b *fixture) { b.newToken(b.app, "tok2", "other", secret.Mint(), false, active, made30) }, setting19, false,
		},
		"nothing was lost":      {made20, false, rename(made30), nil, false},
		"cannot have been lost": {made20, false, rename(made30), &loss{Floor: 21 * second, From: 24 * second}, false},
		"all replicas had it": {
			made{sent: made20.sent, acked: made20.acked, durable: true},
			false, rename(made30),
			setting19, false,
		},
		"changed, and nobody knows": {made20, false, rename(made{sent: 30 * second}), setting19, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(made20)
			test.more(b)
			if test.loss != nil {
				b.open(test.loss)
			}
			g := gap{app: b.app, missing: test.missing, revocation: test.revocation, rival: b.token.changedSince}
			if got, known := b.superseded(g); got != test.want || !known {
				t.Errorf("superseded: %t, want %t", got, test.want)
			}
		})
	}
}
