package testbed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/benchmark/internal/serve"
)

// Findings are the results of one testbed.
type Findings struct {
	// Notes explain what readers may not expect, such as a missing Redis.
	Notes []string
	// Changes is the number of policies that were changed during the rounds. ChangesReached is the number of
	// them per second.
	Changes        uint64
	ChangesReached float64
	// Turns and Summaries have one element for each condition, in the order of the conditions.
	Turns     [][]*report.Turn
	Summaries [][]report.Summary
}

const (
	// If fewer than this part of the wanted changes a second were made, Run adds a note.
	reached = 0.95
	// If a validator spent less than this part of its turns on resyncs, Run adds a note.
	leastShare = 0.25
)

// Run starts a testbed, compares the servers under each condition, and closes the testbed.
func Run(ctx context.Context, o Options, p Processors, conditions []Condition) (*Findings, error) {
	f := &Findings{}
	t, err := New(ctx, o, p)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	if o.ResyncEvery > 0 {
		f.note("during its turns, a validator loads the whole store again and again: it is cut off from Redis, " +
			"every partition is changed, the log is trimmed, and it is let in again; " +
			"the other servers have no such load during their turns")
	}
	if t.embedded != nil {
		f.note("there is no redis-server on the PATH: the validator follows the embedded store, " +
			"and asking Redis per request is left out")
	}
	if len(t.servers) == 0 {
		return nil, errors.New("--legs: nothing is left to compare without a Redis")
	}
	before, err := t.changes()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if f.Turns, err = t.rounds(ctx, conditions); err != nil {
		return nil, err
	}
	took := time.Since(began)
	after, err := t.changes()
	if err != nil {
		return nil, err
	}
	f.Changes = after.Changes - before.Changes
	f.ChangesReached = float64(f.Changes) / took.Seconds()
	if failed := after.Failed - before.Failed; failed > 0 {
		f.note("%d changes of policies failed", failed)
	}
	if f.ChangesReached < o.ChangesPerSecond*reached {
		f.note("only %.0f of %s policies a second could be changed on the processors that the servers left free",
			f.ChangesReached, report.Number(o.ChangesPerSecond))
	}
	return f, f.summarise(t)
}

// summarise adds a summary for each condition and server.
func (f *Findings) summarise(t *Testbed) error {
	f.Summaries = make([][]report.Summary, len(f.Turns))
	for _, server := range t.servers {
		state, err := server.Ask(serve.Command{Collect: true})
		if err != nil {
			return err
		}
		for i, turns := range f.Turns {
			s := report.Summarise(server.Leg, turns)
			s.HeapBytes = state.HeapBytes
			f.Summaries[i] = append(f.Summaries[i], s)
			if s.ResyncShare != nil && s.ResyncShare.Median < leastShare {
				f.note("the validator spent only %s of its turns on resyncs: more tokens, or longer turns, would show more",
					report.Percent(s.ResyncShare.Median))
			}
		}
	}
	return nil
}

func (f *Findings) note(format string, args ...any) {
	f.Notes = append(f.Notes, fmt.Sprintf(format, args...))
}

// changes returns the state of the writer, with its counts of changes. Without a writer it returns the zero
// state.
func (t *Testbed) changes() (s serve.State, err error) {
	if t.writer != nil {
		err = t.writer.Ask(serve.Command{}, &s)
	}
	return s, err
}
