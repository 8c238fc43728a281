package grpcserver

import (
	"fmt"

	"google.golang.org/grpc/encoding"

	"github.com/countersign/countersign/pkg/reload"
)

// Bounds of one received message, in bytes, for Config.MaxReceive.
const (
	// AuthorizeMaxReceive holds the largest token that a usual HTTP server lets through in a header, so
	// that it is answered (TOKEN_MALFORMED) and not an error.
	AuthorizeMaxReceive = 64 << 10
	// ManagementMaxReceive holds an import of 1,000 tokens with secrets of 4 KiB, names of 100 characters
	// and scopes.
	ManagementMaxReceive = 5 << 20
)

// Config is what a gRPC server is started with.
type Config struct {
	// Listen is the host:port to listen on; an empty host means every interface.
	Listen string
	// TLS is empty for plain text.
	TLS TLS
	// Files read the files of TLS again when they change; nil: they are read once.
	Files *reload.Files
	// Reflection lets anyone who can connect list the services and read their descriptors.
	Reflection bool
	// MaxReceive is the size in bytes of the largest message accepted; a larger one is RESOURCE_EXHAUSTED.
	// 0 means AuthorizeMaxReceive, the smaller of the two.
	MaxReceive int
	// StreamWorkers is the number of goroutines kept for calls; it pays when it is at least the number of
	// calls in flight, since their stacks have grown already. A call that finds none free gets its own. 0
	// keeps none.
	StreamWorkers uint32
	// Requests bounds the calls of the services that are registered on the server; the zero value does not.
	Requests Requests
	// MaxConnections is how many connections may be open at once; more are closed as they come. 0 is no
	// bound.
	MaxConnections int
	// Codec encodes and decodes all messages; nil is that of protobuf messages.
	Codec encoding.CodecV2
	// Drain says how Serve ends.
	Drain Drain
}

func (c Config) withDefaults() (Config, error) {
	if c.MaxReceive < 0 {
		return c, fmt.Errorf("largest message of %d bytes: want a positive number", c.MaxReceive)
	}
	if c.MaxReceive == 0 {
		c.MaxReceive = AuthorizeMaxReceive
	}
	if bound := c.Requests; bound.bounded() && (bound.MaxCalls < 1 || bound.MaxBytes < int64(c.MaxReceive)) {
		return c, fmt.Errorf("bounds of requests of %d calls and %d bytes: want at least one call, and room for a message of %d bytes",
			bound.MaxCalls, bound.MaxBytes, c.MaxReceive)
	}
	if c.MaxConnections < 0 {
		return c, fmt.Errorf("at most %d connections: want 0 or more", c.MaxConnections)
	}
	drain, err := c.Drain.withDefaults()
	c.Drain = drain
	return c, err
}
