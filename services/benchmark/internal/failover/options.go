package failover

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/benchmark/internal/testbed"
	"github.com/countersign/countersign/services/internal/load"
)

// Trouble is what happens to a validator.
type Trouble string

// The troubles.
const (
	// Restarted ends the validator in order, and starts it again at the end of the trouble.
	Restarted Trouble = "restarted"
	// NotLoaded restarts the validator without a Redis in reach, so that it answers UNAVAILABLE. It is
	// restarted with a Redis at the end of the trouble.
	NotLoaded Trouble = "not-loaded"
	// Hung stops the process (SIGSTOP): its kernel accepts connections and bytes, and nothing answers.
	Hung Trouble = "hung"
	// Vanished puts a network in front of the validator that drops every byte without an error.
	Vanished Trouble = "vanished"
)

// Troubles are all troubles.
var Troubles = []Trouble{Restarted, NotLoaded, Hung, Vanished}

// Options say how a validator gets into trouble.
type Options struct {
	// Troubles are names of troubles. Without names all troubles are measured.
	Troubles []string `json:"troubles"`
	// Rate is the number of questions a second, each with a Deadline.
	Rate     float64       `json:"rate"`
	Arrivals load.Arrivals `json:"arrivals"`
	Deadline time.Duration `json:"deadlineNanos"`
	// Before, During and After are how long questions are asked before, during and after the trouble.
	Before time.Duration `json:"beforeNanos"`
	During time.Duration `json:"duringNanos"`
	After  time.Duration `json:"afterNanos"`
	Seed   uint64        `json:"seed"`
	// Tokens is the number of tokens in the store, TokensPerApp the number of tokens of each app.
	Tokens       int `json:"tokens"`
	TokensPerApp int `json:"tokensPerApp"`
	// Progress gets lines about the progress, for people.
	Progress io.Writer `json:"-"`
}

// Check returns an error that names the flag of the first wrong option.
func (o Options) Check() error {
	switch {
	case o.Rate <= 0 || o.Rate > load.MaxRate:
		return fmt.Errorf("--rate: want questions a second, up to %d", load.MaxRate)
	case slices.ContainsFunc(o.Troubles, func(name string) bool { return !slices.Contains(Troubles, Trouble(name)) }):
		return fmt.Errorf("--troubles: want names from %s", report.List(Troubles))
	}
	return o.testbed().Check()
}

func (o Options) troubles() (chosen []Trouble) {
	for _, one := range Troubles {
		if len(o.Troubles) == 0 || slices.Contains(o.Troubles, string(one)) {
			chosen = append(chosen, one)
		}
	}
	return chosen
}

// testbed returns the options of a testbed with one validator, the first of the two.
func (o Options) testbed() testbed.Options {
	return testbed.Options{
		Legs: []string{report.Validator.Name}, Rounds: 1, Seed: o.Seed, Connections: 1, InFlight: 1,
		Tokens: o.Tokens, TokensPerApp: o.TokensPerApp, Mix: testbed.Mixed, Validators: 1, Progress: o.Progress,
	}
}
