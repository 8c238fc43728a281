package bench

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/countersign/countersign/services/internal/load"
)

// Trouble is what happens to a validator.
type Trouble string

// The troubles.
const (
	// Restarted is shut down in order, and started anew at the end.
	Restarted Trouble = "restarted"
	// NotLoaded is started anew without a Redis in reach, so that it answers UNAVAILABLE, and with one at
	// the end.
	NotLoaded Trouble = "not-loaded"
	// Hung is stopped (SIGSTOP): its kernel takes connections and bytes, and nothing is answered.
	Hung Trouble = "hung"
	// Vanished is behind a network that swallows every byte, and tells nobody.
	Vanished Trouble = "vanished"
)

// Troubles are all of them.
var Troubles = []Trouble{Restarted, NotLoaded, Hung, Vanished}

// TroubleNames are what people call them.
func TroubleNames() string { return words(Troubles) }

// FailoverOptions say how a validator gets into trouble.
type FailoverOptions struct {
	// Troubles are names of them; none is all.
	Troubles []string `json:"troubles"`
	// Rate is how many questions are asked a second, each with a Deadline.
	Rate     float64       `json:"rate"`
	Arrivals load.Arrivals `json:"arrivals"`
	Deadline time.Duration `json:"deadlineNanos"`
	// Before, During and After are how long is asked before the trouble, while it lasts, and when it is over.
	Before time.Duration `json:"beforeNanos"`
	During time.Duration `json:"duringNanos"`
	After  time.Duration `json:"afterNanos"`
	Seed   uint64        `json:"seed"`
	// Tokens is how many the store has, TokensPerApp how many of them each app has.
	Tokens       int `json:"tokens"`
	TokensPerApp int `json:"tokensPerApp"`
	// Progress is told what is under way; it is for people.
	Progress io.Writer `json:"-"`
}

// Check says what is wrong with the options, by the names of the flags that have set them.
func (f FailoverOptions) Check() error {
	switch {
	case f.Rate <= 0 || f.Rate > maxRate:
		return fmt.Errorf("--rate: want questions a second, up to %d", maxRate)
	case slices.ContainsFunc(f.Troubles, func(name string) bool { return !slices.Contains(Troubles, Trouble(name)) }):
		return fmt.Errorf("--troubles: want names from %s", TroubleNames())
	}
	return f.arena().Check()
}

func (f FailoverOptions) troubles() (chosen []Trouble) {
	for _, one := range Troubles {
		if len(f.Troubles) == 0 || slices.Contains(f.Troubles, string(one)) {
			chosen = append(chosen, one)
		}
	}
	return chosen
}

// arena returns the options of what is asked: the first of the two validators.
func (f FailoverOptions) arena() Options {
	return Options{
		Legs: []string{validatorLeg}, Rounds: 1, Seed: f.Seed, Connections: 1, InFlight: 1,
		Tokens: f.Tokens, TokensPerApp: f.TokensPerApp, Mix: Mixed, Validators: 1, Progress: f.Progress,
	}
}
