package testbed

import (
	"context"
	"fmt"
	"time"

	"github.com/countersign/countersign/services/benchmark/internal/process"
	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/benchmark/internal/serve"
	"github.com/countersign/countersign/services/internal/load"
)

// Server is a leg whose server runs in a process of its own.
type Server struct {
	leg
	child   *process.Child
	address string
	// http is the address of a validator's metrics. account is the name of the validator's own Redis account;
	// empty when it uses the URL of all servers.
	http, account string
	// maxInFlight bounds the calls in flight at a validator; 0 is its default.
	maxInFlight int
}

// Address returns host:port of the gRPC server.
func (s *Server) Address() string { return s.address }

// Connect opens connections to the server.
func (s *Server) Connect(ctx context.Context, connections int) (load.Caller, error) {
	return s.connect(ctx, s.address, connections)
}

// CPU returns the CPU time of the process so far. It returns false when the system does not report it.
func (s *Server) CPU() (time.Duration, bool) { return s.child.CPU() }

// Ask sends a command to the process, and returns its state after the command.
func (s *Server) Ask(command serve.Command) (state serve.State, err error) {
	if err = s.child.Ask(command, &state); err == nil && state.Error != "" {
		err = fmt.Errorf("%s: %s", s.Title, state.Error)
	}
	return state, err
}

// Stop shuts the process down in order.
func (s *Server) Stop() { s.child.Stop() }

// Kill ends the process at once, without a shutdown.
func (s *Server) Kill() { s.child.Kill() }

// Pause stops the process (SIGSTOP) until Resume. The kernel still accepts connections and bytes for it.
func (s *Server) Pause() error { return s.child.Pause() }

// Resume lets a paused process continue.
func (s *Server) Resume() error { return s.child.Resume() }

// announce prints that a server is starting, and starts it.
func (t *Testbed) announce(ctx context.Context, s *Server) error {
	fmt.Fprintf(t.options.Progress, "Starting: %s\n", s.Title)
	return t.start(ctx, s)
}

// start starts a server. It waits until a validator has loaded the store.
func (t *Testbed) start(ctx context.Context, s *Server) error {
	redis := ""
	if s.role == serve.Validator && t.options.ResyncEvery > 0 {
		var err error
		s.account = "bench-" + s.Name
		if redis, err = t.createAccount(ctx, s.account); err != nil {
			return err
		}
	}
	if err := t.launch(s, serve.Config{RedisURL: redis}); err != nil {
		return err
	}
	t.servers = append(t.servers, s)
	if s.role == serve.Validator {
		return awaitServing(ctx, s.address)
	}
	return nil
}

// launch starts the process of a server.
func (t *Testbed) launch(s *Server, c serve.Config) error {
	c.Role, c.StreamWorkers, c.MaxInFlight, c.Uncounted = s.role, s.workers, s.maxInFlight, s.uncounted
	c.Authority, c.FleetKey, c.ID = t.fleetAddress, t.fleetKey.Reveal(), s.Name
	start := process.Start{Env: s.environment(report.MemoryBytes()), CPUs: t.processors.servers}
	child, state, err := t.newChild(start, c)
	if err != nil {
		return err
	}
	s.child, s.address, s.http = child, state.Address, state.HTTP
	return nil
}

// StartAnother starts another server of the same leg as like, under another name.
func (t *Testbed) StartAnother(ctx context.Context, like *Server, name string) error {
	another := &Server{leg: like.leg}
	another.Name = name
	return t.start(ctx, another)
}

// StartBounded starts a validator that accepts at most maxInFlight calls at the same time.
func (t *Testbed) StartBounded(ctx context.Context, maxInFlight int) (*Server, error) {
	s := &Server{leg: leg{
		Leg: report.Leg{Name: "overloaded", Title: "validator with a low bound"}, role: serve.Validator, tuned: true, asks: true,
		connect: connectAuthorize,
	}, maxInFlight: maxInFlight}
	return s, t.announce(ctx, s)
}

// unreachable is a Redis URL. No program listens on its port.
const unreachable = "redis://127.0.0.1:1/0"

// Restart starts the process of a stopped or killed validator again, at a new address. It calls listening
// when the validator listens, and returns when the validator has loaded the store.
func (t *Testbed) Restart(ctx context.Context, s *Server, listening func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := t.launch(s, serve.Config{}); err != nil {
		return err
	}
	listening()
	return awaitServing(ctx, s.address)
}

// RestartWithoutStore starts the process of a stopped or killed validator again, at a new address. The
// validator cannot reach Redis, so it loads nothing.
func (t *Testbed) RestartWithoutStore(ctx context.Context, s *Server) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.launch(s, serve.Config{RedisURL: unreachable, Quiet: true})
}
