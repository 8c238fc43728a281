// Package server assembles the validator service: pkg/validator and its gRPC and HTTP servers. The
// validator binary runs one. `countersign dev` runs two in its own process. This package is not part of the
// public API and may change in any release.
package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/clockskew"
	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/validator"
	"github.com/countersign/countersign/pkg/validator/inside"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/daemon"
	"github.com/countersign/countersign/services/internal/replicametrics"
	"github.com/countersign/countersign/services/validator/internal/authorize"
	"github.com/countersign/countersign/services/validator/internal/wire"
)

// StreamWorkers is the number of goroutines that are kept for calls. It is more than the calls in flight on
// a busy validator.
const StreamWorkers = 256

// maxConnections is how many connections a validator accepts. A large ingest tier has some thousands of
// clients.
const maxConnections = 16_384

// ownGoroutines is an upper bound of the goroutines that follow the store, report and serve metrics.
const ownGoroutines = 128

// Config configures a Server.
type Config struct {
	daemon.Config
	// MaxStaleness, Snapshot and Fleet are fields of validator.Config.
	MaxStaleness [policy.MaxScope + 1]time.Duration
	Snapshot     validator.SnapshotFile
	Fleet        validator.Fleet
	// WallClock is a field of validator.Config.
	WallClock func() time.Time
	// MaxInFlight is about how many calls may be in flight, not counting StreamWorkers. Further calls get
	// RESOURCE_EXHAUSTED. 0 means no bound.
	MaxInFlight int
	// Uncounted turns the counting of decisions off, to measure what it costs. No flag of the validator sets
	// it.
	Uncounted bool
}

// DefaultMaxInFlight is about as many calls as a core answers in a fifth of a second.
const DefaultMaxInFlight = 10_000

// Server is a validator service.
type Server struct {
	log       *slog.Logger
	validator *validator.Validator
	grpc      *grpcserver.Server
	http      *grpcserver.HTTPServer
}

// New checks the configuration and binds the ports. It serves nothing and does not connect to Redis before
// Run.
func New(config Config) (*Server, error) {
	s := &Server{log: config.Log}
	var err error
	if s.validator, err = validator.New(validator.Config{
		RedisURL: config.RedisURL, WriteQuorum: config.WriteQuorum, Ring: config.Ring, Log: config.Log,
		MaxStaleness: config.MaxStaleness, Snapshot: config.Snapshot, Fleet: config.Fleet, WallClock: config.WallClock,
	}); err != nil {
		return nil, err
	}
	if config.Uncounted {
		inside.StopCounting(s.validator)
	}
	registry := daemon.NewRegistry(config.Config)
	config.HTTP.Ready, config.HTTP.Detail, config.HTTP.Metrics = s.ready, s.freshness, registry
	if s.http, err = grpcserver.NewHTTP(config.HTTP, config.Log); err != nil {
		return nil, err
	}
	config.GRPC.MaxReceive = grpcserver.AuthorizeMaxReceive
	config.GRPC.MaxConnections = maxConnections
	config.GRPC.StreamWorkers = StreamWorkers
	config.GRPC.Codec = wire.NewCodec()
	if s.grpc, err = grpcserver.New(config.GRPC, config.Log); err != nil {
		return nil, err
	}
	s.grpc.RegisterMetrics(registry)
	registry.MustRegister(replicametrics.New(func() *replica.Replica { return inside.Replica(s.validator) }))
	registerSnapshotMetrics(registry, s.validator)
	registerFleetMetrics(registry, s.validator)
	registerUsageMetrics(registry, inside.Usage(s.validator), func() (int, time.Duration) {
		return inside.UnacknowledgedUsage(s.validator)
	})
	service := authorize.New(s.validator, authorize.Bound{
		MostInFlight:   config.MaxInFlight,
		AtRest:         StreamWorkers + ownGoroutines,
		Connections:    s.grpc.Connections,
		OpenGoroutines: s.grpc.PublicGoroutines,
	}, registry)
	service.Register(s.grpc)
	countersignv1.RegisterBulkValidatorServiceServer(s.grpc, authorize.NewBulk(service, s.grpc))
	return s, nil
}

// Addr returns the address of the gRPC server.
func (s *Server) Addr() net.Addr { return s.grpc.Addr() }

// HTTPAddr returns the address of the HTTP server.
func (s *Server) HTTPAddr() net.Addr { return s.http.Addr() }

// freshness returns the text of /readyz for people: whether the data is FRESH or STALE, how old it is,
// whether the clock is off, and whether the id is taken. None of these makes a validator unready.
func (s *Server) freshness() string {
	age, stale := s.validator.Freshness()
	state := "FRESH"
	if stale {
		state = "STALE"
	}
	text := fmt.Sprintf("%s, %s old", state, age.Round(time.Millisecond))
	if ahead, _ := s.validator.ClockSkew(); ahead.Abs() > clockskew.Max {
		text += fmt.Sprintf("; its clock is %s: set it (NTP), or the authority's", clockskew.Words(ahead))
	}
	return text + s.taken()
}

// ready returns the validator's Ready, and adds to an error that the id is taken, which may be its cause.
func (s *Server) ready() error {
	if err := s.validator.Ready(); err != nil {
		return fmt.Errorf("%w%s", err, s.taken())
	}
	return nil
}

// taken returns a warning when another validator has the same id, and otherwise "".
func (s *Server) taken() string {
	if s.validator.IDTaken() {
		return "; another validator has this one's id: give each a --validator-id of its own"
	}
	return ""
}

// Run serves until ctx ends, which is not an error. Until the policies are loaded, calls are UNAVAILABLE.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	// The validator follows the store until the last call in flight is answered.
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error { defer stop(); return s.grpc.Serve(ctx) })
	group.Go(func() error { return s.http.Serve(ctx) })
	group.Go(func() error { authorize.EndLate(following); return nil })
	group.Go(func() error { return s.validator.Run(following) })
	group.Go(func() error {
		if s.validator.WaitReady(ctx) == nil {
			s.log.Info("all policies loaded")
			s.grpc.SetServing("", true)
			s.grpc.SetServing(countersignv1.ValidatorService_ServiceDesc.ServiceName, true)
			s.grpc.SetServing(countersignv1.BulkValidatorService_ServiceDesc.ServiceName, true)
		}
		return nil
	})
	return group.Wait()
}
