// Package flood measures how a flood of unknown tokens, and an overload, change what other callers get from a
// validator.
//
// This package is not part of the public API and may change in any release.
package flood

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/benchmark/internal/serve"
	"github.com/countersign/countersign/services/benchmark/internal/testbed"
	"github.com/countersign/countersign/services/internal/load"
)

// Report is what callers with valid tokens got from a validator, with and without a flood of unknown tokens.
type Report struct {
	Environment report.Environment `json:"environment"`
	Options     Options            `json:"options"`
	Notes       []string           `json:"notes"`
	// Calm is without the flood, Flooded with it.
	Calm    FlowSummary `json:"calm"`
	Flooded FlowSummary `json:"flooded"`
	// P50Ratio and P99Ratio divide the callers' latency with the flood by their latency without it in the
	// same round.
	P50Ratio report.Ratio `json:"p50Ratio"`
	P99Ratio report.Ratio `json:"p99Ratio"`
	// Flood is the number of the flood's calls that were answered.
	Flood    uint64    `json:"floodCalls"`
	Overload *Overload `json:"overload"`
	Rounds   []Round   `json:"rounds"`
}

// Round is the result of one round.
type Round struct {
	Calm    Flow `json:"calm"`
	Flooded Flow `json:"flooded"`
}

// Flow is what callers with valid tokens got in one measurement, and what the validator needed for it.
type Flow struct {
	Calls uint64 `json:"calls"`
	load.Quantiles
	LateP99 float64 `json:"lateP99Micros"`
	// Utilisation is the part of one processor that the validator used.
	Utilisation float64 `json:"serverUtilisation"`
	// RedisPerSecond is the number of commands a second that Redis ran for all clients, commands in scripts
	// included. Redis has the same by command. Both are empty without a Redis that counts commands (INFO
	// commandstats).
	RedisPerSecond float64            `json:"redisCommandsPerSecond"`
	Redis          map[string]float64 `json:"redisCommandsPerSecondByCommand,omitempty"`
	// HeapBytes is the size of the validator's heap right after the measurement, without garbage, while the
	// flood still goes on. SystemBytes is the memory that it has from the system.
	HeapBytes   uint64 `json:"heapBytes"`
	SystemBytes uint64 `json:"systemBytes"`
	// Flood is the number of the flood's calls that were answered.
	Flood uint64 `json:"floodCalls"`
}

// lead is the time by which a flood begins before the measured calls, and ends after them.
const lead = 300 * time.Millisecond

// flooder measures one validator of a testbed.
type flooder struct {
	Options
	bed       *testbed.Testbed
	validator *testbed.Server
}

// Run runs the measurement. It pins this process to some of the machine's processors, until the process ends.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	p := testbed.Divide()
	if err := p.Pin(); err != nil {
		return nil, err
	}
	r := &Report{Environment: report.ReadEnvironment(), Options: o, Notes: []string{p.Note()}}
	bed, err := testbed.New(ctx, o.testbed(), p)
	if err != nil {
		return nil, err
	}
	defer bed.Close()
	if bed.Embedded() {
		r.Notes = append(r.Notes, "there is no redis-server on the PATH: "+
			"the validator follows the embedded store, which does not count commands")
	}
	f := flooder{o, bed, bed.Servers()[0]}
	random := rand.New(rand.NewPCG(o.Seed, 2))
	for n := 1; n <= o.Rounds; n++ {
		fmt.Fprintf(o.Progress, "Round %d of %d\n", n, o.Rounds)
		round, err := f.round(ctx, n, random.IntN(2) == 1)
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", n, err)
		}
		r.Rounds = append(r.Rounds, round)
	}
	r.summarise()
	r.Overload, err = f.overload(ctx)
	return r, err
}

func (f *flooder) round(ctx context.Context, n int, floodFirst bool) (round Round, err error) {
	for _, flooded := range []bool{floodFirst, !floodFirst} {
		flow, err := f.flow(ctx, n, flooded)
		if err != nil {
			return round, err
		}
		if flooded {
			round.Flooded = flow
		} else {
			round.Calm = flow
		}
	}
	return round, nil
}

// flow measures callers once, with a flood or without.
func (f *flooder) flow(ctx context.Context, round int, flooded bool) (flow Flow, err error) {
	callers, err := f.validator.Connect(ctx, f.Connections)
	if err != nil {
		return flow, err
	}
	defer callers.Close()
	valid, err := f.bed.Deck(f.validator, testbed.Valid)
	if err != nil {
		return flow, err
	}
	if f.WarmUp > 0 {
		if err := testbed.Judge(ctx, load.Closed(ctx, callers, valid, load.Limits{Time: f.WarmUp}, f.Connections)); err != nil {
			return flow, err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	var flood uint64
	if flooded {
		group.Go(func() (err error) {
			flood, err = f.flood(ctx, round)
			return err
		})
	}
	group.Go(func() (err error) {
		if flooded {
			time.Sleep(lead)
		}
		flow, err = f.callers(ctx, round, callers, valid)
		return err
	})
	if err := group.Wait(); err != nil {
		return Flow{}, err
	}
	flow.Flood = flood
	return flow, nil
}

// flood floods the validator from before the measured calls until after them. It returns the number of
// answers.
func (f *flooder) flood(ctx context.Context, round int) (calls uint64, err error) {
	deck, err := f.bed.Deck(f.validator, testbed.Unknown)
	if err != nil {
		return 0, err
	}
	caller, err := f.validator.Connect(ctx, f.Connections)
	if err != nil {
		return 0, err
	}
	defer caller.Close()
	schedule := load.NewSchedule(f.Rate*f.Times, f.Arrivals, f.Seed+uint64(f.Rounds+round))
	r := load.Open(ctx, caller, deck, load.Limits{Time: f.Time + 2*lead}, schedule)
	if err := testbed.Judge(ctx, r); err != nil {
		return 0, fmt.Errorf("the flood: %w", err)
	}
	return r.Answered, nil
}

// callers measures callers. Both measurements of a round have the same schedule.
func (f *flooder) callers(ctx context.Context, round int, by load.Caller, valid *load.Deck) (flow Flow, err error) {
	commands, err := f.redisCommands(ctx)
	if err != nil {
		return flow, err
	}
	began := time.Now()
	used, _ := f.validator.CPU()
	schedule := load.NewSchedule(f.Rate, f.Arrivals, f.Seed+uint64(round))
	r := load.Open(ctx, by, valid, load.Limits{Time: f.Time}, schedule)
	usedEnd, _ := f.validator.CPU()
	if err := testbed.Judge(ctx, r); err != nil {
		return flow, err
	}
	commandsEnd, err := f.redisCommands(ctx)
	if err != nil {
		return flow, err
	}
	took := time.Since(began)
	state, err := f.validator.Ask(serve.Command{Collect: true})
	flow = Flow{
		Calls: r.Answered, Quantiles: load.QuantilesOf(r.Latency), LateP99: load.QuantilesOf(r.Late).P99,
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
