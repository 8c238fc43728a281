package bench

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/services/countersign/internal/bench/process"
	"github.com/countersign/countersign/services/countersign/internal/bench/serve"
	"github.com/countersign/countersign/services/internal/load"
)

// FailoverReport is what callers had of two validators, one of which was in trouble for a while.
type FailoverReport struct {
	Environment Environment     `json:"environment"`
	Options     FailoverOptions `json:"options"`
	Notes       []string        `json:"notes"`
	Rows        []FailoverRow   `json:"rows"`
}

// FailoverRow is one trouble, with one kind of client.
type FailoverRow struct {
	Trouble Trouble `json:"trouble"`
	// Client is calls or streams.
	Client string `json:"client"`
	// Questions is how many were asked, Failed how many got no answer within their deadline, Errors why.
	Questions uint64            `json:"questions"`
	Failed    uint64            `json:"failed"`
	Errors    map[string]uint64 `json:"errors"`
	// Quantiles and Slowest are those of answers, from when a question was due. All are of the whole time:
	// before the trouble, during it and after it.
	Quantiles
	Slowest float64 `json:"slowestMicros"`
	// LateP99 is by how much the load generator was late.
	LateP99 float64 `json:"lateP99Micros"`
}

// clientKinds are the two ways to ask.
var clientKinds = []string{"calls", "streams"}

// Failover runs the measurement.
func Failover(ctx context.Context, f FailoverOptions) (*FailoverReport, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	r := &FailoverReport{Environment: readEnvironment(), Options: f, Notes: []string{
		"nothing is pinned: validators, relays and load generator share the processors",
	}}
	a, err := newArena(ctx, f.arena(), place{})
	defer a.close()
	if err != nil {
		return nil, err
	}
	pair, err := newPair(ctx, a)
	defer pair.close()
	if err != nil {
		return nil, err
	}
	deck, err := a.deck(a.contestants[0].leg, Mixed)
	if err != nil {
		return nil, err
	}
	for _, trouble := range f.troubles() {
		for _, kind := range clientKinds {
			fmt.Fprintf(f.Progress, "One of two validators %s, asked in %s\n", trouble, kind)
			row, err := pair.suffer(ctx, f, deck, trouble, kind)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", trouble, kind, err)
			}
			r.Rows = append(r.Rows, row)
		}
	}
	return r, nil
}

// pair is two validators, each behind a relay.
type pair struct {
	arena  *arena
	relays []*relay
}

// newPair starts the second validator beside the arena's. It must be closed, also after an error.
func newPair(ctx context.Context, a *arena) (*pair, error) {
	p := &pair{arena: a}
	second := &contestant{leg: a.contestants[0].leg}
	second.name = "second"
	if err := a.start(ctx, second); err != nil {
		return p, err
	}
	for _, c := range a.contestants {
		r, err := newRelay(c.address)
		if err != nil {
			return p, err
		}
		p.relays = append(p.relays, r)
	}
	return p, nil
}

func (p *pair) close() {
	for _, r := range p.relays {
		r.close()
	}
}

// suffer lets clients ask while one of the validators is in trouble for a while.
func (p *pair) suffer(ctx context.Context, f FailoverOptions, deck *load.Deck, trouble Trouble, kind string) (row FailoverRow, err error) {
	connection, err := client.Dial([]string{p.relays[0].address(), p.relays[1].address()}, client.DialOptions{})
	if err != nil {
		return row, err
	}
	caller := &streamCaller{connection: connection, client: client.New(connection), deadline: f.Deadline}
	if kind != clientKinds[0] {
		caller.client = client.NewStreaming(connection, client.StreamOptions{})
	}
	defer caller.Close()
	for _, r := range p.relays {
		r.forget()
	}
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := sleep(running, f.Before); err != nil {
			return err
		}
		return p.trouble(running, trouble, f.During)
	})
	var result *load.Result
	group.Go(func() error {
		result = load.Open(running, caller, deck, load.Limits{Time: f.Before + f.During + f.After}, load.NewSchedule(f.Rate, f.Arrivals, f.Seed))
		return nil
	})
	if err := group.Wait(); err != nil {
		return row, err
	}
	if result.Wrong > 0 {
		return row, fmt.Errorf("%w: %d of %d: %v", ErrWrong, result.Wrong, result.Answered, result.Examples)
	}
	return FailoverRow{
		Trouble: trouble, Client: kind, Questions: result.Answered + result.Failed(), Failed: result.Failed(), Errors: result.Errors,
		Quantiles: quantilesOf(result.Latency), Slowest: float64(result.Latency.Max()) / float64(time.Microsecond), LateP99: quantilesOf(result.Late).P99,
	}, nil
}

// busiest returns which validator has been sent more: streams may all go to one, and trouble of the other
// would show nothing.
func (p *pair) busiest() int {
	if p.relays[0].taken() > p.relays[1].taken() {
		return 0
	}
	return 1
}

// trouble gets a validator into trouble, and out of it after a while.
func (p *pair) trouble(ctx context.Context, trouble Trouble, during time.Duration) error {
	n := p.busiest()
	c, r := p.arena.contestants[n], p.relays[n]
	switch trouble {
	case Restarted:
		r.to("")
		c.child.Stop()
		_ = sleep(ctx, during)
		return p.again(ctx, n, "")
	case NotLoaded:
		r.to("")
		c.child.Kill()
		if err := p.again(ctx, n, unreachable); err != nil {
			return err
		}
		_ = sleep(ctx, during)
		r.to("")
		c.child.Kill()
		return p.again(ctx, n, "")
	case Hung:
		if err := c.child.Pause(); err != nil {
			return err
		}
		_ = sleep(ctx, during)
		return c.child.Resume()
	default:
		r.swallow(true)
		_ = sleep(ctx, during)
		r.swallow(false)
		return nil
	}
}

// unreachable is a Redis at a port on which nobody listens: a validator that is given it loads nothing.
const unreachable = "redis://127.0.0.1:1/0"

// again starts a validator anew, over a Redis; the empty one is the arena's.
func (p *pair) again(ctx context.Context, n int, redis string) error {
	c := p.arena.contestants[n]
	if err := ctx.Err(); err != nil {
		return err
	}
	child, state, err := p.arena.newChild(process.Start{Env: c.environment(memoryBytes())}, serve.Config{
		Role: serve.Validator, RedisURL: redis, Authority: p.arena.fleetAddress, FleetKey: p.arena.fleetKey.Reveal(), ID: c.name, Quiet: redis != "",
	})
	if err != nil {
		return err
	}
	c.child, c.address, c.http = child, state.Address, state.HTTP
	p.relays[n].to(c.address)
	if redis != "" {
		return nil
	}
	return awaitServing(ctx, c.address)
}

// sleep returns after a time, or with an error when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
