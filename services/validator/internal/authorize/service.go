// Package authorize is the ValidatorService: the edge between the contract and pkg/validator.
package authorize

import (
	"context"
	"time"

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
	limit     limit
}

// New returns a service that answers from a validator, and registers its metrics. While the process has more than a number of
// goroutines, calls are refused; see limit.
func New(v *validator.Validator, maxGoroutines int, registry prometheus.Registerer) *Service {
	return &Service{validator: v, counters: newCounters(registry, v), limit: limit(maxGoroutines)}
}

// scopes tells which numbers are scopes of the contract. It is an array and no map: it is looked at in every call.
var scopes = func() (known [policy.MaxScope + 1]bool) {
	for number := range countersignv1.Scope_name {
		known[number] = number != 0
	}
	return known
}()

// answer is a response and all that it points to, which are allocated at once.
type answer struct {
	response countersignv1.AuthorizeResponse
	age      durationpb.Duration
}

// Authorize implements the RPC of that name.
func (s *Service) Authorize(ctx context.Context, r *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
	began := time.Now()
	a := new(answer)
	err := s.limit.check()
	if err == nil {
		err = s.decide(ctx, r, a)
	}
	s.counters.took(time.Since(began))
	if err != nil {
		s.counters.failed(err)
		return nil, err
	}
	return &a.response, nil
}

// decide answers a request, and counts the decision.
func (s *Service) decide(ctx context.Context, r *countersignv1.AuthorizeRequest, a *answer) error {
	// A number that is no scope goes on as 0, which the validator refuses in its turn (B19).
	var scope policy.Scope
	if n := r.GetScope(); n > 0 && int(n) < len(scopes) && scopes[n] {
		scope = policy.Scope(n)
	}
	decided, err := s.validator.Authorize(ctx, validator.Request{
		AppID:       r.GetAppId(),
		Token:       secret.Of(&r.Token),
		Scope:       scope,
		Source:      policy.Source(r.GetSource()),
		MinRevision: r.GetMinRevision(),
	})
	if err != nil {
		return err
	}
	s.counters.decided(scope, decided.Decision)
	a.response.Decision = countersignv1.Decision_DECISION_DENY
	if decided.Allow {
		a.response.Decision = countersignv1.Decision_DECISION_ALLOW
	}
	a.response.Reason = countersignv1.Reason(decided.Reason)
	a.response.Enforced = decided.Enforced
	a.response.TokenId = decided.TokenID
	a.response.Revision = decided.Revision
	a.age.Seconds = int64(decided.DataAge / time.Second)
	a.age.Nanos = int32(decided.DataAge % time.Second)
	a.response.DataAge = &a.age
	return nil
}

// Bulk implements countersignv1.BulkValidatorServiceServer.
type Bulk struct {
	countersignv1.UnimplementedBulkValidatorServiceServer
}

// AuthorizeStream answers UNIMPLEMENTED.
func (Bulk) AuthorizeStream(grpc.BidiStreamingServer[countersignv1.AuthorizeStreamRequest, countersignv1.AuthorizeStreamResponse]) error {
	return apierr.Unimplemented("AuthorizeStream is not served by this release; use Authorize")
}
