package bench

import (
	"context"
	"fmt"
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
	p := newPlace(process.CPUs())
	if err := p.take(); err != nil {
		return nil, err
	}
	found, err := o.run(ctx, p, []condition{o.condition()})
	if err != nil {
		return nil, err
	}
	return &Report{
		Environment: readEnvironment(), Options: o, Notes: append([]string{p.note()}, found.Notes...),
		Summary: found.summaries[0], Changes: found.Changes, ChangesReached: found.ChangesReached, Turns: found.turns[0],
	}, nil
}

// findings are what one arena has shown, under one condition or more.
type findings struct {
	Notes          []string
	Changes        uint64
	ChangesReached float64
	// turns and summaries are by condition.
	turns     [][]*Turn
	summaries [][]Summary
}

// run starts what competes, lets it compete, and ends it.
func (o Options) run(ctx context.Context, p place, under []condition) (*findings, error) {
	f := &findings{}
	a, err := newArena(ctx, o, p)
	defer a.close()
	if err != nil {
		return nil, err
	}
	if o.ResyncEvery > 0 {
		f.note("while a validator has its turn it loads everything anew, again and again: it is cut off from Redis, every partition is changed, the log is trimmed, and it is let in again; the other servers have nothing of that while they have theirs")
	}
	if a.embedded != nil {
		f.note("there is no redis-server on the PATH: the validator follows the embedded store, and asking Redis per request is left out")
	}
	if len(a.contestants) == 0 {
		return nil, fmt.Errorf("--legs: nothing is left to compare without a Redis")
	}
	changed, err := a.changes()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if f.turns, err = a.rounds(ctx, under); err != nil {
		return nil, err
	}
	took := time.Since(began)
	now, err := a.changes()
	if err != nil {
		return nil, err
	}
	f.Changes = now.Changes - changed.Changes
	f.ChangesReached = float64(f.Changes) / took.Seconds()
	if failed := now.Failed - changed.Failed; failed > 0 {
		f.note("%d changes of policies failed", failed)
	}
	if f.ChangesReached < o.ChangesPerSecond*nearly {
		f.note("only %.0f of %s policies a second could be changed, with what the servers left of the machine", f.ChangesReached, number(o.ChangesPerSecond))
	}
	return f, f.summarise(a)
}

// summarise puts the turns together.
func (f *findings) summarise(a *arena) error {
	f.summaries = make([][]Summary, len(f.turns))
	for _, c := range a.contestants {
		left, err := c.ask(serve.Command{Collect: true})
		if err != nil {
			return err
		}
		for i, turns := range f.turns {
			s := summarise(c.leg, turns)
			s.HeapBytes = left.HeapBytes
			f.summaries[i] = append(f.summaries[i], s)
			if s.ResyncShare != nil && s.ResyncShare.Median < leastShare {
				f.note("the validator has hardly loaded anything anew, for %s of its turns: more tokens, or longer turns, would show more",
					percent(s.ResyncShare.Median))
			}
		}
	}
	return nil
}

func (f *findings) note(format string, args ...any) {
	f.Notes = append(f.Notes, fmt.Sprintf(format, args...))
}

// nearly is how much of the changes that were asked for must be made without a note.
const nearly = 0.95

// changes asks the writer what it has done so far: nothing when there is none.
func (a *arena) changes() (s serve.State, err error) {
	if a.writer != nil {
		err = a.writer.Ask(serve.Command{}, &s)
	}
	return s, err
}
