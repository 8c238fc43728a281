package bench

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/grpc/credentials/insecure"

	"github.com/countersign/countersign/services/countersign/internal/bench/process"
	"github.com/countersign/countersign/services/countersign/internal/bench/serve"
	"github.com/countersign/countersign/services/internal/gcbudget"
	"github.com/countersign/countersign/services/internal/load"
	validator "github.com/countersign/countersign/services/validator/server"
)

// leg is one of the ways that are compared: a server, which is a child process, and who asks it. Another
// way is another file with a leg, and its name in legs.
type leg struct {
	// name is for flags and files, title for people.
	name, title string
	// role is what the child is; it is told where the store is, and how many workers to keep.
	role    serve.Role
	workers uint32
	// tuned gives the child the settings of the garbage collector that a validator should have.
	tuned bool
	// redis says that the leg makes no sense over an embedded store.
	redis bool
	// asks says that calls are questions of the deck; otherwise they are empty.
	asks bool
	// connect opens connections to the child.
	connect func(ctx context.Context, address string, connections int) (load.Caller, error)
}

// The names of the legs: what the product is compared with, and the product.
const (
	emptyLeg      = "empty"
	tunedLeg      = "tuned-empty"
	redisLeg      = "redis"
	tunedRedisLeg = "tuned-redis"
	// validatorLeg is the product, asked call by call; streamLeg asks it over streams.
	validatorLeg = "validator"
	streamLeg    = "stream"
)

var legs = []leg{
	{name: emptyLeg, title: "empty server, default settings", role: serve.Empty, connect: connectEmpty},
	{name: tunedLeg, title: "tuned empty server", role: serve.Empty, workers: validator.StreamWorkers, tuned: true, connect: connectEmpty},
	{name: validatorLeg, title: "validator, unary Authorize", role: serve.Validator, tuned: true, asks: true, connect: connectAuthorize},
	{name: streamLeg, title: "validator, streams of the client", role: serve.Validator, tuned: true, asks: true, connect: connectStream},
	{name: redisLeg, title: "Redis asked per request, default settings", role: serve.Lookup, redis: true, asks: true, connect: connectAuthorize},
	{name: tunedRedisLeg, title: "Redis asked per request, tuned", role: serve.Lookup, workers: validator.StreamWorkers, tuned: true, redis: true, asks: true, connect: connectAuthorize},
}

// LegNames returns the names of all legs.
func LegNames() []string {
	names := make([]string, len(legs))
	for i, l := range legs {
		names[i] = l.name
	}
	return names
}

func unknownLeg(name string) bool { return !slices.Contains(LegNames(), name) }

func connectEmpty(ctx context.Context, address string, connections int) (load.Caller, error) {
	return load.NewUnary(ctx, load.Endpoint{
		Address: address, Method: serve.EmptyMethod, Credentials: insecure.NewCredentials(), Decode: load.DecodeEmpty,
	}, connections)
}

func connectAuthorize(ctx context.Context, address string, connections int) (load.Caller, error) {
	return load.NewUnary(ctx, load.Endpoint{
		Address: address, Method: load.AuthorizeMethod, Credentials: insecure.NewCredentials(), Decode: load.DecodeAuthorize,
	}, connections)
}

// environment returns the variables of the child. What the person who runs the comparison has set for this
// program is not for the children.
func (l leg) environment(memory uint64) []string {
	if !l.tuned {
		return []string{"GOGC=100", "GOMEMLIMIT=off"}
	}
	limit := "off"
	if memory > 0 {
		limit = strconv.FormatUint(memory/4*3, 10) // three quarters: the rest is Redis, and the generator
	}
	percent := strconv.Itoa(gcbudget.Most)
	if l.role == serve.Validator {
		percent = "" // it keeps to gcbudget.Bytes by itself
	}
	return []string{"GOGC=" + percent, "GOMEMLIMIT=" + limit}
}

// contestant is a leg whose server runs.
type contestant struct {
	leg
	child   *process.Child
	address string
	// http is where a validator's metrics are, account its own of Redis; empty when it needs none.
	http, account string
	// maxInFlight is a validator's bound; 0 is its default.
	maxInFlight int
}

// state asks the child how it is.
func (c *contestant) state() (serve.State, error) { return c.ask(serve.Command{}) }

// ask tells the child what to do, and returns how it is then.
func (c *contestant) ask(command serve.Command) (s serve.State, err error) {
	if err = c.child.Ask(command, &s); err == nil && s.Error != "" {
		err = fmt.Errorf("%s: %s", c.title, s.Error)
	}
	return s, err
}
