package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/countersign/countersign/services/countersign/internal/bench/process"
	"github.com/countersign/countersign/services/internal/load"
)

// Turn is what one leg has shown in one round.
type Turn struct {
	Round  int    `json:"round"`
	Leg    string `json:"leg"`
	Closed Closed `json:"closed"`
	Open   []Open `json:"open,omitempty"`
	// Resyncs is nil when none were made.
	Resyncs *Resyncs `json:"resyncs,omitempty"`
}

// Closed is what came of a closed loop.
type Closed struct {
	Calls uint64 `json:"calls"`
	// PerSecond is how many calls were answered a second.
	PerSecond float64 `json:"perSecond"`
	// CPUNanos is the time that the server has had of the processors, for each call; 0 when the system does
	// not say.
	CPUNanos float64 `json:"cpuNanosPerCall"`
	// Utilisation is what part of one processor the server has used, GeneratorUtilisation the same of the
	// generator. In a closed loop that measures the server, the first is close to 1.
	Utilisation          float64 `json:"serverUtilisation"`
	GeneratorUtilisation float64 `json:"generatorUtilisation"`
	// RedisCPUNanos is the time that Redis has had of the processors, for each call; what keeps a validator
	// up to date is in it, too.
	RedisCPUNanos float64 `json:"redisCpuNanosPerCall"`
	// Allocations is how many objects the server has allocated for each call, Collections how often it has
	// collected garbage meanwhile.
	Allocations float64 `json:"allocationsPerCall"`
	Collections uint64  `json:"collections"`
	Quantiles
}

// Open is what came of an open loop.
type Open struct {
	// Rate is how many calls a second were meant to be sent, Calls how many were answered.
	Rate  int    `json:"rate"`
	Calls uint64 `json:"calls"`
	Quantiles
	// LateP99 is the 99th percentile of how late calls were sent, in microseconds.
	LateP99 float64 `json:"lateP99Micros"`
	// Utilisation is what part of one processor the server has used: what it does beside the calls is in it.
	Utilisation float64 `json:"serverUtilisation"`

	latency *hdrhistogram.Histogram
}

// Quantiles are percentiles of latencies, in microseconds.
type Quantiles struct {
	P50  float64 `json:"p50Micros"`
	P99  float64 `json:"p99Micros"`
	P999 float64 `json:"p999Micros"`
}

func quantilesOf(h *hdrhistogram.Histogram) Quantiles {
	at := func(percentile float64) float64 {
		return float64(h.ValueAtPercentile(percentile)) / float64(time.Microsecond)
	}
	return Quantiles{at(50), at(99), at(99.9)}
}

// turn lets a contestant have its turn in a round: on connections of its own, so that each turn begins alike.
func (a *arena) turn(ctx context.Context, round int, c *contestant, under condition) (*Turn, error) {
	o := a.options
	deck, err := a.deck(c.leg, under.mix)
	if err != nil {
		return nil, err
	}
	caller, err := c.connect(ctx, c.address, under.connections)
	if err != nil {
		return nil, err
	}
	defer caller.Close()
	if o.WarmUp > 0 {
		if err := judge(ctx, load.Closed(ctx, caller, deck, load.Limits{Time: o.WarmUp}, under.inFlight)); err != nil {
			return nil, err
		}
	}
	t := &Turn{Round: round, Leg: c.name}
	end, err := a.resyncing(c)
	if err != nil {
		return nil, err
	}
	measured := a.measure(ctx, t, c, asking{caller, deck, under.inFlight})
	if t.Resyncs, err = end(); measured != nil || err != nil {
		return nil, errors.Join(measured, err)
	}
	return t, nil
}

// asking is who asks a contestant, and what.
type asking struct {
	caller   load.Caller
	deck     *load.Deck
	inFlight int
}

// measure does what counts of a turn.
func (a *arena) measure(ctx context.Context, t *Turn, c *contestant, by asking) (err error) {
	o := a.options
	if t.Closed, err = a.closed(ctx, c, by); err != nil {
		return err
	}
	for _, rate := range o.Rates {
		// All legs of a round get the same schedule, and each round another one.
		schedule := load.NewSchedule(float64(rate), o.Arrivals, o.Seed+uint64(t.Round))
		used, _ := c.child.CPU()
		r := load.Open(ctx, by.caller, by.deck, load.Limits{Time: o.OpenTime}, schedule)
		if err := judge(ctx, r); err != nil {
			return err
		}
		usedEnd, _ := c.child.CPU()
		t.Open = append(t.Open, Open{
			Rate: rate, Calls: r.Answered, Quantiles: quantilesOf(r.Latency), LateP99: quantilesOf(r.Late).P99, latency: r.Latency,
			Utilisation: float64(usedEnd-used) / float64(r.Elapsed),
		})
	}
	return nil
}

// closed measures what calls cost.
func (a *arena) closed(ctx context.Context, c *contestant, by asking) (Closed, error) {
	before, err := c.state()
	if err != nil {
		return Closed{}, err
	}
	began := time.Now()
	server, known := c.child.CPU()
	own, _ := process.OwnCPU()
	redis := a.redisCPU()
	r := load.Closed(ctx, by.caller, by.deck, a.options.Closed, by.inFlight)
	serverEnd, _ := c.child.CPU()
	ownEnd, _ := process.OwnCPU()
	redisEnd := a.redisCPU()
	took := time.Since(began)
	if err := judge(ctx, r); err != nil {
		return Closed{}, err
	}
	after, err := c.state()
	if err != nil {
		return Closed{}, err
	}
	calls := float64(r.Answered)
	m := Closed{
		Calls: r.Answered, PerSecond: r.Rate(), Quantiles: quantilesOf(r.Latency),
		Allocations: float64(after.Mallocs-before.Mallocs) / calls, Collections: after.GCs - before.GCs,
	}
	if known {
		m.CPUNanos = float64(serverEnd-server) / calls
		m.RedisCPUNanos = float64(redisEnd-redis) / calls
		m.Utilisation = float64(serverEnd-server) / float64(took)
		m.GeneratorUtilisation = float64(ownEnd-own) / float64(took)
	}
	return m, nil
}

// redisCPU returns how much time Redis has had of the processors; 0 when there is none.
func (a *arena) redisCPU() time.Duration {
	if a.redis == nil {
		return 0
	}
	used, _ := a.redis.CPU()
	return used
}

// judge makes an error of what must not be in a comparison: its figures would mean nothing.
func judge(ctx context.Context, r *load.Result) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case r.Wrong > 0:
		return fmt.Errorf("%w: %d of %d: %v", ErrWrong, r.Wrong, r.Answered, r.Examples)
	case r.Failed() > 0:
		return fmt.Errorf("%d calls were not answered: %v", r.Failed(), r.Errors)
	case r.Answered == 0:
		return errors.New("no call was made")
	}
	return nil
}

// ErrWrong says that a server has decided wrongly.
var ErrWrong = errors.New("wrong decisions")
