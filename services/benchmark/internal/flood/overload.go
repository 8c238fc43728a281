package flood

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/services/benchmark/internal/serve"
	"github.com/countersign/countersign/services/benchmark/internal/testbed"
	"github.com/countersign/countersign/services/internal/load"
)

// Overload is the result of more calls in flight than a validator accepts.
type Overload struct {
	// AtRest is the number of the validator's goroutines before the overload. The bound does not count them.
	AtRest int `json:"goroutinesAtRest"`
	// Calls is the number of calls. Right of them were decided correctly, and Refused of them failed with
	// RESOURCE_EXHAUSTED. There is no third outcome.
	Calls   uint64 `json:"calls"`
	Right   uint64 `json:"right"`
	Refused uint64 `json:"refused"`
	// RightPerSecond and RefusedPerSecond are the same per second.
	RightPerSecond   float64 `json:"rightPerSecond"`
	RefusedPerSecond float64 `json:"refusedPerSecond"`
	// Quantiles are over the calls that were decided.
	load.Quantiles
	// After is the number of calls after the overload. All of them were decided.
	After uint64 `json:"after"`
}

const (
	// afterCalls is the number of calls after an overload, afterInFlight how many of them are in flight.
	afterCalls    = 1000
	afterInFlight = 4
)

// overload starts a validator with a low bound, and keeps more calls in flight than it accepts.
func (f *flooder) overload(ctx context.Context) (*Overload, error) {
	s, err := f.bed.StartBounded(ctx, f.MaxInFlight)
	if err != nil {
		return nil, err
	}
	deck, err := f.bed.Deck(s, testbed.Mixed)
	if err != nil {
		return nil, err
	}
	caller, err := s.Connect(ctx, f.Connections)
	if err != nil {
		return nil, err
	}
	defer caller.Close()
	rest, err := s.Ask(serve.Command{})
	if err != nil {
		return nil, err
	}
	o, err := judgeOverload(ctx, load.Closed(ctx, caller, deck, load.Limits{Time: f.Time}, f.InFlight))
	if err != nil {
		return nil, fmt.Errorf("overload: %w", err)
	}
	o.AtRest = rest.Goroutines
	after := load.Closed(ctx, caller, deck, load.Limits{Calls: afterCalls}, afterInFlight)
	if err := testbed.Judge(ctx, after); err != nil {
		return nil, fmt.Errorf("after the overload: %w", err)
	}
	o.After = after.Answered
	return o, nil
}

// judgeOverload returns an error when an answer is neither right nor a refusal, and when the validator was
// not overloaded.
func judgeOverload(ctx context.Context, r *load.Result) (*Overload, error) {
	refused := r.Errors[apierr.Overloaded]
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case r.Wrong > 0:
		return nil, r.WrongError()
	case r.Failed() > refused:
		return nil, fmt.Errorf("%d calls were neither decided nor refused: %v",
			r.Failed()-refused, slices.Sorted(maps.Keys(r.Errors)))
	case refused == 0:
		return nil, errors.New("nothing was refused: want more of --in-flight, or less of --max-in-flight")
	case r.Answered == 0:
		return nil, errors.New("nothing was decided: want more of --max-in-flight, with which a validator can be at rest")
	}
	o := &Overload{Calls: r.Answered + refused, Right: r.Answered, Refused: refused, Quantiles: load.QuantilesOf(r.Latency)}
	if seconds := r.Elapsed.Seconds(); seconds > 0 {
		o.RightPerSecond, o.RefusedPerSecond = float64(r.Answered)/seconds, float64(refused)/seconds
	}
	return o, nil
}
