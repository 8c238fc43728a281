// Package bench compares what a decision costs: an empty gRPC server, the validator, and a service that asks
// Redis about each request, in turn, on the same machine in the same run. It also puts load on a validator
// that runs elsewhere. This package is not part of the public API and may change in any release.
package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/countersign/countersign/services/countersign/internal/bench/process"
	"github.com/countersign/countersign/services/internal/load"
)

// Options say what is compared, and how.
type Options struct {
	// Legs are the names of what is compared; none is everything.
	Legs []string `json:"legs"`
	// Rounds is how often each leg has its turn, Seed decides in which order, and all else that is random.
	Rounds int    `json:"rounds"`
	Seed   uint64 `json:"seed"`
	// Connections and InFlight, calls under way on all of them together, are those of the closed loop.
	Connections int `json:"connections"`
	InFlight    int `json:"inFlight"`
	// WarmUp comes before each turn and is not measured. Closed bounds the closed loop of a turn, OpenTime
	// is how long each open loop of a turn takes.
	WarmUp   time.Duration `json:"warmUpNanos"`
	Closed   load.Limits   `json:"closed"`
	OpenTime time.Duration `json:"openTimeNanos"`
	// Rates are those of the open loops, in calls a second.
	Rates    Rates         `json:"rates"`
	Arrivals load.Arrivals `json:"arrivals"`
	// Tokens is how many the store has, TokensPerApp how many of them each app has.
	Tokens       int `json:"tokens"`
	TokensPerApp int `json:"tokensPerApp"`
	// Mix is what calls ask about.
	Mix Mix `json:"mix"`
	// ChangesPerSecond is how many policies are changed all the while.
	ChangesPerSecond float64 `json:"changesPerSecond"`
	// ResyncEvery is how long it takes from one time that a validator loads the whole store anew to the
	// next, while it has its turn; 0 is never.
	ResyncEvery time.Duration `json:"resyncEveryNanos,omitempty"`
	// Validators is how many follow the store and report to the authority: those beside the ones that are
	// measured share a process.
	Validators int `json:"validators"`
	// Progress is told what is under way; it is for people.
	Progress io.Writer `json:"-"`
}

// Check says what is wrong with the options, by the names of the flags that have set them.
func (o Options) Check() error {
	for _, c := range []struct {
		ok   bool
		flag string
		want string
	}{
		{o.Rounds >= 1, "rounds", "at least 1"},
		{o.Connections >= 1 && o.Connections <= maxConnections, "connections", fmt.Sprintf("1 to %d", maxConnections)},
		{o.InFlight >= o.Connections && o.InFlight <= maxInFlight, "in-flight", fmt.Sprintf("from --connections, since each of them needs a call, to %d", maxInFlight)},
		{o.Tokens >= 1 && o.Tokens <= maxTokens, "tokens", fmt.Sprintf("1 to %d", maxTokens)},
		{o.TokensPerApp >= 1 && o.TokensPerApp <= 1000, "tokens-per-app", "1 to 1000, which is the most that an app may have"},
		{o.TokensPerApp <= o.Tokens, "tokens-per-app", "at most --tokens"},
		{o.ChangesPerSecond >= 0 && o.ChangesPerSecond <= maxChanges, "changes-per-second", fmt.Sprintf("0 to %d", maxChanges)},
		{o.Validators >= 1 && o.Validators <= maxValidators, "validators", fmt.Sprintf("1 to %d", maxValidators)},
		{o.ResyncEvery == 0 || process.HasRedis(), "resync-every", "a redis-server on the PATH: the embedded store has no accounts, which is how a validator is cut off"},
		{slices.IndexFunc(o.Legs, unknownLeg) < 0, "legs", "names from " + strings.Join(LegNames(), ", ")},
	} {
		if !c.ok {
			return fmt.Errorf("--%s: want %s", c.flag, c.want)
		}
	}
	return nil
}

// Bounds of what a machine can be asked for.
const (
	maxConnections = 1024
	maxInFlight    = 16384
	maxTokens      = 10_000_000
	maxChanges     = 5000
	maxRate        = 1_000_000
	maxValidators  = 200
)
