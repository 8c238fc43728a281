package bench

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Axis is what grows.
type Axis string

// The axes.
const (
	ByTokens      Axis = "tokens"
	ByConnections Axis = "connections"
	ByChanges     Axis = "changes"
	ByValidators  Axis = "validators"
	ByReasons     Axis = "reasons"
)

// Axes are all of them.
var Axes = []Axis{ByTokens, ByConnections, ByChanges, ByValidators, ByReasons}

// Type is how a help text calls the value.
func (*Axis) Type() string { return "word" }

// String returns the word.
func (a *Axis) String() string { return string(*a) }

// Set takes one of the words.
func (a *Axis) Set(text string) error {
	if !slices.Contains(Axes, Axis(text)) {
		return fmt.Errorf("want one of %s", words(Axes))
	}
	*a = Axis(text)
	return nil
}

// growth is how one axis grows.
type growth struct {
	// title is what there is more and more of.
	title string
	// steps are the usual ones. Those of reasons are places in Mixes.
	steps []int
	// legs are those that it can make a difference to.
	legs []string
	// within says that all steps are conditions of one arena, so that they take turns, too: they then
	// compare round by round.
	within bool
	// apply makes options those of a step.
	apply func(*Options, int)
}

var axes = map[Axis]growth{
	ByTokens: {
		title: "tokens of the store",
		steps: []int{1000, 10_000, 100_000, 1_000_000, 10_000_000},
		legs:  []string{tunedLeg, validatorLeg, streamLeg},
		apply: func(o *Options, n int) { o.Tokens = n },
	},
	// Streams have connections of their own number.
	ByConnections: {
		title:  "connections",
		steps:  []int{1, 4, 16, 64, 256},
		legs:   []string{tunedLeg, validatorLeg},
		within: true,
		apply:  func(o *Options, n int) { o.Connections = n },
	},
	ByChanges: {
		title: "changes of policies a second",
		steps: []int{0, 100, 1000, 5000},
		legs:  []string{tunedLeg, validatorLeg, streamLeg},
		apply: func(o *Options, n int) { o.ChangesPerSecond = float64(n) },
	},
	ByValidators: {
		title: "validators that follow the same store",
		steps: []int{1, 3, 10, 30, 100},
		legs:  []string{tunedLeg, validatorLeg},
		apply: func(o *Options, n int) { o.Validators = n },
	},
	ByReasons: {
		title:  "what calls carry",
		steps:  []int{0, 1, 2, 3, 4, 5},
		legs:   []string{tunedLeg, validatorLeg, streamLeg},
		within: true,
		apply:  func(o *Options, n int) { o.Mix = Mixes[n] },
	},
}

// parse reads a step.
func (a Axis) parse(text string) (int, error) {
	if a == ByReasons {
		if n := slices.Index(Mixes, Mix(text)); n >= 0 {
			return n, nil
		}
		return 0, fmt.Errorf("%q: want some of %s", text, words(Mixes))
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
		return string(Mixes[step])
	}
	return thousands(step)
}
