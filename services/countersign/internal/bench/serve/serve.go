// Package serve is what runs in the child processes of a comparison: the servers that are compared, and the writer of
// changes. A child is told what to be in the first line of its standard input, and gets its commands there.
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

	"golang.org/x/sync/errgroup"
)

// Role is what a child is.
type Role string

// The roles.
const (
	// Empty answers the empty message with the empty message.
	Empty Role = "empty"
	// Validator is the product's.
	Validator Role = "validator"
	// Lookup is what the product is compared with: it asks Redis about each call, and remembers nothing.
	Lookup Role = "lookup"
	// Authority is the product's, too: validators report to it.
	Authority Role = "authority"
	// Writer changes policies.
	Writer Role = "writer"
)

// Config is the first line.
type Config struct {
	Role Role
	// StreamWorkers is that of grpc.NumStreamWorkers for Empty and Lookup; 0 is the default of grpc-go. Validator has its
	// own.
	StreamWorkers uint32
	// RedisURL and RingFile say where the store is, for all roles but Empty; Embedded that it is the embedded one.
	RedisURL, RingFile string
	Embedded           bool
	// AdminKeysFile is for Authority.
	AdminKeysFile string
	// Authority is where a Validator reports, with FleetKey, under the name ID.
	Authority, FleetKey, ID string
	// ChangesPerSecond is for Writer.
	ChangesPerSecond float64
}

// State is the answer to every line. Those after the first may say anything: each asks for the state as it is then.
type State struct {
	// Error is empty unless the child could not start.
	Error string `json:",omitempty"`
	// Address is host:port of the gRPC server.
	Address string `json:",omitempty"`
	// Mallocs is how many objects were allocated so far (runtime.MemStats), GCs how many collections there were.
	Mallocs, GCs uint64
	// HeapBytes is how much the latest collection has left, and what was allocated since.
	HeapBytes uint64
	// Changes is how many were made, Failed how many were not.
	Changes, Failed uint64
	// Processors is how many the child may use at once.
	Processors int
}

// server is what a role runs.
type server interface {
	// Run serves until ctx ends, which is not an error.
	Run(ctx context.Context) error
	// state fills in what is the role's own.
	state(*State)
}

// Main is the whole of a child. It ends when its input does.
func Main(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		return fmt.Errorf("this command is what 'countersign bench compare' starts; it is not for people")
	}
	var config Config
	if err := json.Unmarshal(lines.Bytes(), &config); err != nil {
		return err
	}
	answers := json.NewEncoder(out)
	s, err := newServer(config)
	if err != nil {
		return answers.Encode(State{Error: err.Error()})
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.Run(ctx) })
	for more := true; more && err == nil; more = lines.Scan() {
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
	state := State{Mallocs: m.Mallocs, GCs: uint64(m.NumGC), HeapBytes: m.HeapAlloc, Processors: runtime.GOMAXPROCS(0)}
	s.state(&state)
	return state
}

// logger logs what is wrong to the standard error, which the parent shows.
func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
