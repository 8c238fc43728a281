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

// leg is how to start the server of a compared leg, and how to call it.
type leg struct {
	report.Leg
	// role is the role of the server's process, workers its number of stream workers.
	role    serve.Role
	workers uint32
	// tuned gives the process the garbage collector settings of a validator in production.
	tuned bool
	// redis leaves the leg out when the store is embedded.
	redis bool
	// asks tells that calls are Authorize; otherwise they are the empty message.
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

// environment returns environment variables for the leg's process. They replace variables that the user has
// set for this program.
func (l leg) environment(memory uint64) []string {
	if !l.tuned {
		return []string{"GOGC=100", "GOMEMLIMIT=off"}
	}
	limit := "off"
	if memory > 0 {
		limit = strconv.FormatUint(memory/4*3, 10) // the rest is for Redis and the load generator
	}
	percent := strconv.Itoa(gcbudget.Most)
	if l.role == serve.Validator {
		percent = "" // a validator sets its own, from gcbudget.Bytes
	}
	return []string{"GOGC=" + percent, "GOMEMLIMIT=" + limit}
}
