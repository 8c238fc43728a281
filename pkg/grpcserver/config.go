package grpcserver

import (
	"fmt"

	"google.golang.org/grpc/encoding"

	"github.com/countersign/countersign/pkg/reload"
)

// Sizes of the largest received message, in bytes, for Config.MaxReceive.
const (
	// AuthorizeMaxReceive is larger than any token that usual HTTP servers accept in a header, so that an
	// overlong token is answered with TOKEN_MALFORMED and not with a transport error.
	AuthorizeMaxReceive = 64 << 10
	// ManagementMaxReceive is enough for an import of 1,000 tokens, each with a secret of 4 KiB, a name of
	// 100 characters and its scopes.
	ManagementMaxReceive = 5 << 20
)

// Config configures a gRPC server.
type Config struct {
	// Listen is the host:port to listen on; an empty host means every interface.
	Listen string
	// TLS names the server's certificate files; the zero value means plain text.
	TLS TLS
	// Files reloads the files of TLS when they change; nil reads them once.
	Files *reload.Files
	// Reflection lets anyone who can connect list the services and read their descriptors.
	Reflection bool
	// MaxReceive is the size in bytes of the largest message accepted. A call with a larger message fails
	// with RESOURCE_EXHAUSTED. 0 means AuthorizeMaxReceive.
	MaxReceive int
	// StreamWorkers is the number of goroutines kept for calls. Their stacks have already grown, which makes
	// calls cheaper if there are as many workers as calls in flight. A call that finds no free worker gets a
	// new goroutine. 0 keeps no workers.
	StreamWorkers uint32
	// RequestLimits bounds the calls of the registered services; the zero value sets no bound.
	RequestLimits RequestLimits
	// MaxConnections is how many connections may be open. A connection above it is closed on arrival. 0
	// means no bound.
	MaxConnections int
	// Codec encodes and decodes all messages; nil means Protocol Buffers.
	Codec encoding.CodecV2
	// Drain configures how Serve ends.
	Drain Drain
}

func (c Config) withDefaults() (Config, error) {
	if c.MaxReceive < 0 {
		return c, fmt.Errorf("largest message of %d bytes: want a positive number", c.MaxReceive)
	}
	if c.MaxReceive == 0 {
		c.MaxReceive = AuthorizeMaxReceive
	}
	if l := c.RequestLimits; l.enabled() && (l.MaxCalls < 1 || l.MaxBytes < int64(c.MaxReceive)) {
		return c, fmt.Errorf(
			"request limits of %d calls and %d bytes: want at least one call, and at least the %d bytes of the largest message",
			l.MaxCalls, l.MaxBytes, c.MaxReceive)
	}
	if c.MaxConnections < 0 {
		return c, fmt.Errorf("at most %d connections: want 0 or more", c.MaxConnections)
	}
	drain, err := c.Drain.withDefaults()
	c.Drain = drain
	return c, err
}
