// Package serve is what runs in the child processes of a comparison: the servers that are compared, and the
// writer of changes. A child is told what to be in the first line of its standard input, and gets its
// commands there. This package is not part of the public API and may change in any release.
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

// Role is what a child is.
type Role string

// The roles.
const (
	// Empty answers the empty message with the empty message.
	Empty Role = "empty"
	// Validator is the product's.
	Validator Role = "validator"
	// Fleet is several of them, which are there beside the one that is measured.
	Fleet Role = "fleet"
	// Lookup is what the product is compared with: it asks Redis about each call, and remembers nothing.
	Lookup Role = "lookup"
	// Authority is the product's, too: validators report to it.
	Authority Role = "authority"
	// Writer changes policies, and cuts validators off.
	Writer Role = "writer"
)

// Config is the first line.
type Config struct {
	Role Role
	// StreamWorkers is that of grpc.NumStreamWorkers for Empty and Lookup; 0 is the default of grpc-go.
	// Validator has its own.
	StreamWorkers uint32
	// RedisURL and RingFile say where the store is, for all roles but Empty; Embedded that it is the
	// embedded one.
	RedisURL, RingFile string
	Embedded           bool
	// AdminKeysFile is for Authority.
	AdminKeysFile string
	// Authority is where a Validator reports, with FleetKey, under the name ID.
	Authority, FleetKey, ID string
	// MaxInFlight is the bound of a Validator; 0 is its default.
	MaxInFlight int
	// Validators is how many Fleet is; they report under ID with a number behind it.
	Validators int
	// ChangesPerSecond is for Writer.
	ChangesPerSecond float64
	// Quiet leaves out of the log what is in the way of following the store: since that is what is wanted,
	// or happens to validators that nobody asks.
	Quiet bool

	log *slog.Logger
}

// Command is every other line; the zero value only asks for the state.
type Command struct {
	// Resync tells Writer to make a validator load everything anew, again and again, which takes until the
	// first load has begun; Steady to leave that, which takes until the validator has all.
	Resync *Victim `json:",omitempty"`
	Steady bool    `json:",omitempty"`
	// Collect makes the child collect its garbage before it tells its state.
	Collect bool `json:",omitempty"`
}

// State is the answer to every line: how the child is then.
type State struct {
	// Error is empty unless the child could not start, or do what it was told to.
	Error string `json:",omitempty"`
	// Address is host:port of the gRPC server.
	Address string `json:",omitempty"`
	// Addresses are those of the validators of Fleet.
	Addresses []string `json:",omitempty"`
	// HTTP is that of the metrics.
	HTTP string `json:",omitempty"`
	// Mallocs is how many objects were allocated so far (runtime.MemStats), GCs how many collections there
	// were.
	Mallocs, GCs uint64
	// HeapBytes is how much the latest collection has left, and what was allocated since; SystemBytes is
	// the memory that the process has of the system for itself.
	HeapBytes, SystemBytes uint64
	// Changes is how many were made, Failed how many were not.
	Changes, Failed uint64
	// Resyncs is how often a validator has loaded everything anew since Resync, ResyncTime how long that
	// took in all; the one that goes on now is in both.
	Resyncs    uint64
	ResyncTime time.Duration
	// Processors is how many the child may use at once, Goroutines how many it has.
	Processors, Goroutines int
}

// server is what a role runs.
type server interface {
	// Run serves until ctx ends, which is not an error.
	Run(ctx context.Context) error
	// state fills in what is the role's own.
	state(*State)
}

// commanded is a server that does what it is told.
type commanded interface {
	// command returns when it is done, or under way. The end of ctx is that of the server.
	command(ctx context.Context, c Command)
}

// Main is the whole of a child. It ends when its input does.
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
	return nil, fmt.Errorf("there is no role %q", c.Role)
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

// logger makes a logger of what is wrong; the parent shows the standard error.
func logger(c Config) func(io.Writer) *slog.Logger {
	level := slog.LevelWarn
	if c.Quiet {
		level = slog.LevelError
	}
	return func(w io.Writer) *slog.Logger {
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
	}
}
