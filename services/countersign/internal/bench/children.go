package bench

import (
	"context"
	"errors"
	"fmt"
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
	if c.RedisURL == "" {
		c.RedisURL = a.url
	}
	c.RingFile, c.Embedded, c.Quiet = a.ringFile(), a.embedded != nil, c.Quiet || a.options.ResyncEvery > 0 || c.Role == serve.Fleet
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
	config := serve.Config{
		Role: c.role, StreamWorkers: c.workers, Authority: a.fleetAddress, FleetKey: a.fleetKey.Reveal(), ID: c.name,
		MaxInFlight: c.maxInFlight,
	}
	if c.role == serve.Validator && a.options.ResyncEvery > 0 {
		var err error
		c.account = "bench-" + c.name
		if config.RedisURL, err = a.account(ctx, c.account); err != nil {
			return err
		}
	}
	child, state, err := a.newChild(process.Start{Env: c.environment(memoryBytes()), CPUs: a.place.servers}, config)
	if err != nil {
		return err
	}
	c.child, c.address, c.http = child, state.Address, state.HTTP
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

// fleetSize is how many validators share a process: as many as can load the store at once without being in
// each other's way.
const fleetSize = 10

// startFleet starts the validators that are there beside those that are measured.
func (a *arena) startFleet(ctx context.Context) error {
	others := a.options.Validators
	for _, c := range a.contestants {
		if c.role == serve.Validator {
			others--
		}
	}
	if others <= 0 {
		return nil
	}
	fmt.Fprintf(a.options.Progress, "Starting: %d other validators\n", others)
	for started := 0; started < others; started += fleetSize {
		child, state, err := a.newChild(process.Start{CPUs: a.place.others}, serve.Config{
			Role: serve.Fleet, Validators: min(others-started, fleetSize), Authority: a.fleetAddress, FleetKey: a.fleetKey.Reveal(),
			ID: fmt.Sprintf("other-%03d", started),
		})
		if err != nil {
			return fmt.Errorf("other validators: %w", err)
		}
		a.helpers = append(a.helpers, child)
		for _, address := range state.Addresses {
			if err := awaitServing(ctx, address); err != nil {
				return fmt.Errorf("other validators: %w", err)
			}
		}
	}
	return nil
}
