package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Endpoint is what Unary calls.
type Endpoint struct {
	// Address is host:port, Method the path of the gRPC method.
	Address, Method string
	// Dial opens a TCP connection to the address; nil is a plain dialer.
	Dial func(ctx context.Context) (net.Conn, error)
	// Credentials secure the connections.
	Credentials credentials.TransportCredentials
	// Decode decodes an answer. It must be safe for concurrent use.
	Decode func(message []byte) (Answer, error)
}

// AuthorizeMethod is the path of ValidatorService.Authorize.
const AuthorizeMethod = countersignv1.ValidatorService_Authorize_FullMethodName

// DecodeAuthorize decodes the answer of AuthorizeMethod.
func DecodeAuthorize(message []byte) (Answer, error) {
	var response countersignv1.AuthorizeResponse
	if err := proto.Unmarshal(message, &response); err != nil {
		return Answer{}, err
	}
	return Answer{response.GetDecision(), response.GetReason()}, nil
}

// DecodeEmpty accepts only the empty message.
func DecodeEmpty(message []byte) (Answer, error) {
	if len(message) > 0 {
		return Answer{}, fmt.Errorf("an answer of %d bytes: want an empty one", len(message))
	}
	return Answer{}, nil
}

// Unary makes unary gRPC calls, without compression and without deadlines, over a fixed number of
// connections. Its frames equal the frames of grpc-go: after the first call of a connection, the headers take
// 7 bytes (RFC 7541). A connection that ends, or that the server wants to end, is replaced.
type Unary struct {
	lanes  []*lane
	closed context.CancelFunc
	group  sync.WaitGroup
}

var _ Caller = (*Unary)(nil)

// NewUnary opens the connections. It fails when one of them cannot be opened.
func NewUnary(ctx context.Context, endpoint Endpoint, connections int) (*Unary, error) {
	if endpoint.Dial == nil {
		endpoint.Dial = func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", endpoint.Address)
		}
	}
	running, cancel := context.WithCancel(context.Background())
	u := &Unary{closed: cancel}
	for range connections {
		l := &lane{endpoint: endpoint, calls: map[uint32]*Call{}}
		if err := l.connect(ctx); err != nil {
			_ = u.Close()
			return nil, err
		}
		u.lanes = append(u.lanes, l)
		u.group.Go(func() { l.run(running) })
	}
	return u, nil
}

// Start implements Caller.
func (u *Unary) Start(c *Call) { u.lanes[c.Slot%len(u.lanes)].start(c) }

// Flush implements Caller.
func (u *Unary) Flush() {
	for _, l := range u.lanes {
		l.flush()
	}
}

var errClosed = errors.New("the caller was closed")

// Close implements Caller.
func (u *Unary) Close() error {
	u.closed()
	for _, l := range u.lanes {
		l.hangUp()
	}
	u.group.Wait()
	return nil
}
