// Package testbed starts a store, an authority and the servers to compare, puts load on the servers, and
// measures them. The servers take turns on the same machine in the same run: only one of them has load at a
// time.
//
// This package is not part of the public API and may change in any release.
package testbed

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/countersign/countersign/services/benchmark/internal/process"
	"github.com/countersign/countersign/services/internal/load"
)

// Options configure a measurement.
type Options struct {
	// Legs are the names of the legs to compare. A leg is one variant in the benchmark (see LegNames). An
	// empty list means all legs but those of validators that count nothing.
	Legs []string `json:"legs"`
	// Rounds is the number of rounds. In each round every leg is measured once, which is its turn. Seed seeds
	// all random choices, such as the order of turns.
	Rounds int    `json:"rounds"`
	Seed   uint64 `json:"seed"`
	// Connections is the number of connections to the server. InFlight is the number of calls that a closed
	// loop keeps in flight, on all connections together.
	Connections int `json:"connections"`
	InFlight    int `json:"inFlight"`
	// WarmUp is how long calls run, unmeasured, at the start of each turn. Closed bounds the closed loop of a
	// turn. OpenTime is the length of each open loop of a turn.
	WarmUp   time.Duration `json:"warmUpNanos"`
	Closed   load.Limits   `json:"closed"`
	OpenTime time.Duration `json:"openTimeNanos"`
	// Rates are the rates of the open loops, in calls a second. Each turn has one open loop for each rate.
	Rates    Rates         `json:"rates"`
	Arrivals load.Arrivals `json:"arrivals"`
	// Tokens is the number of tokens in the store. TokensPerApp is the number of tokens of each app.
	Tokens       int `json:"tokens"`
	TokensPerApp int `json:"tokensPerApp"`
	// Mix is the kind of tokens that calls carry.
	Mix Mix `json:"mix"`
	// ChangesPerSecond is the rate at which policies are changed during the measurement.
	ChangesPerSecond float64 `json:"changesPerSecond"`
	// ResyncEvery is the time between two resyncs of a validator during its turn. A resync loads the whole
	// store again. 0 means no resyncs.
	ResyncEvery time.Duration `json:"resyncEveryNanos,omitempty"`
	// Validators is the number of validators that follow the store and report to the authority. The
	// validators that are not measured share processes.
	Validators int `json:"validators"`
	// Progress gets lines about the progress, for people.
	Progress io.Writer `json:"-"`
}

// Check returns an error if an option is wrong. The error names the flag of the first wrong option.
func (o Options) Check() error {
	for _, c := range []struct {
		ok   bool
		flag string
		want string
	}{
		{o.Rounds >= 1, "rounds", "at least 1"},
		{o.Connections >= 1 && o.Connections <= load.MaxConnections, "connections", fmt.Sprintf("1 to %d", load.MaxConnections)},
		{
			o.InFlight >= o.Connections && o.InFlight <= load.MaxInFlight, "in-flight",
			fmt.Sprintf("from --connections, since each of them needs a call, to %d", load.MaxInFlight),
		},
		{o.Tokens >= 1 && o.Tokens <= maxTokens, "tokens", fmt.Sprintf("1 to %d", maxTokens)},
		{
			o.TokensPerApp >= 1 && o.TokensPerApp <= maxTokensPerApp, "tokens-per-app",
			fmt.Sprintf("1 to %d, which is the most that an app may have", maxTokensPerApp),
		},
		{o.TokensPerApp <= o.Tokens, "tokens-per-app", "at most --tokens"},
		{o.ChangesPerSecond >= 0 && o.ChangesPerSecond <= maxChanges, "changes-per-second", fmt.Sprintf("0 to %d", maxChanges)},
		{o.Validators >= 1 && o.Validators <= maxValidators, "validators", fmt.Sprintf("1 to %d", maxValidators)},
		{
			o.ResyncEvery == 0 || process.HasRedis(), "resync-every",
			"a redis-server on the PATH: the embedded store has no accounts, which is how a validator is cut off",
		},
		{slices.IndexFunc(o.Legs, unknownLeg) < 0, "legs", "names from " + strings.Join(LegNames(), ", ")},
	} {
		if !c.ok {
			return fmt.Errorf("--%s: want %s", c.flag, c.want)
		}
	}
	return nil
}

// Bounds of the options.
const (
	maxTokens       = 10_000_000
	maxTokensPerApp = 1000
	maxChanges      = 5000
	maxValidators   = 200
)
