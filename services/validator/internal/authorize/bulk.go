package authorize

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/grpcserver"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// MaxRequests is how many requests one message of a stream may carry. It bounds the answers that the
	// server must hold: a message of 64 KiB has room for 32,000 empty requests.
	MaxRequests = 256

	// maxWaitingOfOne is how many of the MaxWaiting slots one stream may hold, so that a client that does not
	// read its answers cannot take them all.
	maxWaitingOfOne = 64
)

// Server is the part of grpcserver.Server that Bulk needs.
type Server interface {
	// Draining is closed when streams should end.
	Draining() <-chan struct{}
	// StatusOf returns the status that a caller gets for an error, and logs the cause that it leaves out.
	StatusOf(ctx context.Context, err error) *status.Status
}

// Bulk implements countersignv1.BulkValidatorServiceServer. It is safe for concurrent use.
type Bulk struct {
	countersignv1.UnimplementedBulkValidatorServiceServer
	service *Service
	server  Server
}

// NewBulk returns a service that answers the requests of streams as a Service answers calls, and counts
// them in the same metrics.
func NewBulk(service *Service, server Server) *Bulk {
	return &Bulk{service: service, server: server}
}

var (
	errShuttingDown = apierr.Unavailable(apierr.ShuttingDown, "the server shuts down; ask for what was not answered elsewhere")
	errTooLarge     = apierr.Exhausted("MESSAGE_TOO_LARGE", "a message may have at most %d bytes",
		grpcserver.AuthorizeMaxReceive)
	errTooManyInOne = apierr.Exhausted("TOO_MANY_REQUESTS", "a message may carry at most %d requests", MaxRequests)
)

// AuthorizeStream implements countersignv1.BulkValidatorServiceServer. It receives on a goroutine of its
// own, so that the handler can return when the server drains: only that ends a RecvMsg that waits for the
// client.
func (b *Bulk) AuthorizeStream(
	grpcStream grpc.BidiStreamingServer[countersignv1.AuthorizeStreamRequest, countersignv1.AuthorizeStreamResponse],
) error {
	ctx, cancel := context.WithCancel(grpcStream.Context())
	defer cancel()
	b.service.limit.streams.Add(1)
	defer b.service.limit.streams.Add(-1)
	s := newStream(ctx, b, grpcStream)
	received := make(chan error, 1)
	go s.guard(func() { received <- s.receive() })

	var err error
	select {
	case err = <-received:
		if err != nil {
			cancel()
		}
	case value := <-s.panicked:
		cancel()
		s.end()
		panic(value) // on the one goroutine where it is caught
	case <-b.server.Draining():
		err = errShuttingDown
	}
	s.end()
	select {
	case value := <-s.panicked:
		panic(value)
	default:
	}
	return err
}
