package bench

import (
	"context"
	"fmt"
	"slices"

	"github.com/countersign/countersign/services/countersign/internal/bench/process"
)

// GrowOptions say what grows, and how far.
type GrowOptions struct {
	Options
	By Axis `json:"by"`
	// Steps are the places on the axis; none is the usual ones.
	Steps []string `json:"steps"`
}

// Growth is what has become of the cost of a decision while something grew.
type Growth struct {
	Environment Environment `json:"environment"`
	Options     GrowOptions `json:"options"`
	Notes       []string    `json:"notes"`
	Steps       []*Step     `json:"steps"`
}

// Step is what there was at one place of the axis.
type Step struct {
	// Value is the place, in words; Number is the number that it is, if it is one.
	Value   string        `json:"value"`
	Number  int           `json:"number"`
	Notes   []string      `json:"notes,omitempty"`
	Summary []StepSummary `json:"summary"`
	// Changes is how many policies were changed meanwhile, and how many a second that was.
	Changes        uint64  `json:"changes"`
	ChangesReached float64 `json:"changesPerSecondReached"`
	Turns          []*Turn `json:"turns"`
}

// StepSummary is what a leg has shown at a step.
type StepSummary struct {
	Summary
	// ToFirst is how the server's CPU time for each call compares with that of the same leg at the first
	// step. Where calls to an empty server are the same at all steps, that is in the same round; else it is
	// by what each is of the tuned empty server's in its own round, and at the first step in the median. It
	// has no rounds at the first step, for the empty servers, and when nothing is there to compare with.
	ToFirst *Ratio `json:"toFirst,omitempty"`
}

// plan returns the steps, and the options of each.
func (g GrowOptions) plan() (steps []int, options []Options, err error) {
	axis, there := axes[g.By]
	if !there {
		return nil, nil, fmt.Errorf("--by: want one of %s", words(Axes))
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
		// As many calls at all steps, so that nothing but the connections differs.
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

// Check says what is wrong with the options, by the names of the flags that have set them.
func (g GrowOptions) Check() error {
	_, _, err := g.plan()
	return err
}

// Grow runs a comparison at each step. It keeps this process to some of the machine's processors, for good.
func Grow(ctx context.Context, g GrowOptions) (*Growth, error) {
	steps, options, err := g.plan()
	if err != nil {
		return nil, err
	}
	p := newPlace(process.CPUs())
	if err := p.take(); err != nil {
		return nil, err
	}
	found := &Growth{Environment: readEnvironment(), Options: g, Notes: []string{p.note()}}
	found.Options.Legs, found.Options.InFlight = options[0].Legs, options[0].InFlight
	if axes[g.By].within {
		err = found.within(ctx, p, steps, options)
	} else {
		err = found.oneByOne(ctx, p, steps, options)
	}
	if err != nil {
		return nil, err
	}
	found.compareWithFirst()
	return found, nil
}

// within takes all steps in one arena.
func (g *Growth) within(ctx context.Context, p place, steps []int, options []Options) error {
	var under []condition
	for i, o := range options {
		c := o.condition()
		c.name = g.Options.By.name(steps[i])
		under = append(under, c)
	}
	f, err := options[0].run(ctx, p, under)
	if err != nil {
		return err
	}
	for i, step := range steps {
		g.add(step, f, i)
	}
	g.Notes = append(g.Notes, f.Notes...)
	return nil
}

// oneByOne takes each step in an arena of its own.
func (g *Growth) oneByOne(ctx context.Context, p place, steps []int, options []Options) error {
	for i, o := range options {
		fmt.Fprintf(o.Progress, "%s: %s\n", axes[g.Options.By].title, g.Options.By.name(steps[i]))
		f, err := o.run(ctx, p, []condition{o.condition()})
		if err != nil {
			return fmt.Errorf("%s %s: %w", g.Options.By.name(steps[i]), axes[g.Options.By].title, err)
		}
		g.add(steps[i], f, 0)
		g.Steps[i].Notes = f.Notes
	}
	return nil
}

// add adds what was found under the i-th condition.
func (g *Growth) add(number int, f *findings, i int) {
	s := &Step{
		Value: g.Options.By.name(number), Number: number,
		Changes: f.Changes, ChangesReached: f.ChangesReached, Turns: f.turns[i],
	}
	for _, one := range f.summaries[i] {
		s.Summary = append(s.Summary, StepSummary{Summary: one})
	}
	g.Steps = append(g.Steps, s)
}

// compareWithFirst fills in what each step is of the first.
func (g *Growth) compareWithFirst() {
	first := g.Steps[0]
	for _, step := range g.Steps[1:] {
		for i := range step.Summary {
			s, before := &step.Summary[i], first.Summary[i]
			own := of(s.Leg, step.Turns)
			switch {
			case classOf(s.Leg) == reference:
			case g.Options.By == ByReasons:
				s.ToFirst = ratioBy(own, of(s.Leg, first.Turns), cpu)
			case s.ToTuned != nil && before.ToTuned != nil && before.ToTuned.Median > 0:
				by := before.ToTuned.Median
				s.ToFirst = &Ratio{s.ToTuned.Q1 / by, s.ToTuned.Median / by, s.ToTuned.Q3 / by}
			}
		}
	}
}
