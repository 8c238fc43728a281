package testbed

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

	"github.com/countersign/countersign/services/benchmark/internal/process"
	"github.com/countersign/countersign/services/benchmark/internal/serve"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

// loadTimeout is how long a server may take to load the store.
const loadTimeout = 10 * time.Minute

// newChild starts a child process in a role, and returns its first state.
func (t *Testbed) newChild(s process.Start, c serve.Config) (child *process.Child, state serve.State, err error) {
	if c.RedisURL == "" {
		c.RedisURL = t.url
	}
	c.RingFile, c.Embedded = t.ringFile(), t.embedded != nil
	c.Quiet = c.Quiet || t.options.ResyncEvery > 0 || c.Role == serve.Fleet
	s.Args, s.Output = []string{serve.Name}, os.Stderr
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

// awaitServing waits until a validator or an authority has loaded the store.
func awaitServing(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
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

// startAuthority starts the authority to which the validators report, and waits until it has loaded the
// store.
func (t *Testbed) startAuthority(ctx context.Context) (err error) {
	keys := filepath.Join(t.folder, "admin-keys.json")
	if t.fleetKey, err = adminkeys.Add(keys, "bench-validators", adminkeys.Validator); err != nil {
		return err
	}
	child, state, err := t.newChild(process.Start{CPUs: t.processors.others}, serve.Config{
		Role: serve.Authority, AdminKeysFile: keys,
	})
	if err != nil {
		return err
	}
	t.helpers = append(t.helpers, child)
	t.fleetAddress = state.Address
	return awaitServing(ctx, state.Address)
}

// fleetSize is the number of validators that share a process. More validators would slow down each other's
// first load.
const fleetSize = 10

// startFleet starts the validators that are not measured, and waits until they have loaded the store.
func (t *Testbed) startFleet(ctx context.Context) error {
	others := t.options.Validators
	for _, s := range t.servers {
		if s.role == serve.Validator {
			others--
		}
	}
	if others <= 0 {
		return nil
	}
	fmt.Fprintf(t.options.Progress, "Starting: %d other validators\n", others)
	for started := 0; started < others; started += fleetSize {
		child, state, err := t.newChild(process.Start{CPUs: t.processors.others}, serve.Config{
			Role: serve.Fleet, Validators: min(others-started, fleetSize), Authority: t.fleetAddress, FleetKey: t.fleetKey.Reveal(),
			ID: fmt.Sprintf("other-%03d", started),
		})
		if err != nil {
			return fmt.Errorf("other validators: %w", err)
		}
		t.helpers = append(t.helpers, child)
		for _, address := range state.Addresses {
			if err := awaitServing(ctx, address); err != nil {
				return fmt.Errorf("other validators: %w", err)
			}
		}
	}
	return nil
}
