// Package authorize is the ValidatorService and the BulkValidatorService: the edge between the contract and
// pkg/validator.
package authorize

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/validator"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/validator/internal/wire"
)

// Service is the ValidatorService. It is safe for concurrent use.
type Service struct {
	validator *validator.Validator
	counters  *counters
	limit     limit
	waiting   waiting
	info      grpc.UnaryServerInfo
}

// New returns a service that answers from a validator, and registers its metrics. Calls past the bound are
// refused.
func New(v *validator.Validator, bound Bound, registry prometheus.Registerer) *Service {
	s := &Service{validator: v, counters: newCounters(registry, v), limit: limit{Bound: bound}, waiting: newWaiting()}
	s.info = grpc.UnaryServerInfo{Server: s, FullMethod: countersignv1.ValidatorService_Authorize_FullMethodName}
	return s
}

// scopes tells which numbers are scopes of the contract. It is an array and no map: it is looked at in
// every call.
var scopes = func() (known [policy.MaxScope + 1]bool) {
	for number := range countersignv1.Scope_name {
		known[number] = number != 0
	}
	return known
}()

// call is what a call needs while it is answered. They are used again and again.
type call struct {
	service  *Service
	receiver receiver
	request  wire.Request
	response wire.Response
}

var calls = sync.Pool{New: func() any { return &call{receiver: newReceiver()} }}

// Format implements fmt.Formatter: no verb prints a token (B02).
func (c *call) Format(to fmt.State, _ rune) { fmt.Fprint(to, c.request) }

// description is that of generated code, but for what it says of Authorize: a handler that makes no messages.
var description = func() grpc.ServiceDesc {
	d := countersignv1.ValidatorService_ServiceDesc
	d.HandlerType = (*any)(nil)
	d.Methods = slices.Clone(d.Methods)
	for i := range d.Methods {
		if d.Methods[i].MethodName == "Authorize" {
			d.Methods[i].Handler = handle
		}
	}
	return d
}()

// Register registers the service on a server whose codec is a wire.Codec.
func (s *Service) Register(on grpc.ServiceRegistrar) { on.RegisterService(&description, s) }

// handle is what generated code does for a method, with wire's types.
//
//nolint:revive // the order is that of grpc.MethodHandler
func handle(service any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	c := calls.Get().(*call)
	c.service = service.(*Service)
	c.receiver.begin(ctx)
	err := decode(&c.request)
	c.receiver.end()
	if err != nil {
		return nil, err
	}
	if intercept == nil {
		return answer(ctx, c)
	}
	return intercept(ctx, c, &c.service.info, answer)
}

// answer answers a call, which nobody uses afterwards. One that panics is not used again.
func answer(ctx context.Context, request any) (any, error) {
	c := request.(*call)
	encoded, err := c.service.authorize(ctx, c)
	*c = call{receiver: receiver{shard: c.receiver.shard}}
	calls.Put(c)
	if err != nil {
		return nil, err
	}
	return encoded, nil
}

func (s *Service) authorize(ctx context.Context, c *call) (*wire.Encoded, error) {
	given, took, err := s.askAndWait(ctx, &c.request)
	s.count(&c.request, given, took, err)
	if err != nil {
		return nil, err
	}
	fill(&c.response, given)
	return c.response.Encode(), nil
}

// scopeOf returns the scope that a request names. A number that is no scope is 0, which the validator
// refuses (B19).
func scopeOf(r *wire.Request) policy.Scope {
	if n := r.Scope; n > 0 && int(n) < len(scopes) && scopes[n] {
		return policy.Scope(n)
	}
	return 0
}

// errUnreadable is told of what is no request.
var errUnreadable = apierr.Invalid("request", "is not in the encoding of Protocol Buffers, or has a text that is not UTF-8")

// ask has the validator answer a request, and returns how long that took; 0 when it was not asked. Whoever
// passes the answer or the error on counts it.
func (s *Service) ask(ctx context.Context, r *wire.Request) (answer validator.Answer, took time.Duration, err error) {
	if err := s.limit.check(); err != nil {
		return answer, 0, err
	}
	if r.Unreadable {
		return answer, 0, errUnreadable
	}
	began := time.Now()
	answer, err = s.validator.Authorize(ctx, validator.Request{
		AppID:       r.AppID,
		Token:       secret.Of(&r.Token),
		Scope:       scopeOf(r),
		Source:      policy.Source(r.Source),
		MinRevision: r.MinRevision,
	})
	return answer, time.Since(began), err
}

// count counts what a request was answered.
func (s *Service) count(r *wire.Request, answer validator.Answer, took time.Duration, err error) {
	if took > 0 {
		s.counters.took(took)
	}
	if err != nil {
		s.counters.failed(err)
		return
	}
	s.counters.decided(scopeOf(r), answer.Decision)
}

// fill makes a response say what was answered. It overwrites every field.
func fill(response *wire.Response, answer validator.Answer) {
	*response = wire.Response{
		Decision: countersignv1.Decision_DECISION_DENY, Reason: countersignv1.Reason(answer.Reason), Enforced: answer.Enforced,
		TokenID: answer.TokenID, Revision: answer.Revision, DataAge: answer.DataAge,
	}
	if answer.Allow {
		response.Decision = countersignv1.Decision_DECISION_ALLOW
	}
}
