package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/services/countersign/internal/bench/serve"
	"github.com/countersign/countersign/services/internal/load"
)

// Overload is what has become of calls to a validator that was asked more than it may take at once.
type Overload struct {
	// AtRest is how many goroutines it had before; its bound does not count them.
	AtRest int `json:"goroutinesAtRest"`
	// Calls is how many there were, Right how many of these were decided, as they should be; Refused how
	// many were RESOURCE_EXHAUSTED. There were no others.
	Calls   uint64 `json:"calls"`
	Right   uint64 `json:"right"`
	Refused uint64 `json:"refused"`
	// RightPerSecond and RefusedPerSecond are how many of them there were a second.
	RightPerSecond   float64 `json:"rightPerSecond"`
	RefusedPerSecond float64 `json:"refusedPerSecond"`
	// Quantiles are those of calls that were decided.
	Quantiles
	// After is how many calls were made when it was over, each of them decided.
	After uint64 `json:"after"`
}

const (
	// afterCalls is how many calls are made when an overload is over, afterInFlight how many of them at once.
	afterCalls    = 1000
	afterInFlight = 4
)

// overload starts a validator with a low bound, and keeps more calls under way than it may take.
func (a *arena) overload(ctx context.Context, f FloodOptions) (*Overload, error) {
	c := &contestant{leg: leg{
		name: "overloaded", title: "validator with a low bound", role: serve.Validator, tuned: true, asks: true, connect: connectAuthorize,
	}, maxInFlight: f.MaxInFlight}
	fmt.Fprintf(f.Progress, "Starting: %s\n", c.title)
	if err := a.start(ctx, c); err != nil {
		return nil, err
	}
	deck, err := a.deck(c.leg, Mixed)
	if err != nil {
		return nil, err
	}
	caller, err := c.connect(ctx, c.address, f.Connections)
	if err != nil {
		return nil, err
	}
	defer caller.Close()
	rest, err := c.state()
	if err != nil {
		return nil, err
	}
	o, err := judgeOverload(ctx, load.Closed(ctx, caller, deck, load.Limits{Time: f.Time}, f.InFlight))
	if err != nil {
		return nil, fmt.Errorf("overload: %w", err)
	}
	o.AtRest = rest.Goroutines
	after := load.Closed(ctx, caller, deck, load.Limits{Calls: afterCalls}, afterInFlight)
	if err := judge(ctx, after); err != nil {
		return nil, fmt.Errorf("after the overload: %w", err)
	}
	o.After = after.Answered
	return o, nil
}

// judgeOverload makes an error of any answer that is neither right nor a refusal, and of a load that was
// none too many.
func judgeOverload(ctx context.Context, r *load.Result) (*Overload, error) {
	refused := r.Errors[apierr.Overloaded]
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case r.Wrong > 0:
		return nil, fmt.Errorf("%w: %d of %d: %v", ErrWrong, r.Wrong, r.Answered, r.Examples)
	case r.Failed() > refused:
		return nil, fmt.Errorf("%d calls were neither decided nor refused: %v", r.Failed()-refused, slices.Sorted(maps.Keys(r.Errors)))
	case refused == 0:
		return nil, errors.New("nothing was refused: want more of --in-flight, or less of --max-in-flight")
	case r.Answered == 0:
		return nil, errors.New("nothing was decided: want more of --max-in-flight, with which a validator can be at rest")
	}
	o := &Overload{Calls: r.Answered + refused, Right: r.Answered, Refused: refused, Quantiles: quantilesOf(r.Latency)}
	if seconds := r.Elapsed.Seconds(); seconds > 0 {
		o.RightPerSecond, o.RefusedPerSecond = float64(r.Answered)/seconds, float64(refused)/seconds
	}
	return o, nil
}
