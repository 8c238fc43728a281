// Package authorize implements ValidatorService and BulkValidatorService on top of pkg/validator. It
// translates between the contract and pkg/validator, bounds the load and counts the answers. This package is
// not part of the public API and may change in any release.
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

// New returns a service that answers from a validator, and registers its metrics. It rejects calls beyond the
// bound.
func New(v *validator.Validator, bound Bound, registry prometheus.Registerer) *Service {
	s := &Service{validator: v, counters: newCounters(registry, v), limit: limit{Bound: bound}, waiting: newWaiting()}
	s.info = grpc.UnaryServerInfo{Server: s, FullMethod: countersignv1.ValidatorService_Authorize_FullMethodName}
	return s
}

// scopes tells which numbers are scopes of the contract. It is an array, because every call reads it.
var scopes = func() (known [policy.MaxScope + 1]bool) {
	for number := range countersignv1.Scope_name {
		known[number] = number != 0
	}
	return known
}()

// call holds the state of one unary call. Calls are pooled.
type call struct {
	service  *Service
	receiver receiver
	request  wire.Request
}

var calls = sync.Pool{New: func() any { return &call{receiver: newReceiver()} }}

// Format implements fmt.Formatter: no verb prints a token (B02).
func (c *call) Format(to fmt.State, _ rune) { fmt.Fprint(to, c.request) }

// description is the generated description of the service, with handle as the handler of Authorize.
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

// Register registers the service on a server. The server's codec must be a wire.Codec.
func (s *Service) Register(on grpc.ServiceRegistrar) { on.RegisterService(&description, s) }

// handle does what the generated handler does, but with the types of package wire instead of protobuf
// messages. docs/decisions/015 says what that saves. Interceptors see a *call.
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

// answer answers a call and returns it to the pool, unless it panics.
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
	return wire.Encode(&given), nil
}

// scopeOf returns the scope of a request. It returns 0, which the validator rejects (B19), for a number
// that is no scope of the contract.
func scopeOf(r *wire.Request) policy.Scope {
	if n := r.Scope; n > 0 && int(n) < len(scopes) && scopes[n] {
		return policy.Scope(n)
	}
	return 0
}

// errUnreadable is the answer to bytes that are no request.
var errUnreadable = apierr.Invalid("request", "is not in the encoding of Protocol Buffers, or has a text that is not UTF-8")

// ask returns the validator's answer and how long it took. It returns 0 for took when the validator was not
// asked. The caller counts the answer.
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

// count adds an answer or an error to the metrics.
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
