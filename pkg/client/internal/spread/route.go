package spread

import (
	"context"
	"sync/atomic"
)

// Route notes which validator a question or stream must avoid, and which one it was sent to. It is safe for
// concurrent use. A nil *Route was sent nowhere.
type Route struct {
	avoided *validator
	patient bool
	chosen  atomic.Pointer[validator]
}

type key struct{}

// NewRoute returns a route. A patient question may take long by its nature, so a late answer to it does not
// count against the validator.
func NewRoute(patient bool) *Route { return &Route{patient: patient} }

// With returns a context for the call or stream of the route.
func (r *Route) With(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, r) }

func routeOf(ctx context.Context) *Route {
	r, _ := ctx.Value(key{}).(*Route)
	return r
}

// Taken tells whether the question or stream was sent to a validator.
func (r *Route) Taken() bool { return r != nil && r.chosen.Load() != nil }

// Other returns a route that avoids the validator of r.
func (r *Route) Other(patient bool) *Route {
	other := NewRoute(patient)
	if r != nil {
		other.avoided = r.chosen.Load()
	}
	return other
}

// Trouble makes the policy avoid the validator of r for a while. It is for streams; the policy sees the
// outcomes of calls itself.
func (r *Route) Trouble() {
	if r == nil {
		return
	}
	if v := r.chosen.Load(); v != nil {
		v.silent()
	}
}
