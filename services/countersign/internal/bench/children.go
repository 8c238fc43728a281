package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/countersign/countersign/services/countersign/internal/bench/process"
	"github.com/countersign/countersign/services/countersign/internal/bench/serve"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

// loadPatience is how long a server may take to load the store.
const loadPatience = 10 * time.Minute

// newChild starts a child, tells it what to be, and returns how it is then.
func (a *arena) newChild(s process.Start, c serve.Config) (child *process.Child, state serve.State, err error) {
	c.RedisURL, c.RingFile, c.Embedded = a.url, a.ringFile(), a.embedded != nil
	s.Args, s.Output = []string{"bench", "serve"}, os.Stderr
	if child, err = process.New(s); err != nil {
		return nil, state, err
	}
	if err = child.Ask(c, &state); err == nil && state.Error != "" {
		err = errors.New(state.Error)
	}
	if err != nil {
		child.Stop()
	}
	return child, state, err
}

// start starts the server of a contestant and waits until it serves.
func (a *arena) start(ctx context.Context, c *contestant) error {
	child, state, err := a.newChild(process.Start{Env: c.environment(memoryBytes()), CPUs: a.place.servers}, serve.Config{
		Role: c.role, StreamWorkers: c.workers, Authority: a.fleetAddress, FleetKey: a.fleetKey.Reveal(), ID: c.name,
	})
	if err != nil {
		return err
	}
	c.child, c.address = child, state.Address
	a.contestants = append(a.contestants, c)
	if c.role == serve.Validator {
		return awaitServing(ctx, c.address)
	}
	return nil
}

// awaitServing returns when a validator or authority has loaded the store.
func awaitServing(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, loadPatience)
	defer cancel()
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	watch, err := healthpb.NewHealthClient(connection).Watch(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	for {
		answer, err := watch.Recv()
		if err != nil || answer.GetStatus() == healthpb.HealthCheckResponse_SERVING {
			return err
		}
	}
}

// startAuthority starts what validators report to, as they do in production.
func (a *arena) startAuthority(ctx context.Context) (err error) {
	keys := filepath.Join(a.folder, "admin-keys.json")
	if a.fleetKey, err = adminkeys.Add(keys, "bench-validators", adminkeys.Validator); err != nil {
		return err
	}
	child, state, err := a.newChild(process.Start{CPUs: a.place.others}, serve.Config{Role: serve.Authority, AdminKeysFile: keys})
	if err != nil {
		return err
	}
	a.helpers = append(a.helpers, child)
	a.fleetAddress = state.Address
	return awaitServing(ctx, state.Address)
}
