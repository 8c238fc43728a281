package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/services/countersign/internal/bench/process"
	"github.com/countersign/countersign/services/countersign/internal/bench/serve"
	"github.com/countersign/countersign/services/internal/load"
)

// FloodReport is what callers with valid tokens had of a validator, with and without a flood of unknown ones.
type FloodReport struct {
	Environment Environment  `json:"environment"`
	Options     FloodOptions `json:"options"`
	Notes       []string     `json:"notes"`
	// Calm is without the flood, Flooded with it.
	Calm    FlowSummary `json:"calm"`
	Flooded FlowSummary `json:"flooded"`
	// P50Ratio and P99Ratio are those of callers with the flood to those without it, in the same round.
	P50Ratio Ratio `json:"p50Ratio"`
	P99Ratio Ratio `json:"p99Ratio"`
	// Flood is how many calls of the flood were answered in all.
	Flood    uint64       `json:"floodCalls"`
	Overload *Overload    `json:"overload"`
	Rounds   []FloodRound `json:"rounds"`
}

// FloodRound is one round.
type FloodRound struct {
	Calm    Flow `json:"calm"`
	Flooded Flow `json:"flooded"`
}

// Flow is what callers with valid tokens had, and what the validator needed.
type Flow struct {
	Calls uint64 `json:"calls"`
	Quantiles
	LateP99 float64 `json:"lateP99Micros"`
	// Utilisation is what part of one processor the validator has used.
	Utilisation float64 `json:"serverUtilisation"`
	// RedisPerSecond is how many commands Redis has run a second, for whomever, and Redis the same by
	// command (INFO commandstats, which counts those of scripts, too); nothing when there is no Redis that
	// says so.
	RedisPerSecond float64            `json:"redisCommandsPerSecond"`
	Redis          map[string]float64 `json:"redisCommandsPerSecondByCommand,omitempty"`
	// HeapBytes is what the validator held on its heap right after, without garbage and with the flood
	// still going on; SystemBytes what it had of the system.
	HeapBytes   uint64 `json:"heapBytes"`
	SystemBytes uint64 `json:"systemBytes"`
	// Flood is how many calls of the flood were answered.
	Flood uint64 `json:"floodCalls"`
}

// lead is how much earlier than the callers a flood begins, and how much later it ends.
const lead = 300 * time.Millisecond

// Flood runs the measurement. It keeps this process to some of the machine's processors, for good.
func Flood(ctx context.Context, f FloodOptions) (*FloodReport, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	p := newPlace(process.CPUs())
	if err := p.take(); err != nil {
		return nil, err
	}
	r := &FloodReport{Environment: readEnvironment(), Options: f, Notes: []string{p.note()}}
	a, err := newArena(ctx, f.arena(), p)
	defer a.close()
	if err != nil {
		return nil, err
	}
	if a.embedded != nil {
		r.Notes = append(r.Notes, "there is no redis-server on the PATH: the validator follows the embedded store, which does not count commands")
	}
	random := rand.New(rand.NewPCG(f.Seed, 2))
	for n := 1; n <= f.Rounds; n++ {
		fmt.Fprintf(f.Progress, "Round %d of %d\n", n, f.Rounds)
		var round FloodRound
		floodFirst := random.IntN(2) == 1
		for _, flooded := range []bool{floodFirst, !floodFirst} {
			flow, err := a.flow(ctx, f, n, flooded)
			if err != nil {
				return nil, fmt.Errorf("round %d: %w", n, err)
			}
			if flooded {
				round.Flooded = flow
			} else {
				round.Calm = flow
			}
		}
		r.Rounds = append(r.Rounds, round)
	}
	r.summarise()
	r.Overload, err = a.overload(ctx, f)
	return r, err
}

// flow measures callers once, with a flood or without.
func (a *arena) flow(ctx context.Context, f FloodOptions, round int, flooded bool) (flow Flow, err error) {
	c := a.contestants[0]
	callers, err := c.connect(ctx, c.address, f.Connections)
	if err != nil {
		return flow, err
	}
	defer callers.Close()
	valid, err := a.deck(c.leg, Valid)
	if err != nil {
		return flow, err
	}
	if f.WarmUp > 0 {
		if err := judge(ctx, load.Closed(ctx, callers, valid, load.Limits{Time: f.WarmUp}, f.Connections)); err != nil {
			return flow, err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	var measured Flow
	if flooded {
		group.Go(func() (err error) {
			flow.Flood, err = a.flood(ctx, f, round)
			return err
		})
	}
	group.Go(func() (err error) {
		if flooded {
			time.Sleep(lead) // the flood is to be there
		}
		measured, err = a.callers(ctx, f, round, callers, valid)
		return err
	})
	if err := group.Wait(); err != nil {
		return flow, err
	}
	measured.Flood = flow.Flood
	return measured, nil
}

// flood floods the validator for as long as callers are measured, and somewhat longer.
func (a *arena) flood(ctx context.Context, f FloodOptions, round int) (calls uint64, err error) {
	c := a.contestants[0]
	deck, err := a.deck(c.leg, Unknown)
	if err != nil {
		return 0, err
	}
	caller, err := c.connect(ctx, c.address, f.Connections)
	if err != nil {
		return 0, err
	}
	defer caller.Close()
	schedule := load.NewSchedule(f.Rate*f.Times, f.Arrivals, f.Seed+uint64(f.Rounds+round))
	r := load.Open(ctx, caller, deck, load.Limits{Time: f.Time + 2*lead}, schedule)
	if err := judge(ctx, r); err != nil {
		return 0, fmt.Errorf("the flood: %w", err)
	}
	return r.Answered, nil
}

// callers measures callers, with the same schedule whether or not there is a flood in the round.
func (a *arena) callers(ctx context.Context, f FloodOptions, round int, by load.Caller, valid *load.Deck) (flow Flow, err error) {
	c := a.contestants[0]
	commands, err := a.redisCommands(ctx)
	if err != nil {
		return flow, err
	}
	began := time.Now()
	used, _ := c.child.CPU()
	r := load.Open(ctx, by, valid, load.Limits{Time: f.Time}, load.NewSchedule(f.Rate, f.Arrivals, f.Seed+uint64(round)))
	usedEnd, _ := c.child.CPU()
	if err := judge(ctx, r); err != nil {
		return flow, err
	}
	commandsEnd, err := a.redisCommands(ctx)
	if err != nil {
		return flow, err
	}
	took := time.Since(began)
	state, err := c.ask(serve.Command{Collect: true})
	flow = Flow{
		Calls: r.Answered, Quantiles: quantilesOf(r.Latency), LateP99: quantilesOf(r.Late).P99,
		Utilisation: float64(usedEnd-used) / float64(r.Elapsed),
		HeapBytes:   state.HeapBytes, SystemBytes: state.SystemBytes,
	}
	for command, n := range commandsEnd {
		if n -= commands[command]; n > 0 {
			if flow.Redis == nil {
				flow.Redis = map[string]float64{}
			}
			flow.Redis[command] = float64(n) / took.Seconds()
			flow.RedisPerSecond += flow.Redis[command]
		}
	}
	return flow, err
}

// redisCommands returns how many commands Redis has run so far, by their names; nothing when there is none
// that says so.
func (a *arena) redisCommands(ctx context.Context) (map[string]uint64, error) {
	if a.redis == nil {
		return nil, nil
	}
	client, err := redisfeed.Open(a.url, redisfeed.Options{})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	info, err := client.Info(ctx, "commandstats").Result()
	if err != nil {
		return nil, err
	}
	return commandCalls(info)
}
