// Package spread is the load balancing policy of client.Dial. It spreads questions evenly over the validators
// that serve (grpc.health.v1), avoids validators that do not answer, and routes a second question to another
// validator. This package is not part of the public API and may change in any release.
//
// It knows connections and the outcomes of calls, and nothing about the questions.
package spread

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Name is the name of the policy in a service config.
const Name = "countersign_spread"

func init() { balancer.Register(builder{}) }

type builder struct{}

// Name implements balancer.Builder.
func (builder) Name() string { return Name }

// Build implements balancer.Builder. Each client connection has a memory of its own.
func (builder) Build(connection balancer.ClientConn, options balancer.BuildOptions) balancer.Balancer {
	known := &memory{validators: map[balancer.SubConn]*validator{}}
	return base.NewBalancerBuilder(Name, known, base.Config{HealthCheck: true}).Build(connection, options)
}

// memory keeps the state of each validator from one picker to the next.
type memory struct {
	validators map[balancer.SubConn]*validator
}

// Build implements base.PickerBuilder. grpc-go calls it from one goroutine at a time. It forgets validators
// that are not ready: they return with a new connection, or when they serve again.
func (m *memory) Build(info base.PickerBuildInfo) balancer.Picker {
	ready := make(map[balancer.SubConn]*validator, len(info.ReadySCs))
	p := &picker{}
	for connection := range info.ReadySCs {
		v := m.validators[connection]
		if v == nil {
			v = newValidator(connection)
		}
		ready[connection] = v
		p.validators = append(p.validators, v)
	}
	m.validators = ready
	return p
}

// picker chooses among the validators that serve. It is safe for concurrent use.
type picker struct {
	validators []*validator
	turn       atomic.Uint64
}

// errNoOther ends a second question when no other validator serves. The first question may still be answered.
var errNoOther = status.Error(codes.Unavailable, "no other validator serves now")

// Pick implements balancer.Picker.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	route := routeOf(info.Ctx)
	var avoided *validator
	if route != nil {
		avoided = route.avoided
	}
	stream := info.FullMethodName == countersignv1.BulkValidatorService_AuthorizeStream_FullMethodName
	chosen := p.choose(avoided, stream)
	if chosen == nil {
		if avoided != nil {
			return balancer.PickResult{}, errNoOther
		}
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	if route != nil {
		route.chosen.Store(chosen)
	}
	switch {
	case stream:
		chosen.streams.Add(1)
		return balancer.PickResult{SubConn: chosen.connection, Done: func(balancer.DoneInfo) { chosen.streams.Add(-1) }}, nil
	case route != nil && route.patient:
		return balancer.PickResult{SubConn: chosen.connection}, nil
	}
	chosen.ask()
	return balancer.PickResult{SubConn: chosen.connection, Done: func(info balancer.DoneInfo) { chosen.done(info.Err) }}, nil
}

// choose returns a validator other than the avoided one, or nil when there is none. It takes two usable
// validators in turn, and returns the one with fewer questions in flight, so that a slow validator gets
// fewer.
func (p *picker) choose(avoided *validator, stream bool) *validator {
	now := time.Now()
	usable := func(v *validator) bool { return v != avoided && v.usable(now) }
	count := 0
	for _, v := range p.validators {
		if usable(v) {
			count++
		}
	}
	if count == 0 {
		// All are in trouble, so any will do.
		usable = func(v *validator) bool { return v != avoided }
		for _, v := range p.validators {
			if usable(v) {
				count++
			}
		}
	}
	if count == 0 {
		return nil
	}
	at := int((p.turn.Add(1) - 1) % uint64(count))
	var first, second *validator
	for i := 0; i < 2*len(p.validators) && second == nil; i++ {
		// Validators may become unusable meanwhile, so the loop is bounded to two passes.
		v := p.validators[i%len(p.validators)]
		switch {
		case !usable(v):
		case at > 0:
			at--
		case first == nil:
			first = v
		default:
			second = v
		}
	}
	switch {
	case first == nil:
		return p.any(avoided)
	case second != nil && second.busy(stream) < first.busy(stream):
		return second
	}
	return first
}

// any returns a validator other than the avoided one, or nil.
func (p *picker) any(avoided *validator) *validator {
	for _, v := range p.validators {
		if v != avoided {
			return v
		}
	}
	return nil
}
