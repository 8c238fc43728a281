// Package spread is the load balancing policy of client.Dial. It spreads questions evenly over the
// validators that say they serve (grpc.health.v1), leaves alone those that have stopped to answer, and lets
// a question that is asked a second time go to another validator.
//
// It knows connections and what became of the calls over them, and nothing of what is asked.
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

// Build implements balancer.Builder. Each connection has its own memory of its validators.
func (builder) Build(connection balancer.ClientConn, options balancer.BuildOptions) balancer.Balancer {
	known := &memory{validators: map[balancer.SubConn]*validator{}}
	return base.NewBalancerBuilder(Name, known, base.Config{HealthCheck: true}).Build(connection, options)
}

// memory keeps what is known of each validator from one picker to the next.
type memory struct {
	validators map[balancer.SubConn]*validator
}

// Build implements base.PickerBuilder. Calls to it follow each other. A validator that is not ready is
// forgotten: it comes back over a new connection, or because its health check says that it serves again.
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

// errNoOther ends a second question when there is nobody to ask. The first one may still be answered.
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

// choose returns a validator other than the avoided one, nil when there is none. Each usable one is as
// likely as the others: of two that follow each other the one with less under way is taken, so that a slow
// one gets less.
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
		// None answers: one that seems to be in trouble is asked, since there is no better one.
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
		// Others may change meanwhile: what was counted as usable is not looked at a third time.
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

// any returns some validator but the avoided one.
func (p *picker) any(avoided *validator) *validator {
	for _, v := range p.validators {
		if v != avoided {
			return v
		}
	}
	return nil
}
