// Package failover measures what callers get from two validators while one of them is in trouble.
//
// This package is not part of the public API and may change in any release.
package failover

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/benchmark/internal/testbed"
	"github.com/countersign/countersign/services/internal/load"
)

// Report is what callers got from two validators.
type Report struct {
	Environment report.Environment `json:"environment"`
	Options     Options            `json:"options"`
	Notes       []string           `json:"notes"`
	Rows        []Row              `json:"rows"`
}

// Row is one trouble with one kind of client. All figures are over the time before, during and after the
// trouble.
type Row struct {
	Trouble Trouble `json:"trouble"`
	// Client is calls or streams.
	Client string `json:"client"`
	// Questions is the number of questions. Failed of them had no answer within their deadline, for the
	// reasons in Errors.
	Questions uint64            `json:"questions"`
	Failed    uint64            `json:"failed"`
	Errors    map[string]uint64 `json:"errors"`
	// Quantiles and Slowest are times from when a question was due to its answer.
	load.Quantiles
	Slowest float64 `json:"slowestMicros"`
	// LateP99 is how late the load generator sent questions.
	LateP99 float64 `json:"lateP99Micros"`
}

// The kinds of clients.
const (
	calls   = "calls"
	streams = "streams"
)

// Run runs the measurement.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	r := &Report{Environment: report.ReadEnvironment(), Options: o, Notes: []string{
		"nothing is pinned: validators, relays and load generator share the processors",
	}}
	bed, err := testbed.New(ctx, o.testbed(), testbed.Processors{})
	if err != nil {
		return nil, err
	}
	defer bed.Close()
	p, err := newPair(ctx, bed)
	defer p.close()
	if err != nil {
		return nil, err
	}
	deck, err := bed.Deck(bed.Servers()[0], testbed.Mixed)
	if err != nil {
		return nil, err
	}
	for _, trouble := range o.troubles() {
		for _, kind := range []string{calls, streams} {
			fmt.Fprintf(o.Progress, "One of two validators %s, asked in %s\n", trouble, kind)
			row, err := p.measure(ctx, o, deck, trouble, kind)
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
	bed    *testbed.Testbed
	relays []*relay
}

// newPair starts the second validator of a testbed that has one. The pair must be closed, also after an
// error.
func newPair(ctx context.Context, bed *testbed.Testbed) (*pair, error) {
	p := &pair{bed: bed}
	if err := bed.StartAnother(ctx, bed.Servers()[0], "second"); err != nil {
		return p, err
	}
	for _, s := range bed.Servers() {
		r, err := newRelay(s.Address())
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

// measure asks both validators, one of which gets into trouble for a while.
func (p *pair) measure(ctx context.Context, o Options, deck *load.Deck, trouble Trouble, kind string) (row Row, err error) {
	connection, err := client.Dial([]string{p.relays[0].address(), p.relays[1].address()}, client.DialOptions{})
	if err != nil {
		return row, err
	}
	asked := client.New(connection)
	if kind == streams {
		asked = client.NewStreaming(connection, client.StreamOptions{})
	}
	caller := testbed.NewClientCaller(asked, connection, o.Deadline)
	defer caller.Close()
	for _, r := range p.relays {
		r.resetCount()
	}
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := sleep(running, o.Before); err != nil {
			return err
		}
		return p.trouble(running, trouble, o.During)
	})
	var result *load.Result
	group.Go(func() error {
		limits := load.Limits{Time: o.Before + o.During + o.After}
		result = load.Open(running, caller, deck, limits, load.NewSchedule(o.Rate, o.Arrivals, o.Seed))
		return nil
	})
	if err := group.Wait(); err != nil {
		return row, err
	}
	if err := result.WrongError(); err != nil {
		return row, err
	}
	return Row{
		Trouble: trouble, Client: kind,
		Questions: result.Answered + result.Failed(), Failed: result.Failed(), Errors: result.Errors,
		Quantiles: load.QuantilesOf(result.Latency), Slowest: float64(result.Latency.Max()) / float64(time.Microsecond),
		LateP99: load.QuantilesOf(result.Late).P99,
	}, nil
}

// busiest returns the index of the validator that got more bytes. All streams may be at one validator, and
// the trouble of the other would show nothing.
func (p *pair) busiest() int {
	if p.relays[0].count() > p.relays[1].count() {
		return 0
	}
	return 1
}

// trouble gets a validator into trouble, and out of it after a while.
func (p *pair) trouble(ctx context.Context, trouble Trouble, during time.Duration) error {
	n := p.busiest()
	s, r := p.bed.Servers()[n], p.relays[n]
	switch trouble {
	case Restarted:
		r.setTarget("")
		s.Stop()
		_ = sleep(ctx, during)
		return p.restart(ctx, n)
	case NotLoaded:
		r.setTarget("")
		s.Kill()
		if err := p.bed.RestartWithoutStore(ctx, s); err != nil {
			return err
		}
		r.setTarget(s.Address())
		_ = sleep(ctx, during)
		r.setTarget("")
		s.Kill()
		return p.restart(ctx, n)
	case Hung:
		if err := s.Pause(); err != nil {
			return err
		}
		_ = sleep(ctx, during)
		return s.Resume()
	default:
		r.drop(true)
		_ = sleep(ctx, during)
		r.drop(false)
		return nil
	}
}

// restart starts a validator that was ended, and leads its relay there as soon as it listens.
func (p *pair) restart(ctx context.Context, n int) error {
	s := p.bed.Servers()[n]
	return p.bed.Restart(ctx, s, func() { p.relays[n].setTarget(s.Address()) })
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
