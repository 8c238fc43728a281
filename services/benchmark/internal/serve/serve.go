// Package serve runs in the child processes of a measurement: the compared servers, and the writer of
// changes. The first line of a child's standard input is its Config. Each further line is a Command.
//
// This package is not part of the public API and may change in any release.
package serve

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/services/internal/daemon"
)

// Name is the name of the command that is a child process.
const Name = "serve"

// Role is the role of a child.
type Role string

// The roles.
const (
	// Empty answers the empty message with the empty message.
	Empty Role = "empty"
	// Validator is the product's validator.
	Validator Role = "validator"
	// Fleet is several validators that are not measured.
	Fleet Role = "fleet"
	// Lookup is what the product is compared with: it reads Redis for each call and caches nothing.
	Lookup Role = "lookup"
	// Authority is the product's authority, to which validators report.
	Authority Role = "authority"
	// Writer changes policies, and cuts validators off from Redis.
	Writer Role = "writer"
)

// Config is the first line.
type Config struct {
	Role Role
	// StreamWorkers is grpc.NumStreamWorkers for Empty and Lookup; 0 is the default of grpc-go. A Validator
	// has its own.
	StreamWorkers uint32
	// RedisURL and RingFile describe the store, for all roles but Empty. Embedded tells that it is the
	// embedded store.
	RedisURL, RingFile string
	Embedded           bool
	// AdminKeysFile is for Authority.
	AdminKeysFile string
	// Authority is the address to which a Validator reports, with FleetKey, under the name ID.
	Authority, FleetKey, ID string
	// MaxInFlight bounds the calls in flight at a Validator; 0 is its default.
	MaxInFlight int
	// Uncounted makes a Validator count no decisions.
	Uncounted bool
	// Validators is the number of validators of Fleet. They report under ID and a number.
	Validators int
	// ChangesPerSecond is for Writer.
	ChangesPerSecond float64
	// Quiet leaves warnings out of the log. It is set when obstacles to following the store are intended, and
	// for validators that are not measured.
	Quiet bool

	log *slog.Logger
}

// Command is every other line. The zero value only asks for the state.
type Command struct {
	// Resync makes Writer resync a validator repeatedly. It is done when the first resync has begun. Steady
	// ends the resyncs. It is done when the validator has loaded everything.
	Resync *Target `json:",omitempty"`
	Steady bool    `json:",omitempty"`
	// Collect makes the child collect its garbage before it reads its state.
	Collect bool `json:",omitempty"`
}

// State is the answer to every line: the child's state after it.
type State struct {
	// Error is the reason why the child could not start, or could not carry out the command; else empty.
	Error string `json:",omitempty"`
	// Address is host:port of the gRPC server.
	Address string `json:",omitempty"`
	// Addresses are the addresses of the validators of Fleet.
	Addresses []string `json:",omitempty"`
	// HTTP is host:port of the server of metrics.
	HTTP string `json:",omitempty"`
	// Mallocs is the number of objects allocated so far (runtime.MemStats), GCs the number of collections.
	Mallocs, GCs uint64
	// HeapBytes is the size of the heap, garbage since the last collection included. SystemBytes is the
	// memory that the process has from the system.
	HeapBytes, SystemBytes uint64
	// Changes is the number of changes that were made, Failed the number of changes that failed.
	Changes, Failed uint64
	// Resyncs is the number of resyncs since Command.Resync, ResyncTime their total time. Both include the
	// resync in progress.
	Resyncs    uint64
	ResyncTime time.Duration
	// Processors is the number of processors that the child may use, Goroutines the number of its goroutines.
	Processors, Goroutines int
}

// server is the implementation of a role.
type server interface {
	// Run serves until ctx ends. The end of ctx is not an error.
	Run(ctx context.Context) error
	// state fills in the fields of the role.
	state(*State)
}

// commanded is a server that carries out commands.
type commanded interface {
	// command returns when a command is done, as Command describes. ctx ends with the server.
	command(ctx context.Context, c Command)
}

// Main runs a child until the end of its input.
func Main(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		return fmt.Errorf("this command is for the child processes of the other commands, not for people")
	}
	stderr := daemon.OpenStderr(os.Stderr)
	defer stderr.End()
	var config Config
	if err := json.Unmarshal(lines.Bytes(), &config); err != nil {
		return err
	}
	answers := json.NewEncoder(out)
	config.log = stderr.Logger(logger(config))
	s, err := newServer(config)
	if err != nil {
		return answers.Encode(State{Error: err.Error()})
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.Run(ctx) })
	for err = answers.Encode(stateOf(s)); err == nil && lines.Scan(); {
		var c Command
		if err = json.Unmarshal(lines.Bytes(), &c); err != nil {
			break
		}
		if c.Collect {
			runtime.GC()
		}
		if s, can := s.(commanded); can {
			s.command(ctx, c)
		}
		err = answers.Encode(stateOf(s))
	}
	stop()
	if failed := group.Wait(); failed != nil {
		return failed
	}
	return err
}

func newServer(c Config) (server, error) {
	switch c.Role {
	case Empty:
		return newEmpty(c)
	case Validator:
		return newValidator(c)
	case Authority:
		return newAuthority(c)
	case Fleet:
		return newFleet(c)
	case Lookup:
		return newLookup(c)
	case Writer:
		return newWriter(c)
	}
	return nil, fmt.Errorf("unknown role %q", c.Role)
}

func stateOf(s server) State {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	state := State{
		Mallocs: m.Mallocs, GCs: uint64(m.NumGC), HeapBytes: m.HeapAlloc, SystemBytes: m.Sys - m.HeapReleased,
		Processors: runtime.GOMAXPROCS(0), Goroutines: runtime.NumGoroutine(),
	}
	s.state(&state)
	return state
}

// logger makes a logger for warnings and errors. The parent shows them, since it shares its standard error.
func logger(c Config) func(io.Writer) *slog.Logger {
	level := slog.LevelWarn
	if c.Quiet {
		level = slog.LevelError
	}
	return func(w io.Writer) *slog.Logger {
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
	}
}
