// Package server puts a validator together: the engine of pkg/validator and the servers in front of it. The binary
// runs one; `countersign dev` runs two in its own process.
package server

import (
	"context"
	"log/slog"
	"net"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/validator"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/daemon"
	"github.com/countersign/countersign/services/validator/internal/authorize"
)

// StreamWorkers is the number of goroutines kept for calls: more than a busy validator has in flight.
const StreamWorkers = 256

// Server is a validator.
type Server struct {
	log       *slog.Logger
	validator *validator.Validator
	grpc      *grpcserver.Server
	http      *grpcserver.HTTPServer
}

// New checks the configuration and binds the ports. Nothing is served, and Redis is not asked, before Run.
func New(config daemon.Config) (*Server, error) {
	s := &Server{log: config.Log}
	var err error
	if s.validator, err = validator.New(validator.Config{RedisURL: config.RedisURL, Ring: config.Ring, Log: config.Log}); err != nil {
		return nil, err
	}
	registry := daemon.NewRegistry()
	config.HTTP.Ready, config.HTTP.Metrics = s.validator.Ready, registry
	if s.http, err = grpcserver.NewHTTP(config.HTTP, config.Log); err != nil {
		return nil, err
	}
	config.GRPC.MaxReceive = grpcserver.AuthorizeMaxReceive
	config.GRPC.StreamWorkers = StreamWorkers
	if s.grpc, err = grpcserver.New(config.GRPC, config.Log); err != nil {
		return nil, err
	}
	countersignv1.RegisterValidatorServiceServer(s.grpc, authorize.New(s.validator, registry))
	countersignv1.RegisterBulkValidatorServiceServer(s.grpc, authorize.Bulk{})
	return s, nil
}

// Addr returns the address of the gRPC server.
func (s *Server) Addr() net.Addr { return s.grpc.Addr() }

// Run serves until ctx ends, which is not an error. Until the policies are loaded, calls are UNAVAILABLE.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	// The store is followed until the last call in flight is answered.
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error { defer stop(); return s.grpc.Serve(ctx) })
	group.Go(func() error { return s.http.Serve(ctx) })
	group.Go(func() error { return s.validator.Run(following) })
	group.Go(func() error {
		if s.validator.WaitReady(ctx) == nil {
			s.log.Info("all policies loaded")
			s.grpc.SetServing("", true)
			s.grpc.SetServing(countersignv1.ValidatorService_ServiceDesc.ServiceName, true)
		}
		return nil
	})
	return group.Wait()
}
