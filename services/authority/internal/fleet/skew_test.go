package fleet_test

import (
	"context"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
	validator "github.com/countersign/countersign/services/validator/server"
)

const skewed = pb.PropagationState_PROPAGATION_STATE_CLOCK_SKEWED

// TestB08_SkewedValidatorIsInNoCompleteReceipt: one validator's clock is wrong. A change with a time, such as
// the end of an overlap, then gets no complete receipt. A change without a time does, and so does a
// revocation.
func TestB08_SkewedValidatorIsInNoCompleteReceipt(t *testing.T) {
	for _, by := range []time.Duration{-5 * time.Minute, 5 * time.Minute} {
		t.Run(by.String(), func(t *testing.T) {
			t.Parallel()
			w := start(t, cluster.Options{Validators: 1, Authorities: 2})
			var ahead atomic.Int64
			ahead.Store(int64(by))
			off := w.StartValidator(t, func(c *validator.Config) {
				c.Fleet = w.Fleet("off", w.Authorities[1])
				c.WallClock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
			})
			w.seen("off", by)
			everywhere := map[string]pb.PropagationState{"validator-1": applied, "off": applied}
			butOne := map[string]pb.PropagationState{"validator-1": applied, "off": skewed}

			made := w.change(0, "app", wait)
			if r := made.GetReceipt(); !r.GetComplete() || !maps.Equal(states(r), everywhere) {
				t.Errorf("a change without a time: got %v, want it complete", r)
			}
			const patience = 2 * time.Second
			rotated, err := w.authorities[0].RotateToken(w.admin(), &pb.RotateTokenRequest{
				AppId: "app", TokenId: made.GetToken().GetTokenId(), Overlap: durationpb.New(time.Hour),
				WaitForPropagation: durationpb.New(patience),
			})
			if r := rotated.GetReceipt(); err != nil || r.GetComplete() {
				t.Fatalf("a rotation with an overlap: got %v, %v, want it incomplete", r, err)
			}
			for _, e := range w.becomes(rotated.GetConsistencyToken(), butOne).GetValidators() {
				want := time.Duration(0)
				if e.GetValidatorId() == "off" {
					want = by
				}
				if e.GetClockSkew() == nil || (e.GetClockSkew().AsDuration()-want).Abs() > time.Second {
					t.Errorf("skew of %s: got %v, want %v", e.GetValidatorId(), e.GetClockSkew(), want)
				}
			}
			expiring := &pb.UpdateTokenRequest{
				AppId: "app", Token: &pb.Token{
					TokenId:    rotated.GetToken().GetTokenId(),
					ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
				},
				UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"expire_time"}}, WaitForPropagation: durationpb.New(patience),
			}
			updated, err := w.authorities[1].UpdateToken(w.admin(), expiring)
			if r := updated.GetReceipt(); err != nil || r.GetComplete() {
				t.Fatalf("a change of an expiry time: got %v, %v, want it incomplete", r, err)
			}
			w.becomes(updated.GetConsistencyToken(), butOne)
			revoked, err := w.authorities[0].RevokeToken(w.admin(), &pb.RevokeTokenRequest{
				AppId: "app", TokenId: rotated.GetToken().GetTokenId(), WaitForPropagation: durationpb.New(wait),
			})
			if r := revoked.GetReceipt(); err != nil || !r.GetComplete() {
				t.Errorf("a revocation: got %v, %v, want it complete", r, err)
			}
			check.Eventually(t, "its own metric", func() error {
				var own float64
				if _, err := fmt.Sscan(metric(t, off.HTTPAddress, "countersign_clock_skew_seconds"), &own); err != nil ||
					own*by.Seconds() < 0 || own != own {
					return fmt.Errorf("%v, %w", own, err)
				}
				return nil
			})
			for _, p := range w.AuthorityProcesses {
				if got := metric(t, p.HTTPAddress, `countersign_validator_clock_skew_seconds{validator="off"}`); got == "not there" {
					t.Error("the authority has no skew metric of the validator")
				}
			}

			ahead.Store(0)
			waited, err := w.authorities[0].WaitForPropagation(w.admin(),
				&pb.WaitForPropagationRequest{ConsistencyToken: rotated.GetConsistencyToken()})
			if r := waited.GetReceipt(); err != nil || !r.GetComplete() || !maps.Equal(states(r), everywhere) {
				t.Errorf("after the clock was set right: got %v, %v, want it complete", r, err)
			}
			// The clock is set wrong again. The report that shows the next change also shows that.
			ahead.Store(int64(by))
			again, err := w.authorities[0].RotateToken(w.admin(), &pb.RotateTokenRequest{
				AppId: "app", TokenId: w.change(0, "app", wait).GetToken().GetTokenId(), WaitForPropagation: durationpb.New(patience),
			})
			if r := again.GetReceipt(); err != nil || r.GetComplete() {
				t.Fatalf("after the clock was set wrong: got %v, %v, want it incomplete", r, err)
			}
			w.becomes(again.GetConsistencyToken(), butOne)
		})
	}
}

// becomes waits until the receipt of a change has the expected states. It fails when the receipt is complete.
func (w *world) becomes(token string, want map[string]pb.PropagationState) (r *pb.Receipt) {
	w.t.Helper()
	check.Eventually(w.t, "a receipt", func() error {
		ctx, cancel := context.WithTimeout(w.admin(), 2*time.Second)
		defer cancel()
		response, err := w.authorities[0].WaitForPropagation(ctx, &pb.WaitForPropagationRequest{ConsistencyToken: token})
		if r = response.GetReceipt(); r.GetComplete() {
			w.t.Fatalf("got a complete receipt %v, want an incomplete one", r)
		}
		if err != nil || !maps.Equal(states(r), want) {
			return fmt.Errorf("%v, error %w", r, err)
		}
		return nil
	})
	return r
}

// seen waits until every authority knows a validator's skew.
func (w *world) seen(id string, ahead time.Duration) {
	w.t.Helper()
	for i := range w.authorities {
		check.Eventually(w.t, "an authority knows the clock", func() error {
			skew := w.validators(i)[id].GetClockSkew()
			if skew == nil || (skew.AsDuration()-ahead).Abs() > time.Second {
				return fmt.Errorf("%v", skew)
			}
			return nil
		})
	}
}
