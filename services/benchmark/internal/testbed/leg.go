package testbed

import (
	"context"
	"slices"
	"strconv"

	"google.golang.org/grpc/credentials/insecure"

	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/benchmark/internal/serve"
	"github.com/countersign/countersign/services/internal/gcbudget"
	"github.com/countersign/countersign/services/internal/load"
	validator "github.com/countersign/countersign/services/validator/server"
)

// leg describes one variant in the benchmark: how to start its server, and how clients call it.
type leg struct {
	report.Leg
	// role says which server the process runs. workers is the number of stream workers of an empty or lookup
	// server; 0 is grpc-go's default.
	role    serve.Role
	workers uint32
	// tuned gives the process the garbage collector settings of a validator in production.
	tuned bool
	// redis says that the leg runs only with a Redis server, not with the embedded store.
	redis bool
	// uncounted says that the validator counts no decisions. Such a leg runs only when the options name it.
	uncounted bool
	// asks says that the clients call Authorize; otherwise they send an empty message.
	asks bool
	// connect opens connections to the server.
	connect func(ctx context.Context, address string, connections int) (load.Caller, error)
}

var legs = []leg{
	{Leg: report.Empty, role: serve.Empty, connect: connectEmpty},
	{Leg: report.TunedEmpty, role: serve.Empty, workers: validator.StreamWorkers, tuned: true, connect: connectEmpty},
	{Leg: report.Validator, role: serve.Validator, tuned: true, asks: true, connect: connectAuthorize},
	{Leg: report.Stream, role: serve.Validator, tuned: true, asks: true, connect: connectStream},
	{Leg: report.Redis, role: serve.Lookup, redis: true, asks: true, connect: connectAuthorize},
	{
		Leg: report.TunedRedis, role: serve.Lookup, workers: validator.StreamWorkers, tuned: true, redis: true, asks: true,
		connect: connectAuthorize,
	},
	{Leg: report.Uncounted, role: serve.Validator, uncounted: true, tuned: true, asks: true, connect: connectAuthorize},
	{Leg: report.UncountedStream, role: serve.Validator, uncounted: true, tuned: true, asks: true, connect: connectStream},
}

// LegNames returns the names of all legs.
func LegNames() []string {
	names := make([]string, len(legs))
	for i, l := range legs {
		names[i] = l.Name
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

// environment returns environment variables for the leg's process. They override GOGC and GOMEMLIMIT from the
// user's environment. memory is the machine's memory in bytes; 0 if unknown.
func (l leg) environment(memory uint64) []string {
	if !l.tuned {
		return []string{"GOGC=100", "GOMEMLIMIT=off"}
	}
	limit := "off"
	if memory > 0 {
		limit = strconv.FormatUint(memory/4*3, 10) // Redis and the load generator need the rest
	}
	percent := strconv.Itoa(gcbudget.Most)
	if l.role == serve.Validator {
		percent = "" // a validator adapts its own GOGC, see gcbudget.Keep
	}
	return []string{"GOGC=" + percent, "GOMEMLIMIT=" + limit}
}
