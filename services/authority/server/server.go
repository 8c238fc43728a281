// Package server puts an authority together: identities, store, management, fleet, and the servers in front
// of them. The binary runs one. `countersign dev` runs one in its own process. This package is not part of
// the public API and may change in any release.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/audit"
	"github.com/countersign/countersign/services/authority/internal/evidence"
	"github.com/countersign/countersign/services/authority/internal/fleet"
	"github.com/countersign/countersign/services/authority/internal/healing"
	"github.com/countersign/countersign/services/authority/internal/identity"
	"github.com/countersign/countersign/services/authority/internal/ledger"
	"github.com/countersign/countersign/services/authority/internal/management"
	"github.com/countersign/countersign/services/authority/internal/verification"
	"github.com/countersign/countersign/services/internal/daemon"
	"github.com/countersign/countersign/services/internal/replicametrics"
	"github.com/countersign/countersign/services/store"
	"github.com/countersign/countersign/services/store/tools"
)

// Config configures an authority. Its gRPC server serves AuthorityService and FleetService.
type Config struct {
	daemon.Config
	// AdminKeysFile is the file with the keys of the callers. It may be empty only with InsecureDev.
	// InsecureDev lets anyone call every method, and allows only loopback addresses (B26).
	AdminKeysFile string
	InsecureDev   bool
	// FloorFile is the file in which the authority records the positions of the store that it has seen; empty
	// for none. No other process may use the file.
	FloorFile string
	// VerifyInterval is the pause between two verifications of partitions in the background; 0 turns
	// verification off.
	VerifyInterval time.Duration
	// UsageRedisURL is the Redis in which usage counts are kept. It needs no store. Empty means the Redis of
	// the store.
	UsageRedisURL string
	// NotifyURL is where notices are sent (B29); empty for nowhere. NotifySecretFile holds the secret that
	// signs them, in the form of the Standard Webhooks specification (whsec_...). Both are set or neither is.
	NotifyURL, NotifySecretFile string
	// Store has the options of the store.
	Store store.Options
}

const (
	// maxConnections bounds the connections of validators and other clients.
	maxConnections = 4096
	// maxCalls bounds the management calls in flight. A call takes milliseconds, unless it waits for a
	// receipt.
	maxCalls = 1024
	// maxBytes bounds the memory for large encoded requests: imports and reports. It is enough for 25
	// requests of the greatest size.
	maxBytes = 25 * grpcserver.ManagementMaxReceive
)

// DefaultVerifyInterval is the default of --verify-interval.
const DefaultVerifyInterval = verification.DefaultInterval

// Server is an authority.
type Server struct {
	config     Config
	client     *redisfeed.Client
	usage      *redisfeed.Client // for usage counts
	management *management.Service
	fleet      *fleet.Service
	evidence   *evidence.Source
	upkeep     upkeepParts
	metrics    fleetMetrics
	floor      floorState
	verified   *verification.Metrics
	counts     *ledger.Metrics
	grpc       *grpcserver.Server
	http       *grpcserver.HTTPServer
	replica    atomic.Pointer[replica.Replica] // nil until the store is found
}

// New checks the configuration and binds the ports. It does not connect to Redis. The server accepts no calls
// until Run.
func New(config Config) (*Server, error) {
	source, err := identities(config)
	if err != nil {
		return nil, err
	}
	s := &Server{config: config, fleet: fleet.NewService()}
	s.evidence = evidence.New(s.fleet)
	s.management = management.New(s.fleet, s.evidence)
	if s.upkeep.webhook, err = webhookOf(config); err != nil {
		return nil, err
	}
	if err := s.floor.read(config); err != nil {
		return nil, err
	}
	if s.client, err = redisfeed.Open(config.RedisURL, redisfeed.Options{WriteQuorum: config.WriteQuorum}); err != nil {
		return nil, err
	}
	// The connections are others also when the Redis is the same, so that counts keep no change waiting.
	if s.usage, err = redisfeed.Open(cmp.Or(config.UsageRedisURL, config.RedisURL), redisfeed.Options{}); err != nil {
		return nil, err
	}
	registry := daemon.NewRegistry(config.Config)
	calls := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram())
	registry.MustRegister(calls, replicametrics.New(s.replica.Load))
	s.floor.register(registry, s.replica.Load)
	s.metrics = fleetMetrics{fleet.NewMetrics(registry), healing.NewMetrics(registry)}
	s.verified = verification.NewMetrics(registry)
	s.counts = ledger.NewMetrics(registry)
	s.upkeep.register(registry)
	config.HTTP.Ready, config.HTTP.Detail, config.HTTP.Metrics = s.ready, s.detail, registry
	if s.http, err = grpcserver.NewHTTP(config.HTTP, config.Log); err != nil {
		return nil, err
	}
	config.GRPC.MaxReceive = grpcserver.ManagementMaxReceive
	config.GRPC.MaxConnections = maxConnections
	config.GRPC.RequestLimits = grpcserver.RequestLimits{MaxCalls: maxCalls, MaxBytes: maxBytes, Large: []string{
		countersignv1.AuthorityService_ImportTokens_FullMethodName, countersignv1.FleetService_Report_FullMethodName,
	}}
	name := countersignv1.AuthorityService_ServiceDesc.ServiceName
	if s.grpc, err = grpcserver.New(config.GRPC, config.Log, grpc.ChainUnaryInterceptor(
		calls.UnaryServerInterceptor(), grpcserver.LogCalls(config.Log), identity.Guard(source, name),
	), grpc.ChainStreamInterceptor(identity.GuardStreams(source, name,
		countersignv1.FleetService_ServiceDesc.ServiceName))); err != nil {
		return nil, err
	}
	s.grpc.RegisterMetrics(registry)
	s.fleet.EndWith(s.grpc.Draining())
	countersignv1.RegisterAuthorityServiceServer(s.grpc, s.management)
	countersignv1.RegisterFleetServiceServer(s.grpc, s.fleet)
	return s, nil
}

func identities(config Config) (identity.Source, error) {
	if !config.InsecureDev {
		if config.AdminKeysFile == "" {
			return nil, errors.New("an authority needs to know who may call it: --admin-keys-file, or --insecure-dev on loopback")
		}
		return identity.LoadKeys(config.Files, config.AdminKeysFile)
	}
	if config.AdminKeysFile != "" {
		return nil, errors.New("--insecure-dev lets anyone in: it cannot be combined with --admin-keys-file")
	}
	for flag, address := range map[string]string{"--listen": config.GRPC.Listen, "--http-listen": config.HTTP.Listen} {
		host, _, err := net.SplitHostPort(address)
		if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, fmt.Errorf("--insecure-dev lets anyone in, so %s must be a loopback address, such as 127.0.0.1:7070", flag)
		}
	}
	return identity.Anyone{}, nil
}

// Addr returns the address of the gRPC server.
func (s *Server) Addr() net.Addr { return s.grpc.Addr() }

// HTTPAddr returns the address of the HTTP server.
func (s *Server) HTTPAddr() net.Addr { return s.http.Addr() }

// Run serves until ctx ends, which is not an error. Until the store is found and loaded, calls fail with
// UNAVAILABLE.
func (s *Server) Run(ctx context.Context) error {
	defer s.client.Close()
	defer s.usage.Close()
	group, ctx := errgroup.WithContext(ctx)
	// The store is followed until the last call in flight is answered.
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error { defer stop(); return s.grpc.Serve(ctx) })
	group.Go(func() error { return s.http.Serve(ctx) })
	group.Go(func() error { return s.follow(following) })
	return group.Wait()
}

// follow finds the store, opens it for management, and keeps the replica up to date.
func (s *Server) follow(ctx context.Context) error {
	meta, err := s.client.AwaitMeta(ctx, s.config.Ring, s.config.Log)
	if err != nil {
		return nil //nolint:nilerr // only the end of ctx ends the search
	}
	codec := record.NewCodec(s.config.Ring, meta)
	r := replica.New(redisfeed.New(s.client, meta.Partitions), codec, s.config.Log)
	r.Heals()
	r.Lists()
	if err := s.floor.apply(r, s.config); err != nil {
		return err
	}
	s.replica.Store(r)
	options := s.config.Store
	options.WriteQuorum, options.Audit = s.config.WriteQuorum, audit.Changes
	if options.Meta, err = record.SealMeta(s.config.Ring, meta); err != nil {
		return err
	}
	opened := store.New(store.Over(s.client, meta.Partitions, options), r, options, s.config.Log)
	s.management.Open(opened)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.Run(ctx) })
	group.Go(func() error { s.floor.keep(ctx, r, s.config); return nil })
	group.Go(func() error { return s.followFleet(ctx, r, opened) })
	group.Go(func() error { return s.countUsage(ctx, r) })
	group.Go(func() error { return s.keepUp(ctx, opened) })
	group.Go(func() error {
		keys := func(ctx context.Context, partition int) ([]string, error) {
			return tools.CheckKeys(ctx, s.client, codec, partition)
		}
		return verification.Run(ctx, r, keys, meta.Partitions, s.config.VerifyInterval, s.verified, s.config.Log)
	})
	group.Go(func() error {
		if r.WaitTried(ctx) == nil {
			s.config.Log.Info("store loaded", "store", meta.StoreID, "partitions", meta.Partitions)
			if detail := s.detail(); detail != "" {
				s.config.Log.Error("the store has problems", "why", detail)
			}
			s.keepHealth(ctx)
		}
		return nil
	})
	return group.Wait()
}
