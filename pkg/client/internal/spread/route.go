package spread

import (
	"context"
	"sync/atomic"
)

// Route is the way of one question or stream. It says which validator not to take, and knows which one was
// taken. Its methods are safe for concurrent use, also on a nil *Route, which knows nothing.
type Route struct {
	avoided *validator
	patient bool
	chosen  atomic.Pointer[validator]
}

type key struct{}

// NewRoute returns a route. Patient questions may take long because of what they ask: that they are not
// answered soon says nothing about a validator.
func NewRoute(patient bool) *Route { return &Route{patient: patient} }

// With returns a context for a call or stream that takes the route.
func (r *Route) With(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, r) }

func routeOf(ctx context.Context) *Route {
	r, _ := ctx.Value(key{}).(*Route)
	return r
}

// Taken tells whether the route has led to a validator yet.
func (r *Route) Taken() bool { return r != nil && r.chosen.Load() != nil }

// Other returns a route to another validator than the one that this has led to.
func (r *Route) Other(patient bool) *Route {
	other := NewRoute(patient)
	if r != nil {
		other.avoided = r.chosen.Load()
	}
	return other
}

// Trouble leaves the validator alone for a while that the route has led to. It is for streams: what became
// of a call is known without being told.
func (r *Route) Trouble() {
	if r == nil {
		return
	}
	if v := r.chosen.Load(); v != nil {
		v.silent()
	}
}
