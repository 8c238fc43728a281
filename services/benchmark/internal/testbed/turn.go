package testbed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/countersign/countersign/services/benchmark/internal/process"
	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/benchmark/internal/serve"
	"github.com/countersign/countersign/services/internal/load"
)

// turn measures one server under one condition in one round. It opens new connections, so that all turns
// begin alike.
func (t *Testbed) turn(ctx context.Context, round int, s *Server, c Condition) (*report.Turn, error) {
	deck, err := t.Deck(s, c.Mix)
	if err != nil {
		return nil, err
	}
	caller, err := s.Connect(ctx, c.Connections)
	if err != nil {
		return nil, err
	}
	defer caller.Close()
	if t.options.WarmUp > 0 {
		if err := Judge(ctx, load.Closed(ctx, caller, deck, load.Limits{Time: t.options.WarmUp}, c.InFlight)); err != nil {
			return nil, err
		}
	}
	turn := &report.Turn{Round: round, Leg: s.Name}
	end, err := t.resyncing(s)
	if err != nil {
		return nil, err
	}
	measured := t.measure(ctx, turn, s, workload{caller, deck, c.InFlight})
	if turn.Resyncs, err = end(); measured != nil || err != nil {
		return nil, errors.Join(measured, err)
	}
	return turn, nil
}

// workload is the load on a server: the questions, the caller that sends them, and the number of calls in
// flight.
type workload struct {
	caller   load.Caller
	deck     *load.Deck
	inFlight int
}

// measure runs the closed loop and the open loops of a turn, and stores their results in the turn.
func (t *Testbed) measure(ctx context.Context, turn *report.Turn, s *Server, w workload) (err error) {
	if turn.Closed, err = t.closed(ctx, s, w); err != nil {
		return err
	}
	for _, rate := range t.options.Rates {
		// All legs of a round have the same schedule. Each round has a different schedule.
		schedule := load.NewSchedule(float64(rate), t.options.Arrivals, t.options.Seed+uint64(turn.Round))
		used, _ := s.CPU()
		r := load.Open(ctx, w.caller, w.deck, load.Limits{Time: t.options.OpenTime}, schedule)
		if err := Judge(ctx, r); err != nil {
			return err
		}
		usedEnd, _ := s.CPU()
		turn.Open = append(turn.Open, report.Open{
			Rate: rate, Calls: r.Answered, Quantiles: load.QuantilesOf(r.Latency), LateP99: load.QuantilesOf(r.Late).P99,
			Utilisation: float64(usedEnd-used) / float64(r.Elapsed), Latency: r.Latency,
		})
	}
	return nil
}

// closed runs the closed loop. It measures the rate and the latency of calls, and their cost in CPU time and
// allocations.
func (t *Testbed) closed(ctx context.Context, s *Server, w workload) (closed report.Closed, err error) {
	before, err := s.Ask(serve.Command{})
	if err != nil {
		return closed, err
	}
	began := time.Now()
	server, known := s.CPU()
	own, _ := process.OwnCPU()
	redis := t.redisCPU()
	r := load.Closed(ctx, w.caller, w.deck, t.options.Closed, w.inFlight)
	serverEnd, _ := s.CPU()
	ownEnd, _ := process.OwnCPU()
	redisEnd := t.redisCPU()
	took := time.Since(began)
	if err := Judge(ctx, r); err != nil {
		return closed, err
	}
	after, err := s.Ask(serve.Command{})
	if err != nil {
		return closed, err
	}
	calls := float64(r.Answered)
	closed = report.Closed{
		Calls: r.Answered, PerSecond: r.Rate(), Quantiles: load.QuantilesOf(r.Latency),
		Allocations: float64(after.Mallocs-before.Mallocs) / calls, Collections: after.GCs - before.GCs,
	}
	if known {
		closed.CPUNanos = float64(serverEnd-server) / calls
		closed.RedisCPUNanos = float64(redisEnd-redis) / calls
		closed.Utilisation = float64(serverEnd-server) / float64(took)
		closed.GeneratorUtilisation = float64(ownEnd-own) / float64(took)
	}
	return closed, nil
}

// redisCPU returns the CPU time of Redis so far. It returns 0 with the embedded store.
func (t *Testbed) redisCPU() time.Duration {
	if t.redis == nil {
		return 0
	}
	used, _ := t.redis.CPU()
	return used
}

// Judge returns an error for a result whose figures would mean nothing: an answer was wrong, a call failed,
// or no call was made. It returns the error of ctx if ctx has ended.
func Judge(ctx context.Context, r *load.Result) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case r.Wrong > 0:
		return r.WrongError()
	case r.Failed() > 0:
		return fmt.Errorf("%d calls were not answered: %v", r.Failed(), r.Errors)
	case r.Answered == 0:
		return errors.New("no call was made")
	}
	return nil
}
