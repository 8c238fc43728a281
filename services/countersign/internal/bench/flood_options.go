package bench

import (
	"fmt"
	"io"
	"time"

	"github.com/countersign/countersign/services/internal/load"
)

// FloodOptions say how a validator is flooded.
type FloodOptions struct {
	// Rounds is how often callers are measured with and without a flood, Seed decides what is random.
	Rounds int    `json:"rounds"`
	Seed   uint64 `json:"seed"`
	// Rate is how many calls callers with valid tokens send a second, on Connections; the flood sends Times
	// as many, with unknown tokens, on as many connections of its own.
	Rate        float64       `json:"rate"`
	Times       float64       `json:"times"`
	Connections int           `json:"connections"`
	Arrivals    load.Arrivals `json:"arrivals"`
	// WarmUp comes before each measurement, Time is how long it takes.
	WarmUp time.Duration `json:"warmUpNanos"`
	Time   time.Duration `json:"timeNanos"`
	// Tokens is how many the store has, TokensPerApp how many of them each app has.
	Tokens       int `json:"tokens"`
	TokensPerApp int `json:"tokensPerApp"`
	// MaxInFlight is the bound of the validator that is overloaded at the end, InFlight how many calls are
	// kept under way there.
	MaxInFlight int `json:"maxInFlight"`
	InFlight    int `json:"inFlight"`
	// Progress is told what is under way; it is for people.
	Progress io.Writer `json:"-"`
}

// Check says what is wrong with the options, by the names of the flags that have set them.
func (f FloodOptions) Check() error {
	switch {
	case f.Rate <= 0 || f.Rate > maxRate:
		return fmt.Errorf("--rate: want calls a second, up to %d", maxRate)
	case f.Times <= 0 || f.Times*f.Rate > maxRate:
		return fmt.Errorf("--times: want above 0, and at most %d calls a second", maxRate)
	case f.MaxInFlight < 1:
		return fmt.Errorf("--max-in-flight: want at least 1")
	}
	return f.arena().Check()
}

// arena returns the options of what the flood goes over: one validator.
func (f FloodOptions) arena() Options {
	return Options{
		Legs: []string{validatorLeg}, Rounds: f.Rounds, Seed: f.Seed, Connections: f.Connections, InFlight: f.InFlight,
		Tokens: f.Tokens, TokensPerApp: f.TokensPerApp, Mix: Valid, Validators: 1, Progress: f.Progress,
	}
}
