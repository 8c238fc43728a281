package faults

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

func (w *writer) create(ctx context.Context, a *app) {
	name, value := w.next("t-"), credential{state: policy.Active, scopes: w.scopes()}
	if last := a.setting.last(); w.random.IntN(10) == 0 && last.acked != 0 && last.value.scopes == 0 {
		value.scopes = 0
	}
	out := w.call(ctx, a, nil, "CreateToken", func() bool { a.doubtful[name] = true; return true },
		func(ctx context.Context, c manager, r request) (response, error) {
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
			Name: w.next("t-"), Scopes: scopesToProto(value.scopes),
			Credential: &countersignv1.TokenImport_Secret{Secret: s.Reveal()},
		})
	}
	begin := func() bool {
		for _, i := range imports {
			a.doubtful[i.GetName()] = true
		}
		return true
	}
	out := w.call(ctx, a, nil, "ImportTokens", begin, func(ctx context.Context, c manager, r request) (response, error) {
		return c.ImportTokens(ctx, &countersignv1.ImportTokensRequest{
			AppId: a.id, Imports: imports, RequestId: r.id,
			WaitForPropagation: r.wait,
		})
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
	update(ctx, w, t, t.scopes, value, func(expiry) policy.ScopeSet { return value }, "scopes",
		&countersignv1.Token{Scopes: scopesToProto(value)})
}

func (w *writer) setState(ctx context.Context, t *token, value policy.State) {
	update(ctx, w, t, t.state, value, func(expiry) policy.State { return value }, "state",
		&countersignv1.Token{State: countersignv1.TokenState(value)})
}

func (w *writer) setExpiry(ctx context.Context, t *token) {
	at := time.Now().Add(time.Duration(500*(w.random.IntN(7)-1)) * time.Millisecond).Truncate(time.Millisecond)
	// A time in the past ends the token at once (B08).
	asked := expiry{endedAtOnce, at.Add(patience + callTimeout).UnixMilli()}
	conclude := func(now expiry) expiry {
		switch {
		case now.to < at.UnixMilli():
			return expiry{at.UnixMilli(), at.UnixMilli()}
		case now.from > at.UnixMilli():
			return expiry{endedAtOnce, endedAtOnce}
		}
		return expiry{endedAtOnce, now.to}
	}
	out := update(ctx, w, t, t.expiry, asked, conclude, "expire_time", &countersignv1.Token{ExpireTime: timestamppb.New(at)})
	if out.answer != nil {
		w.judgeTurn(out.answer.GetReceipt(), at)
	}
}

// update changes one field of a token. Conclude returns the value that the field has after an acknowledged
// call, given when the call was first made and when it was answered.
func update[V comparable](ctx context.Context, w *writer, t *token, r *register[V], value V, conclude func(now expiry) V,
	field string, wanted *countersignv1.Token,
) (out outcome) {
	if value == r.last().value {
		return out // a call that changes nothing leaves no trace
	}
	wanted.TokenId = t.id
	began := time.Now().UnixMilli()
	out = w.call(ctx, t.app, t, "UpdateToken "+field, asking(w, t, r, value),
		func(ctx context.Context, c manager, q request) (response, error) {
			return c.UpdateToken(ctx, &countersignv1.UpdateTokenRequest{
				AppId: t.app.id, Token: wanted, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{field}}, AllowLockout: true,
				RequestId: q.id, WaitForPropagation: q.wait,
			})
		})
	if out.answer != nil {
		value = conclude(expiry{began, time.Now().UnixMilli()})
	}
	r.conclude(value, out.made, out.refused())
	w.touched(t, out)
	return out
}

// asking returns the function that notes, before a call, that a register of a token may get a value.
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
	out := w.call(ctx, t.app, t, method, asking(w, t, t.state, policy.Revoked),
		func(ctx context.Context, c manager, r request) (response, error) {
			if !bySecret {
				return c.RevokeToken(ctx, &countersignv1.RevokeTokenRequest{
					AppId: t.app.id, TokenId: t.id, AllowLockout: true, RequestId: r.id, WaitForPropagation: r.wait,
				})
			}
			answer, err := c.RevokeSecret(ctx, &countersignv1.RevokeSecretRequest{
				Secret: t.secret.Reveal(), AllowLockout: true, RequestId: r.id, WaitForPropagation: r.wait,
			})
			if err == nil && !slices.ContainsFunc(answer.GetTokens(),
				func(r *countersignv1.RevokedToken) bool { return r.GetToken().GetTokenId() == t.id }) {
				err = errors.New("the answer does not name the token")
			}
			return revokedSecret{answer}, err
		})
	// A revocation that was sent once may take effect at any time, so token.revoked keeps it even after a
	// refusal.
	t.state.conclude(policy.Revoked, out.made, out.refused())
	w.touched(t, out)
	if out.answer == nil {
		return
	}
	for _, entry := range out.answer.GetReceipt().GetValidators() {
		state := entry.GetState()
		if s := w.seatOf(entry.GetValidatorId()); s != nil &&
			(state == countersignv1.PropagationState_PROPAGATION_STATE_APPLIED ||
				state == countersignv1.PropagationState_PROPAGATION_STATE_FENCED) {
			r := receipt{at: out.acked, fenced: state == countersignv1.PropagationState_PROPAGATION_STATE_FENCED}
			if now := s.now.Load(); now != nil && now.life == lives[s.number] {
				r.life = now.life
			}
			t.receipts[s.number].Store(&r)
		}
	}
}

// revokedSecret makes the response of RevokeSecret look like the response to a change of one app.
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
	// A rotation of unknown outcome may have left a successor with this name.
	successor := t.app.doubtful[t.name]
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
	t.expiry.conclude(ends(began, time.Now()), out.made, out.refused())
	if out.answer != nil && overlap > 0 {
		w.judgeTurn(out.answer.GetReceipt(), began.Add(overlap))
	}
	if answer, ok := out.answer.(*countersignv1.RotateTokenResponse); ok {
		// The successor has the scopes that the store had. While the store lacks changes, these need not be
		// the latest.
		next := credential{state: policy.Active}
		for _, s := range answer.GetToken().GetScopes() {
			next.scopes |= policy.ScopesOf(policy.Scope(s))
		}
		w.touched(w.oracle.newToken(t.app, answer.GetToken().GetTokenId(), t.name, secret.New(answer.GetSecret()), false, next,
			out.made), out)
	}
	w.touched(t, out)
	if !out.doubtful && !successor {
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
	a.setting.conclude(value, out.made, out.refused())
}

// touched tells the deciders about a token that has just changed.
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
	default: // the deciders have enough to ask
	}
}
