// Package grow measures how the cost of a decision changes while something grows, such as the number of
// tokens. This package is not part of the public API and may change in any release.
package grow

import (
	"context"
	"fmt"
	"slices"

	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/benchmark/internal/testbed"
)

// Options say what grows, and how far.
type Options struct {
	testbed.Options
	By Axis `json:"by"`
	// Steps are the steps on the axis. Without steps the axis's default steps are taken.
	Steps []string `json:"steps"`
}

// Report is the result of all steps.
type Report struct {
	Environment report.Environment `json:"environment"`
	Options     Options            `json:"options"`
	Notes       []string           `json:"notes"`
	Steps       []*Step            `json:"steps"`
}

// Step is the result of one step.
type Step struct {
	// Value is the step in words. Number is the step as a number; for ByReasons it is an index of
	// testbed.Mixes.
	Value   string    `json:"value"`
	Number  int       `json:"number"`
	Notes   []string  `json:"notes,omitempty"`
	Summary []Summary `json:"summary"`
	// Changes is the number of policies that were changed during the step, ChangesReached the same per
	// second.
	Changes        uint64         `json:"changes"`
	ChangesReached float64        `json:"changesPerSecondReached"`
	Turns          []*report.Turn `json:"turns"`
}

// Summary is the result of a leg at a step.
type Summary struct {
	report.Summary
	// ToFirst divides the server's CPU time for each call by the same leg's CPU time at the first step.
	//
	// For ByReasons, both times are of the same round. On the other axes, both are first divided by the CPU
	// time of the tuned empty server in their round, and the divisor is the median of the first step. ToFirst
	// is nil at the first step, for the empty servers, and when there is nothing to divide by.
	ToFirst *report.Ratio `json:"toFirst,omitempty"`
}

// plan returns the steps, and the options of each step.
func (g Options) plan() (steps []int, options []testbed.Options, err error) {
	axis, known := axes[g.By]
	if !known {
		return nil, nil, fmt.Errorf("--by: want one of %s", report.List(Axes))
	}
	steps = axis.steps
	if len(g.Steps) > 0 {
		steps = nil
	}
	for _, text := range g.Steps {
		step, err := g.By.parse(text)
		if err != nil {
			return nil, nil, fmt.Errorf("--steps: %w", err)
		}
		steps = append(steps, step)
	}
	if len(g.Legs) == 0 {
		g.Legs = axis.legs
	}
	if g.By == ByConnections {
		// The same number of calls in flight at all steps, so that only the connections differ.
		g.InFlight = max(g.InFlight, slices.Max(steps))
	}
	for _, step := range steps {
		o := g.Options
		axis.apply(&o, step)
		if err := o.Check(); err != nil {
			return nil, nil, fmt.Errorf("--steps: %s: %w", g.By.name(step), err)
		}
		options = append(options, o)
	}
	return steps, options, nil
}

// Check returns an error that names the flag of the first wrong option.
func (g Options) Check() error {
	_, _, err := g.plan()
	return err
}

// Run runs a comparison at each step. It pins this process to some of the machine's processors, until the
// process ends.
func Run(ctx context.Context, g Options) (*Report, error) {
	steps, options, err := g.plan()
	if err != nil {
		return nil, err
	}
	p := testbed.Divide()
	if err := p.Pin(); err != nil {
		return nil, err
	}
	r := &Report{Environment: report.ReadEnvironment(), Options: g, Notes: []string{p.Note()}}
	r.Options.Legs, r.Options.InFlight = options[0].Legs, options[0].InFlight
	if axes[g.By].within {
		err = r.within(ctx, p, steps, options)
	} else {
		err = r.oneByOne(ctx, p, steps, options)
	}
	if err != nil {
		return nil, err
	}
	r.compareWithFirst()
	return r, nil
}

// within measures all steps in one testbed.
func (r *Report) within(ctx context.Context, p testbed.Processors, steps []int, options []testbed.Options) error {
	var conditions []testbed.Condition
	for i, o := range options {
		c := o.Condition()
		c.Name = r.Options.By.name(steps[i])
		conditions = append(conditions, c)
	}
	f, err := testbed.Run(ctx, options[0], p, conditions)
	if err != nil {
		return err
	}
	for i, step := range steps {
		r.add(step, f, i)
	}
	r.Notes = append(r.Notes, f.Notes...)
	return nil
}

// oneByOne measures each step in a testbed of its own.
func (r *Report) oneByOne(ctx context.Context, p testbed.Processors, steps []int, options []testbed.Options) error {
	by := r.Options.By
	for i, o := range options {
		fmt.Fprintf(o.Progress, "%s: %s\n", axes[by].title, by.name(steps[i]))
		f, err := testbed.Run(ctx, o, p, []testbed.Condition{o.Condition()})
		if err != nil {
			return fmt.Errorf("%s %s: %w", by.name(steps[i]), axes[by].title, err)
		}
		r.add(steps[i], f, 0)
		r.Steps[i].Notes = f.Notes
	}
	return nil
}

// add adds a step from the findings under the i-th condition.
func (r *Report) add(number int, f *testbed.Findings, i int) {
	s := &Step{
		Value: r.Options.By.name(number), Number: number,
		Changes: f.Changes, ChangesReached: f.ChangesReached, Turns: f.Turns[i],
	}
	for _, one := range f.Summaries[i] {
		s.Summary = append(s.Summary, Summary{Summary: one})
	}
	r.Steps = append(r.Steps, s)
}

// compareWithFirst fills in ToFirst.
func (r *Report) compareWithFirst() {
	first := r.Steps[0]
	for _, step := range r.Steps[1:] {
		for i := range step.Summary {
			s, before := &step.Summary[i], first.Summary[i]
			switch {
			case report.ClassOf(s.Leg) == report.Reference:
			case r.Options.By == ByReasons:
				s.ToFirst = report.RatioBy(report.Of(s.Leg, step.Turns), report.Of(s.Leg, first.Turns), report.CPU)
			case s.ToTuned != nil && before.ToTuned != nil && before.ToTuned.Median > 0:
				by := before.ToTuned.Median
				s.ToFirst = &report.Ratio{Q1: s.ToTuned.Q1 / by, Median: s.ToTuned.Median / by, Q3: s.ToTuned.Q3 / by}
			}
		}
	}
}

// leg returns the summary of a leg at a step; nil when the leg was not measured.
func (s *Step) leg(name string) *Summary {
	i := slices.IndexFunc(s.Summary, func(one Summary) bool { return one.Leg == name })
	if i < 0 {
		return nil
	}
	return &s.Summary[i]
}
