package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/countersign/countersign/services/countersign/internal/bench/process"
	"github.com/countersign/countersign/services/countersign/internal/bench/serve"
)

// Report is what a comparison has shown.
type Report struct {
	Environment Environment `json:"environment"`
	Options     Options     `json:"options"`
	// Notes say what was done otherwise than one might think, such as that there was no Redis.
	Notes   []string  `json:"notes"`
	Summary []Summary `json:"summary"`
	// Changes is how many policies were changed meanwhile, and how many a second that was.
	Changes        uint64  `json:"changes"`
	ChangesReached float64 `json:"changesPerSecondReached"`
	Turns          []*Turn `json:"turns"`
}

// Compare runs a comparison. It keeps this process to some of the machine's processors, for good.
func Compare(ctx context.Context, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	r := &Report{Environment: readEnvironment(), Options: o}
	p := newPlace(process.CPUs())
	if p.pinned() {
		r.note("each server runs on CPU %v alone, the load generator and Redis on CPUs %v", p.servers, p.others)
	} else {
		r.note("nothing is pinned, since this machine has one processor or its system does not let processes choose: servers and load generator are in each other's way")
	}
	if err := p.take(); err != nil {
		return nil, err
	}
	a, err := newArena(ctx, o, p)
	defer a.close()
	if err != nil {
		return nil, err
	}
	if a.embedded != nil {
		r.note("there is no redis-server on the PATH: the validator follows the embedded store, and asking Redis per request is left out")
	}
	if len(a.contestants) == 0 {
		return nil, fmt.Errorf("--legs: nothing is left to compare without a Redis")
	}
	changed, err := a.changes()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if r.Turns, err = a.rounds(ctx); err != nil {
		return nil, err
	}
	took := time.Since(began)
	now, err := a.changes()
	if err != nil {
		return nil, err
	}
	r.Changes = now.Changes - changed.Changes
	r.ChangesReached = float64(r.Changes) / took.Seconds()
	if failed := now.Failed - changed.Failed; failed > 0 {
		r.note("%d changes of policies failed", failed)
	}
	if r.ChangesReached < o.ChangesPerSecond*nearly {
		r.note("only %.0f of %s policies a second could be changed, with what the servers left of the machine", r.ChangesReached, number(o.ChangesPerSecond))
	}
	for _, c := range a.contestants {
		r.Summary = append(r.Summary, summarise(c.leg, r.Turns))
	}
	return r, nil
}

// nearly is how much of the changes that were asked for must be made without a note.
const nearly = 0.95

// changes asks the writer what it has done so far: nothing when there is none.
func (a *arena) changes() (s serve.State, err error) {
	if a.writer != nil {
		err = a.writer.Ask(struct{}{}, &s)
	}
	return s, err
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// rounds lets every contestant have its turn in every round, each time in another order, so that none always comes after
// the same one.
func (a *arena) rounds(ctx context.Context) (turns []*Turn, err error) {
	random := rand.New(rand.NewPCG(a.options.Seed, 2))
	for round := 1; round <= a.options.Rounds; round++ {
		fmt.Fprintf(a.options.Progress, "Round %d of %d\n", round, a.options.Rounds)
		for _, i := range random.Perm(len(a.contestants)) {
			c := a.contestants[i]
			t, err := a.turn(ctx, round, c)
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", c.title, round, err)
			}
			turns = append(turns, t)
		}
	}
	return turns, nil
}
