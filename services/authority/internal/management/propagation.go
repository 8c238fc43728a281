package management

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/audit"
	"github.com/countersign/countersign/services/authority/internal/fleet"
)

const (
	// defaultWait is how long WaitForPropagation waits for a caller without a deadline. maxWait bounds the
	// wait of every call.
	defaultWait = 10 * time.Second
	maxWait     = time.Minute
	// answerTime is the time that a wait leaves of a caller's deadline for the answer, or a tenth of the
	// deadline when that is less.
	answerTime = 250 * time.Millisecond
)

// Fleet is what the service needs of the fleet. Its methods must be safe for concurrent use.
type Fleet interface {
	// Wait returns when every validator has some changes, or ctx ends. Its error is fleet.ErrLost when the
	// store has lost a change; any other error means that the fleet is unknown.
	Wait(ctx context.Context, positions []record.Position) (fleet.Receipt, error)
	List() ([]*countersignv1.Validator, error)
	// Forget removes a validator from the fleet, after audit has returned nil.
	Forget(ctx context.Context, id string, audit func(context.Context) error) error
}

// waiting returns a context that ends after a time, and just before the caller's deadline.
func waiting(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	if deadline, has := ctx.Deadline(); has {
		left := time.Until(deadline)
		most = min(most, left-min(left/10, answerTime))
	}
	return context.WithTimeout(ctx, most)
}

// addReceipt waits for the receipt if a request asks for one, and adds it to the response. The change is
// made, so a failure here only makes the receipt incomplete.
func (s *Service) addReceipt(ctx context.Context, request changing, response proto.Message, tokens ...string) {
	if request.GetWaitForPropagation() == nil || len(tokens) == 0 {
		return
	}
	ctx, cancel := waiting(ctx, request.GetWaitForPropagation().AsDuration())
	defer cancel()
	positions := make([]record.Position, len(tokens))
	for i, token := range tokens {
		var err error
		if positions[i], err = s.positionOf(token); err != nil {
			return // cannot happen: this service made the token
		}
	}
	receipt, _ := s.fleet.Wait(ctx, positions)
	*commonOf(response).receipt = receipt.ToProto()
}

// positionOf reads a consistency token of this store.
func (s *Service) positionOf(token string) (record.Position, error) {
	st := s.open.Load()
	if st == nil {
		return record.Position{}, errNotLoaded
	}
	at, err := record.DecodePosition(token)
	if err != nil {
		return at, apierr.Invalid("consistency_token", "want one as a change has answered it").Because(err)
	}
	if codec := st.Replica().Codec(); at.StoreID != codec.StoreID() || at.Partition >= codec.Partitions() {
		return at, apierr.Invalid("consistency_token", "is of another store")
	}
	return at, nil
}

// WaitForPropagation implements the RPC of that name (B24).
func (s *Service) WaitForPropagation(ctx context.Context, r *countersignv1.WaitForPropagationRequest,
) (*countersignv1.WaitForPropagationResponse, error) {
	at, err := s.positionOf(r.GetConsistencyToken())
	if err != nil {
		return nil, err
	}
	most := maxWait
	if _, has := ctx.Deadline(); !has {
		most = defaultWait
	}
	ctx, cancel := waiting(ctx, most)
	defer cancel()
	receipt, err := s.fleet.Wait(ctx, []record.Position{at})
	switch {
	case errors.Is(err, fleet.ErrLost):
		return nil, apierr.Unavailable(apierr.RevisionLost, "the change is not in the store's past: it was lost in a failover")
	case err != nil:
		return nil, err
	}
	return &countersignv1.WaitForPropagationResponse{Receipt: receipt.ToProto()}, nil
}

// ListValidators implements the RPC of that name.
func (s *Service) ListValidators(context.Context, *countersignv1.ListValidatorsRequest,
) (*countersignv1.ListValidatorsResponse, error) {
	validators, err := s.fleet.List()
	if err != nil {
		return nil, err
	}
	return &countersignv1.ListValidatorsResponse{Validators: validators}, nil
}

// ForgetValidator implements the RPC of that name.
func (s *Service) ForgetValidator(ctx context.Context, r *countersignv1.ForgetValidatorRequest,
) (*countersignv1.ForgetValidatorResponse, error) {
	if !fleet.ValidID(r.GetValidatorId()) {
		return nil, apierr.Invalid("validator_id", "want the name of a validator")
	}
	// A validator must be forgettable while no partition is loaded. Partitions may fail to load because the
	// store lacks changes that only this validator has seen.
	st := s.open.Load()
	if st == nil {
		return nil, errNotLoaded
	}
	// The fleet and the audit trail are in different slots of a Redis Cluster, so no script can write both.
	// The row is written first: there may be a row of a change that then failed, and no change without a row
	// (B23).
	err := s.fleet.Forget(ctx, r.GetValidatorId(), func(ctx context.Context) error {
		event := audit.Call(ctx, "ForgetValidator", r, time.Now())
		event.ValidatorId = r.GetValidatorId()
		return st.Note(ctx, event)
	})
	if err != nil {
		return nil, err
	}
	return &countersignv1.ForgetValidatorResponse{}, nil
}
