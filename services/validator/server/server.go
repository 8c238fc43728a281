// Package server puts a validator together: the engine of pkg/validator and the servers in front of it. The
// binary runs one; `countersign dev` runs two in its own process. This package is not part of the public API
// and may change in any release.
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

// StreamWorkers is the number of goroutines kept for calls: more than a busy validator has in flight.
const StreamWorkers = 256

// maxConnections is how many connections a validator takes: a large ingest tier has some thousands of
// clients.
const maxConnections = 16_384

// ownGoroutines is more than a validator has besides: they follow the store, report, and serve its metrics.
const ownGoroutines = 128

// Config is what a validator is started with.
type Config struct {
	daemon.Config
	// MaxStaleness, Snapshot and Fleet are those of validator.Config.
	MaxStaleness [policy.MaxScope + 1]time.Duration
	Snapshot     validator.SnapshotFile
	Fleet        validator.Fleet
	// WallClock is that of validator.Config.
	WallClock func() time.Time
	// MaxInFlight is about how many calls may be in flight beside those that StreamWorkers are for: past it
	// they are RESOURCE_EXHAUSTED. 0 is no bound.
	MaxInFlight int
}

// DefaultMaxInFlight is what a core answers in a fifth of a second.
const DefaultMaxInFlight = 10_000

// Server is a validator.
type Server struct {
	log       *slog.Logger
	validator *validator.Validator
	grpc      *grpcserver.Server
	http      *grpcserver.HTTPServer
}

// New checks the configuration and binds the ports. Nothing is served, and Redis is not asked, before Run.
func New(config Config) (*Server, error) {
	s := &Server{log: config.Log}
	var err error
	if s.validator, err = validator.New(validator.Config{
		RedisURL: config.RedisURL, WriteQuorum: config.WriteQuorum, Ring: config.Ring, Log: config.Log,
		MaxStaleness: config.MaxStaleness, Snapshot: config.Snapshot, Fleet: config.Fleet, WallClock: config.WallClock,
	}); err != nil {
		return nil, err
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
	registerUsageMetrics(registry, inside.Usage(s.validator))
	service := authorize.New(s.validator, authorize.Bound{
		MostInFlight: config.MaxInFlight, AtRest: StreamWorkers + ownGoroutines, Connections: s.grpc.Connections,
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

// freshness says how old the data is, and whether it is FRESH or STALE, for people who look at /readyz,
// whether the clock is off, and whether the id is another's. None of it makes a validator unready.
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

// ready is that of the validator, with what keeps it from hearing how far the store must be.
func (s *Server) ready() error {
	if err := s.validator.Ready(); err != nil {
		return fmt.Errorf("%w%s", err, s.taken())
	}
	return nil
}

// taken says that another validator has this one's id; empty when none has.
func (s *Server) taken() string {
	if s.validator.IDTaken() {
		return "; another validator has this one's id: give each a --validator-id of its own"
	}
	return ""
}

// Run serves until ctx ends, which is not an error. Until the policies are loaded, calls are UNAVAILABLE.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	// The store is followed until the last call in flight is answered.
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
