// Package authorize is the ValidatorService and the BulkValidatorService: the edge between the contract and
// pkg/validator.
package authorize

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/durationpb"

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

// called is a response to a call and all that it points to, which are allocated at once.
type called struct {
	response countersignv1.AuthorizeResponse
	age      durationpb.Duration
}

// Authorize implements the RPC of that name.
func (s *Service) Authorize(ctx context.Context, r *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
	answer, err := s.ask(ctx, r)
	s.count(r, answer, err)
	if err != nil {
		return nil, err
	}
	c := new(called)
	c.response.DataAge = &c.age
	fill(&c.response, answer)
	return &c.response, nil
}

// scopeOf returns the scope that a request names. A number that is no scope is 0, which the validator refuses (B19).
func scopeOf(r *countersignv1.AuthorizeRequest) policy.Scope {
	if n := r.GetScope(); n > 0 && int(n) < len(scopes) && scopes[n] {
		return policy.Scope(n)
	}
	return 0
}

// none stands for a request that is not there, as a message of a stream may have one.
var none = &countersignv1.AuthorizeRequest{}

// ask has the validator answer a request. Whoever passes its answer or error on counts it.
func (s *Service) ask(ctx context.Context, r *countersignv1.AuthorizeRequest) (validator.Answer, error) {
	if r == nil {
		r = none
	}
	if err := s.limit.check(); err != nil {
		return validator.Answer{}, err
	}
	began := time.Now()
	answer, err := s.validator.Authorize(ctx, validator.Request{
		AppID:       r.GetAppId(),
		Token:       secret.Of(&r.Token),
		Scope:       scopeOf(r),
		Source:      policy.Source(r.GetSource()),
		MinRevision: r.GetMinRevision(),
	})
	s.counters.took(time.Since(began))
	return answer, err
}

// count counts what a request was answered.
func (s *Service) count(r *countersignv1.AuthorizeRequest, answer validator.Answer, err error) {
	if err != nil {
		s.counters.failed(err)
		return
	}
	s.counters.decided(scopeOf(r), answer.Decision)
}

// fill makes a response say what was answered. It overwrites every field; DataAge must be there.
func fill(response *countersignv1.AuthorizeResponse, answer validator.Answer) {
	response.Decision = countersignv1.Decision_DECISION_DENY
	if answer.Allow {
		response.Decision = countersignv1.Decision_DECISION_ALLOW
	}
	response.Reason = countersignv1.Reason(answer.Reason)
	response.Enforced = answer.Enforced
	response.TokenId = answer.TokenID
	response.Revision = answer.Revision
	response.DataAge.Seconds = int64(answer.DataAge / time.Second)
	response.DataAge.Nanos = int32(answer.DataAge % time.Second)
}
