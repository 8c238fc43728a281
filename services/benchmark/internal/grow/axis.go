package grow

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/benchmark/internal/testbed"
)

// Axis is a flag that says what grows.
type Axis string

// The axes.
const (
	ByTokens      Axis = "tokens"
	ByConnections Axis = "connections"
	ByChanges     Axis = "changes"
	ByValidators  Axis = "validators"
	ByReasons     Axis = "reasons"
)

// Axes are all axes.
var Axes = []Axis{ByTokens, ByConnections, ByChanges, ByValidators, ByReasons}

// Type returns the type's name for help texts.
func (*Axis) Type() string { return "word" }

// String returns the axis's word.
func (a *Axis) String() string { return string(*a) }

// Set parses the word of an axis.
func (a *Axis) Set(text string) error {
	if !slices.Contains(Axes, Axis(text)) {
		return fmt.Errorf("want one of %s", report.List(Axes))
	}
	*a = Axis(text)
	return nil
}

// growth describes an axis.
type growth struct {
	// title names what grows.
	title string
	// steps are the default steps. For ByReasons they are indices of testbed.Mixes.
	steps []int
	// legs are the legs whose cost may depend on the axis.
	legs []string
	// within tells that all steps are conditions of one testbed. They take turns, so they compare round by
	// round.
	within bool
	// apply sets options to a step.
	apply func(*testbed.Options, int)
}

var axes = map[Axis]growth{
	ByTokens: {
		title: "tokens of the store",
		steps: []int{1000, 10_000, 100_000, 1_000_000, 10_000_000},
		legs:  []string{report.TunedEmpty.Name, report.Validator.Name, report.Stream.Name},
		apply: func(o *testbed.Options, n int) { o.Tokens = n },
	},
	// The client decides the number of connections for its streams, so the stream leg is left out.
	ByConnections: {
		title:  "connections",
		steps:  []int{1, 4, 16, 64, 256},
		legs:   []string{report.TunedEmpty.Name, report.Validator.Name},
		within: true,
		apply:  func(o *testbed.Options, n int) { o.Connections = n },
	},
	ByChanges: {
		title: "changes of policies a second",
		steps: []int{0, 100, 1000, 5000},
		legs:  []string{report.TunedEmpty.Name, report.Validator.Name, report.Stream.Name},
		apply: func(o *testbed.Options, n int) { o.ChangesPerSecond = float64(n) },
	},
	ByValidators: {
		title: "validators that follow the same store",
		steps: []int{1, 3, 10, 30, 100},
		legs:  []string{report.TunedEmpty.Name, report.Validator.Name},
		apply: func(o *testbed.Options, n int) { o.Validators = n },
	},
	ByReasons: {
		title:  "what calls carry",
		steps:  []int{0, 1, 2, 3, 4, 5},
		legs:   []string{report.TunedEmpty.Name, report.Validator.Name, report.Stream.Name},
		within: true,
		apply:  func(o *testbed.Options, n int) { o.Mix = testbed.Mixes[n] },
	},
}

// parse parses a step.
func (a Axis) parse(text string) (int, error) {
	if a == ByReasons {
		if n := slices.Index(testbed.Mixes, testbed.Mix(text)); n >= 0 {
			return n, nil
		}
		return 0, fmt.Errorf("%q: want some of %s", text, report.List(testbed.Mixes))
	}
	n, err := strconv.Atoi(strings.ReplaceAll(text, "_", ""))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q: want numbers with commas between them", text)
	}
	return n, nil
}

// name writes a step for people.
func (a Axis) name(step int) string {
	if a == ByReasons {
		return string(testbed.Mixes[step])
	}
	return report.Thousands(step)
}
