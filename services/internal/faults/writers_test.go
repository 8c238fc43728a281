package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// appsEach is how many apps a writer works on at a time, tokensEach how many tokens an app gets before another
	// takes its place.
	appsEach   = 12
	tokensEach = 40
	// callTimeout bounds one try, patience all tries of a call.
	callTimeout = 8 * time.Second
	patience    = 30 * time.Second
	// receiptWait is how long a call waits for its receipt.
	receiptWait = 2 * time.Second
)

// writer changes apps of its own, one change after the other, as a good client does: it repeats a call with its request id
// until it knows what has become of it.
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

// choose returns a token of which the latest value is known and wanted, a recent one rather than an old one.
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

// response is what all answers to changes have.
type response interface {
	GetConsistencyToken() string
	GetDurability() *countersignv1.Durability
	GetReceipt() *countersignv1.Receipt
}

// outcome is what is known of a call.
type outcome struct {
	made
	answer response // nil when it was not made, as far as is known
	// doubtful says that it may have been made without an answer, perhaps beside the answer.
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

// call makes a call until its outcome is known. The token is the one that it is about, nil for none. Begin says what it asks
// for, before anything is sent, and returns whether that is certain to be a change: it is not when the outcome of the call
// before is unknown.
func (w *writer) call(ctx context.Context, a *app, t *token, method string, begin func() (certain bool), f func(context.Context, manager, request) (response, error)) outcome {
	r := request{id: w.next("r-")}
	if w.random.Float64() < w.options.receipts {
		r.wait = durationpb.New(receiptWait)
	}
	certain := begin()
	configured := a.setting.last().value.configured
	out := outcome{made: made{sent: w.oracle.now()}}
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
		a.setting.settle(setting{configured: true}, out.made, out.refused())
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

const (
	idle    = "a change was refused for no reason"
	unknown = "a token is not known that was acknowledged"
)

// checkRefusal judges why a call was not carried out.
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

// reasonOf returns why a call failed, and whether it is over with that: another try would be another call.
func reasonOf(err error) (reason string, definite bool) {
	s, _ := status.FromError(err)
	reason = s.Code().String()
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			reason = info.GetReason()
		}
	}
	switch s.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.ResourceExhausted, codes.Unknown, codes.Internal:
		return reason, false
	}
	return reason, true
}

// mayBeMade tells whether a failed call may have made its change: only what an authority has said is certain.
func mayBeMade(reason string) bool {
	return !slices.Contains([]string{apierr.NotLoaded, apierr.StoreUnavailable, apierr.StoreForked, apierr.StoreUnhealed, apierr.PolicyUnverified, apierr.RevisionLost}, reason)
}

func (w *writer) create(ctx context.Context, a *app) {
	name, value := w.next("t-"), credential{state: policy.Active, scopes: w.scopes()}
	if last := a.setting.last(); w.random.IntN(10) == 0 && last.acked != 0 && last.value.scopes == 0 {
		value.scopes = 0
	}
	out := w.call(ctx, a, nil, "CreateToken", func() bool { a.doubtful[name] = true; return true }, func(ctx context.Context, c manager, r request) (response, error) {
		return c.CreateToken(ctx, &countersignv1.CreateTokenRequest{
			AppId: a.id, Name: name, Scopes: scopesToProto(value.scopes), RequestId: r.id, WaitForPropagation: r.wait,
		})
	})
	if answer, ok := out.answer.(*countersignv1.CreateTokenResponse); ok {
		t := w.oracle.newToken(a, answer.GetToken().GetTokenId(), name, secret.New(answer.GetSecret()), false, value, out.made)
		w.touched(t, out)
	}
	if !out.doubtful {
		delete(a.doubtful, name)
	}
}

func (w *writer) imports(ctx context.Context, a *app) {
	var imports []*countersignv1.TokenImport
	var secrets []secret.Secret
	value := credential{state: policy.Active, scopes: w.scopes()}
	for range 1 + w.random.IntN(2) {
		s := secret.New("imported-" + secret.Mint().Reveal()[len(secret.Prefix):30])
		secrets = append(secrets, s)
		imports = append(imports, &countersignv1.TokenImport{
			Name: w.next("t-"), Scopes: scopesToProto(value.scopes), Credential: &countersignv1.TokenImport_Secret{Secret: s.Reveal()},
		})
	}
	begin := func() bool {
		for _, i := range imports {
			a.doubtful[i.GetName()] = true
		}
		return true
	}
	out := w.call(ctx, a, nil, "ImportTokens", begin, func(ctx context.Context, c manager, r request) (response, error) {
		return c.ImportTokens(ctx, &countersignv1.ImportTokensRequest{AppId: a.id, Imports: imports, RequestId: r.id, WaitForPropagation: r.wait})
	})
	answer, _ := out.answer.(*countersignv1.ImportTokensResponse)
	for i, imported := range answer.GetTokens() {
		w.touched(w.oracle.newToken(a, imported.GetTokenId(), imported.GetName(), secrets[i], true, value, out.made), out)
	}
	if !out.doubtful {
		for _, i := range imports {
			delete(a.doubtful, i.GetName())
		}
	}
}

func (w *writer) setScopes(ctx context.Context, t *token) {
	value := w.scopes()
	update(ctx, w, t, t.scopes, value, func(expiry) policy.ScopeSet { return value }, "scopes", &countersignv1.Token{Scopes: scopesToProto(value)})
}

func (w *writer) setState(ctx context.Context, t *token, value policy.State) {
	update(ctx, w, t, t.state, value, func(expiry) policy.State { return value }, "state", &countersignv1.Token{State: countersignv1.TokenState(value)})
}

func (w *writer) setExpiry(ctx context.Context, t *token) {
	at := time.Now().Add(time.Duration(500*(w.random.IntN(7)-1)) * time.Millisecond).Truncate(time.Millisecond)
	// A time that has come when the call is carried out ends the token at once (B08).
	asked := expiry{endedAtOnce, at.Add(patience + callTimeout).UnixMilli()}
	settled := func(now expiry) expiry {
		switch {
		case now.to < at.UnixMilli():
			return expiry{at.UnixMilli(), at.UnixMilli()}
		case now.from > at.UnixMilli():
			return expiry{endedAtOnce, endedAtOnce}
		}
		return expiry{endedAtOnce, now.to}
	}
	out := update(ctx, w, t, t.expiry, asked, settled, "expire_time", &countersignv1.Token{ExpireTime: timestamppb.New(at)})
	if out.answer != nil {
		w.judgeTurn(out.answer.GetReceipt(), at)
	}
}

// update changes one field of a token. Settled returns the value that it has then, given when the call was made first and
// answered.
func update[V comparable](ctx context.Context, w *writer, t *token, r *register[V], value V, settled func(now expiry) V, field string, wanted *countersignv1.Token) (out outcome) {
	if value == r.last().value {
		return out // what changes nothing leaves no trace
	}
	wanted.TokenId = t.id
	began := time.Now().UnixMilli()
	out = w.call(ctx, t.app, t, "UpdateToken "+field, asking(w, t, r, value), func(ctx context.Context, c manager, q request) (response, error) {
		return c.UpdateToken(ctx, &countersignv1.UpdateTokenRequest{
			AppId: t.app.id, Token: wanted, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{field}}, AllowLockout: true,
			RequestId: q.id, WaitForPropagation: q.wait,
		})
	})
	if out.answer != nil {
		value = settled(expiry{began, time.Now().UnixMilli()})
	}
	r.settle(value, out.made, out.refused())
	w.touched(t, out)
	return out
}

// asking returns what says that something of a token is to get a value.
func asking[V any](w *writer, t *token, r *register[V], value V) func() bool {
	return func() bool {
		now, certain := w.oracle.now(), r.last().acked != 0
		r.set(value, made{sent: now})
		w.oracle.heat(t)
		if any(value) == policy.Revoked {
			t.revoked.CompareAndSwap(0, int64(now))
		}
		return certain
	}
}

func (w *writer) revoke(ctx context.Context, t *token) {
	if t == nil {
		return
	}
	bySecret := t.secret.Reveal() != "" && w.random.IntN(6) == 0
	method := "RevokeToken"
	if bySecret {
		method = "RevokeSecret"
	}
	lives := map[int]int64{}
	for _, s := range w.seats {
		if now := s.now.Load(); now != nil {
			lives[s.number] = now.life
		}
	}
	out := w.call(ctx, t.app, t, method, asking(w, t, t.state, policy.Revoked), func(ctx context.Context, c manager, r request) (response, error) {
		if !bySecret {
			return c.RevokeToken(ctx, &countersignv1.RevokeTokenRequest{
				AppId: t.app.id, TokenId: t.id, AllowLockout: true, RequestId: r.id, WaitForPropagation: r.wait,
			})
		}
		answer, err := c.RevokeSecret(ctx, &countersignv1.RevokeSecretRequest{
			Secret: t.secret.Reveal(), AllowLockout: true, RequestId: r.id, WaitForPropagation: r.wait,
		})
		if err == nil && !slices.ContainsFunc(answer.GetTokens(), func(r *countersignv1.RevokedToken) bool { return r.GetToken().GetTokenId() == t.id }) {
			err = errors.New("the answer does not name the token")
		}
		return revokedSecret{answer}, err
	})
	// What was asked for once may come true at any time: it is kept in token.revoked, refused or not.
	t.state.settle(policy.Revoked, out.made, out.refused())
	w.touched(t, out)
	if out.answer == nil {
		return
	}
	for _, entry := range out.answer.GetReceipt().GetValidators() {
		state := entry.GetState()
		if s := w.seatOf(entry.GetValidatorId()); s != nil && (state == countersignv1.PropagationState_PROPAGATION_STATE_APPLIED || state == countersignv1.PropagationState_PROPAGATION_STATE_FENCED) {
			r := receipt{at: out.acked, fenced: state == countersignv1.PropagationState_PROPAGATION_STATE_FENCED}
			if now := s.now.Load(); now != nil && now.life == lives[s.number] {
				r.life = now.life
			}
			t.receipts[s.number].Store(&r)
		}
	}
}

// revokedSecret is the answer to RevokeSecret as one to a change of one app.
type revokedSecret struct {
	*countersignv1.RevokeSecretResponse
}

func (r revokedSecret) GetConsistencyToken() string {
	if all := r.GetConsistencyTokens(); len(all) > 0 {
		return all[0]
	}
	return ""
}

func (w *writer) rotate(ctx context.Context, t *token) {
	overlap := []time.Duration{0, time.Second, time.Hour}[w.random.IntN(3)]
	ends := func(from, to time.Time) expiry {
		if overlap == 0 {
			return expiry{endedAtOnce, endedAtOnce}
		}
		return expiry{from.Add(overlap).UnixMilli(), to.Add(overlap).UnixMilli()}
	}
	began := time.Now()
	begin := func() bool {
		asking(w, t, t.expiry, ends(began, began.Add(patience+callTimeout)))()
		t.app.doubtful[t.name] = true
		return true
	}
	out := w.call(ctx, t.app, t, "RotateToken", begin, func(ctx context.Context, c manager, r request) (response, error) {
		return c.RotateToken(ctx, &countersignv1.RotateTokenRequest{
			AppId: t.app.id, TokenId: t.id, Overlap: durationpb.New(overlap), RequestId: r.id, WaitForPropagation: r.wait,
		})
	})
	t.expiry.settle(ends(began, time.Now()), out.made, out.refused())
	if out.answer != nil && overlap > 0 {
		w.judgeTurn(out.answer.GetReceipt(), began.Add(overlap))
	}
	if answer, ok := out.answer.(*countersignv1.RotateTokenResponse); ok {
		// The successor has the scopes that the store had, which need not be the latest while it lacks something.
		next := credential{state: policy.Active}
		for _, s := range answer.GetToken().GetScopes() {
			next.scopes |= policy.ScopesOf(policy.Scope(s))
		}
		w.touched(w.oracle.newToken(t.app, answer.GetToken().GetTokenId(), t.name, secret.New(answer.GetSecret()), false, next, out.made), out)
	}
	w.touched(t, out)
	if !out.doubtful {
		delete(t.app.doubtful, t.name)
	}
}

func (w *writer) enforce(ctx context.Context, a *app) {
	value := setting{configured: true}
	if w.random.IntN(10) < 7 {
		value.scopes = policy.ScopeSet(2 * w.random.IntN(16))
	}
	if value == a.setting.last().value {
		return // as in update
	}
	asking := func() bool {
		certain := a.setting.last().acked != 0
		a.setting.set(value, made{sent: w.oracle.now()})
		return certain
	}
	out := w.call(ctx, a, nil, "SetEnforcement", asking, func(ctx context.Context, c manager, r request) (response, error) {
		return c.SetEnforcement(ctx, &countersignv1.SetEnforcementRequest{
			AppId: a.id, Scopes: scopesToProto(value.scopes), AllowRejections: true, RequestId: r.id, WaitForPropagation: r.wait,
		})
	})
	a.setting.settle(value, out.made, out.refused())
}

// touched tells the deciders of a token that has just changed.
func (w *writer) touched(t *token, out outcome) {
	if out.answer == nil {
		return
	}
	w.oracle.heat(t)
	if t.secret.Reveal() == "" {
		return
	}
	select {
	case w.fresh <- freshChange{t, out.answer.GetConsistencyToken(), out.made}:
	default: // there are enough
	}
}
