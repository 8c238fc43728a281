package flood

import (
	"fmt"
	"io"
	"time"

	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/benchmark/internal/testbed"
	"github.com/countersign/countersign/services/internal/load"
)

// Options say how a validator is flooded, and later overloaded.
type Options struct {
	// Rounds is how often callers are measured with and without a flood. Seed decides everything random.
	Rounds int    `json:"rounds"`
	Seed   uint64 `json:"seed"`
	// Rate is the number of calls a second that callers send with valid tokens, over Connections. The flood
	// sends Times as many with unknown tokens, over as many other connections.
	Rate        float64       `json:"rate"`
	Times       float64       `json:"times"`
	Connections int           `json:"connections"`
	Arrivals    load.Arrivals `json:"arrivals"`
	// WarmUp is the length of the calls before each measurement that are not measured. Time is the length of
	// each measurement.
	WarmUp time.Duration `json:"warmUpNanos"`
	Time   time.Duration `json:"timeNanos"`
	// Tokens is the number of tokens in the store, TokensPerApp the number of tokens of each app.
	Tokens       int `json:"tokens"`
	TokensPerApp int `json:"tokensPerApp"`
	// MaxInFlight is the bound of the validator that is overloaded after the rounds. InFlight is the number
	// of calls that are kept in flight there.
	MaxInFlight int `json:"maxInFlight"`
	InFlight    int `json:"inFlight"`
	// Progress gets lines about the progress, for people.
	Progress io.Writer `json:"-"`
}

// Check returns an error that names the flag of the first wrong option.
func (o Options) Check() error {
	switch {
	case o.Rate <= 0 || o.Rate > load.MaxRate:
		return fmt.Errorf("--rate: want calls a second, up to %d", load.MaxRate)
	case o.Times <= 0 || o.Times*o.Rate > load.MaxRate:
		return fmt.Errorf("--times: want above 0, and at most %d calls a second", load.MaxRate)
	case o.MaxInFlight < 1:
		return fmt.Errorf("--max-in-flight: want at least 1")
	}
	return o.testbed().Check()
}

// testbed returns the options of a testbed with one validator.
func (o Options) testbed() testbed.Options {
	return testbed.Options{
		Legs: []string{report.Validator.Name}, Rounds: o.Rounds, Seed: o.Seed, Connections: o.Connections, InFlight: o.InFlight,
		Tokens: o.Tokens, TokensPerApp: o.TokensPerApp, Mix: testbed.Valid, Validators: 1, Progress: o.Progress,
	}
}
