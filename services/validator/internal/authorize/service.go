// Package authorize is the ValidatorService: the edge between the contract and pkg/validator.
package authorize

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/validator"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Service implements countersignv1.ValidatorServiceServer. It is safe for concurrent use.
type Service struct {
	countersignv1.UnimplementedValidatorServiceServer
	validator *validator.Validator
	counters  *counters
}

// New returns a service that answers from a validator, and registers its metrics.
func New(v *validator.Validator, registry prometheus.Registerer) *Service {
	return &Service{validator: v, counters: newCounters(registry, v)}
}

// scopes tells which numbers are scopes of the contract. It is an array and no map: it is looked at in every call.
var scopes = func() (known [policy.MaxScope + 1]bool) {
	for number := range countersignv1.Scope_name {
		known[number] = number != 0
	}
	return known
}()

// Authorize implements the RPC of that name.
func (s *Service) Authorize(ctx context.Context, r *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
	// A number that is no scope goes on as 0, which the validator refuses in its turn (B19).
	var scope policy.Scope
	if n := r.GetScope(); n > 0 && int(n) < len(scopes) && scopes[n] {
		scope = policy.Scope(n)
	}
	answer, err := s.validator.Authorize(ctx, validator.Request{
		AppID:       r.GetAppId(),
		Token:       secret.New(r.GetToken()),
		Scope:       scope,
		Source:      policy.Source(r.GetSource()),
		MinRevision: r.GetMinRevision(),
	})
	if err != nil {
		s.counters.failed(err)
		return nil, err
	}
	s.counters.decided(scope, answer.Decision)
	decision := countersignv1.Decision_DECISION_DENY
	if answer.Allow {
		decision = countersignv1.Decision_DECISION_ALLOW
	}
	return &countersignv1.AuthorizeResponse{
		Decision: decision,
		Reason:   countersignv1.Reason(answer.Reason),
		Enforced: answer.Enforced,
		TokenId:  answer.TokenID,
		Revision: answer.Revision,
		DataAge:  durationpb.New(answer.DataAge),
	}, nil
}

// Bulk implements countersignv1.BulkValidatorServiceServer.
type Bulk struct {
	countersignv1.UnimplementedBulkValidatorServiceServer
}

// AuthorizeStream answers UNIMPLEMENTED.
func (Bulk) AuthorizeStream(grpc.BidiStreamingServer[countersignv1.AuthorizeStreamRequest, countersignv1.AuthorizeStreamResponse]) error {
	return apierr.Unimplemented("AuthorizeStream is not served by this release; use Authorize")
}
