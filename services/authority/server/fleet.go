package server

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/replica"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/fleet"
	"github.com/countersign/countersign/services/authority/internal/healing"
	"github.com/countersign/countersign/services/store"
)

// ownLoad bounds how long validators must wait with their reports until this authority has loaded the store.
// After that they may report although it has not: a store that cannot be loaded may lack changes that only
// validators hold.
const ownLoad = 3 * time.Second

// fleetMetrics are the metrics of the fleet and of healing.
type fleetMetrics struct {
	fleet   *fleet.Metrics
	healing *healing.Metrics
}

// followFleet runs the fleet's registry and the healer until ctx ends.
func (s *Server) followFleet(ctx context.Context, r *replica.Replica, opened *store.Store) error {
	loading, cancel := context.WithTimeout(ctx, ownLoad)
	defer cancel()
	_ = r.WaitLoaded(loading)
	healer := healing.New(r, opened, s.metrics.healing, s.config.Log)
	registry := fleet.NewRegistry(r, store.NewFleet(s.client), healer.Notice, s.metrics.fleet, s.config.Log)
	if registry.Load(ctx) != nil {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return registry.Run(ctx) })
	group.Go(func() error { return healer.Run(ctx, registry) })
	s.fleet.Open(registry)
	s.grpc.SetServing(countersignv1.FleetService_ServiceDesc.ServiceName, true)
	return group.Wait()
}
