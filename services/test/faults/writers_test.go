package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// appsEach is the number of apps that a writer works on at a time. tokensEach is how many tokens an app
	// gets before another app replaces it.
	appsEach   = 12
	tokensEach = 40
	// callTimeout bounds one try of a call. patience bounds all tries of a call together.
	callTimeout = 8 * time.Second
	patience    = 30 * time.Second
	// receiptWait is how long a call waits for its receipt. One in four waits longWait, which exceeds the
	// staleness bound of the validators that have one: they are FENCED only then.
	receiptWait, longWait = 2 * time.Second, 5 * time.Second
)

// writer changes apps that no other writer changes, one change after the other. Like a good client, it
// repeats a call with the same request id until it knows the outcome.
type writer struct {
	*campaign
	name   string
	random *rand.Rand
	apps   []*app
	serial int
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		a := w.pick()
		a.mu.Lock()
		w.change(ctx, a)
		a.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(w.random.ExpFloat64() * float64(w.options.pause))):
		}
	}
}

func (w *writer) pick() *app {
	i := w.random.IntN(appsEach)
	switch {
	case i >= len(w.apps):
		w.apps = append(w.apps, w.oracle.newApp(w.next("app-")))
		i = len(w.apps) - 1
	case len(w.apps[i].list()) >= tokensEach:
		w.apps[i] = w.oracle.newApp(w.next("app-"))
	}
	return w.apps[i]
}

func (w *writer) next(prefix string) string {
	w.serial++
	return fmt.Sprintf("%s%s-%d", prefix, w.name, w.serial)
}

// change makes one change of an app.
func (w *writer) change(ctx context.Context, a *app) {
	active := w.choose(a, func(c credential) bool { return c.state == policy.Active && c.expiry.from == 0 })
	disabled := w.choose(a, func(c credential) bool { return c.state == policy.Disabled })
	alive := w.choose(a, func(c credential) bool { return c.state != policy.Revoked && c.state != 0 })
	switch n := w.random.IntN(100); {
	case active == nil || n < 22:
		w.create(ctx, a)
	case n < 27:
		w.imports(ctx, a)
	case n < 36:
		w.setScopes(ctx, active)
	case n < 44:
		w.setState(ctx, active, policy.Disabled)
	case n < 52 && disabled != nil:
		w.setState(ctx, disabled, policy.Active)
	case n < 57:
		w.setExpiry(ctx, active)
	case n < 63:
		w.rotate(ctx, active)
	case n < 73:
		w.enforce(ctx, a)
	default:
		w.revoke(ctx, alive)
	}
}

// choose returns a token whose latest value is known and wanted; a recent one is more likely.
func (w *writer) choose(a *app, wanted func(credential) bool) *token {
	list := a.list()
	for i := len(list) - 1; i >= 0; i-- {
		if latest, known := list[i].latest(); known && wanted(latest) && (i == 0 || w.random.IntN(3) > 0) {
			return list[i]
		}
	}
	return nil
}

func (w *writer) scopes() policy.ScopeSet { return policy.ScopeSet(2 * (1 + w.random.IntN(7))) }

func scopesToProto(set policy.ScopeSet) (all []countersignv1.Scope) {
	for s := range set.All() {
		all = append(all, countersignv1.Scope(s))
	}
	return all
}

// response is the common part of all responses to changes.
type response interface {
	GetConsistencyToken() string
	GetDurability() *countersignv1.Durability
	GetReceipt() *countersignv1.Receipt
}

// outcome is what the writer knows about a call.
type outcome struct {
	made
	answer response // nil when no response came
	// doubtful says that a try without a response may have made the change, perhaps in addition to the try
	// with a response.
	doubtful bool
}

func (o outcome) refused() bool { return o.answer == nil && !o.doubtful }

type (
	manager = countersignv1.AuthorityServiceClient
	request struct {
		id   string
		wait *durationpb.Duration
	}
)

// call makes a call until its outcome is known. The token is the one that the call is about, or nil. Begin
// records what the call asks for, before anything is sent. It returns whether the call certainly changes
// something: it may not when the outcome of the call before is unknown.
func (w *writer) call(ctx context.Context, a *app, t *token, method string, begin func() (certain bool),
	f func(context.Context, manager, request) (response, error),
) outcome {
	r := request{id: w.next("r-")}
	if w.random.Float64() < w.options.receipts {
		r.wait = durationpb.New(receiptWait)
		if w.random.IntN(4) == 0 {
			r.wait = durationpb.New(longWait)
		}
	}
	certain := begin()
	configured := a.setting.last().value.configured
	out := outcome{made: made{sent: w.oracle.now()}}
	w.inFlight.begin(w, out.sent)
	defer w.inFlight.end(w)
	if !configured {
		a.setting.set(setting{configured: true}, out.made)
	}
	which := w.random.IntN(len(w.authorities))
	for until := time.Now().Add(patience); ; which++ {
		authority := w.authorities[which%len(w.authorities)]
		authority.calls.Add(1)
		asked, life := w.oracle.now(), authority.lives.Load()
		attempt, cancel := context.WithTimeout(w.asAdmin(context.WithoutCancel(ctx)), callTimeout)
		answer, err := f(attempt, authority.client, r)
		cancel()
		if err == nil {
			out.acked, out.by, out.life, out.answer = w.oracle.now(), authority, life, answer
			if position, err := record.DecodePosition(answer.GetConsistencyToken()); err == nil {
				out.at = position.Cursor
			}
			confirmed := int(answer.GetDurability().GetAcknowledged())
			out.durable = w.topology.replicas > 0 && confirmed >= w.topology.replicas
			if certain {
				w.stats.acknowledge(acknowledgement{r.id, method, a, answer.GetConsistencyToken(), out.made})
			}
			if receipt := answer.GetReceipt(); receipt != nil {
				w.receipts.add(receipt.GetComplete(), time.Duration(out.acked-asked))
				w.judgeReceipt(asked, out.sent, receipt)
			}
			break
		}
		reason, definite := reasonOf(err)
		w.stats.count(w.stats.errors, method+" "+reason)
		w.checkRefusal(t, reason, definite, asked, err)
		if definite {
			break
		}
		out.doubtful = out.doubtful || mayBeMade(reason)
		if time.Now().After(until) {
			break
		}
		time.Sleep(time.Duration(20+w.random.IntN(200)) * time.Millisecond)
	}
	if !configured {
		a.setting.conclude(setting{configured: true}, out.made, out.refused())
	}
	if !out.refused() {
		a.changes = append(a.changes, out.made)
	}
	switch {
	case out.answer != nil:
		w.stats.count(w.stats.changes, "acknowledged "+method)
	case out.doubtful:
		w.stats.count(w.stats.changes, "unknown "+method)
	default:
		w.stats.count(w.stats.changes, "refused "+method)
	}
	return out
}

// inFlight are the changes of writers whose outcome is still unknown.
type inFlight struct {
	mu   sync.Mutex
	sent map[*writer]moment
}

func (u *inFlight) begin(w *writer, sent moment) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.sent == nil {
		u.sent = map[*writer]moment{}
	}
	u.sent[w] = sent
}

func (u *inFlight) end(w *writer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.sent, w)
}

// before reports whether one of these changes was sent before a given time.
func (u *inFlight) before(at moment) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, sent := range u.sent {
		if sent < at {
			return true
		}
	}
	return false
}

const (
	idle    = "a change was refused without a reason"
	unknown = "an acknowledged token is unknown"
)

// checkRefusal judges the reason of a refused call.
func (w *writer) checkRefusal(t *token, reason string, definite bool, asked moment, err error) {
	now := w.oracle.now()
	switch {
	case !definite && w.calmFor() > calmEnough+time.Duration(now-asked):
		w.oracle.violate(idle, now, "nothing was wrong for %s: %v", w.calmFor(), err)
	case definite && t != nil && strings.HasSuffix(reason, "_NOT_FOUND"):
		w.oracle.suspect(func() (string, string) {
			gone := false
			t.state.possible(*w.oracle.losses.Load(), span{low: asked, end: now}, func(s policy.State) { gone = gone || s == 0 })
			if gone {
				return "", ""
			}
			return unknown, fmt.Sprintf("token %s of app %s, asked %s: %v; %s", t.id, t.app.id, asked, err, history(t.state))
		})
	}
}

// reasonOf returns the reason why a call failed. It also reports whether the failure is final, so that
// another try would be a new call.
func reasonOf(err error) (reason string, definite bool) {
	s, _ := status.FromError(err)
	reason = s.Code().String()
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			reason = info.GetReason()
		}
	}
	switch s.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.ResourceExhausted, codes.Unknown,
		codes.Internal:
		return reason, false
	}
	return reason, true
}

// mayBeMade reports whether a failed call may have made its change. Only an answer that comes from an
// authority proves that it has not.
func mayBeMade(reason string) bool {
	return !slices.Contains([]string{
		apierr.NotLoaded, apierr.StoreUnavailable, apierr.StoreForked, apierr.StoreUnhealed,
		apierr.PolicyUnverified, apierr.RevisionLost,
	}, reason)
}
