package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/grpcclient"
)

// Target is a server and how to call it.
type Target struct {
	// Role is the server's name in messages: Authority, Validator, or "server" when it may be either.
	Role     string
	Address  Address
	Security Security
	// Key is sent with every call.
	Key Key
	// Timeout bounds each call, including the wait for the connection.
	Timeout time.Duration
}

// Dial returns a connection, which the first call opens. A call that cannot reach the server fails at once
// with an *UnreachableError.
func Dial(to Target) (*grpc.ClientConn, error) {
	transport, err := to.Security.Credentials(to.Address)
	if err != nil && to.Security.CAFile != "" {
		err = fmt.Errorf("--tls-ca-file: %w", err)
	}
	if err != nil {
		return nil, err
	}
	d := &dialer{Target: to}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithContextDialer(d.dial),
		grpc.WithUnaryInterceptor(d.call),
	}
	if to.Key.From != "" {
		options = append(options, grpc.WithPerRPCCredentials(to.Security.Bearer(to.Key.secret, to.Address)))
	}
	return grpc.NewClient(to.Address.Target(), options...)
}

// dialer opens the connections of one Dial, and remembers the last failure.
type dialer struct {
	Target
	mu     sync.Mutex
	tried  bool
	failed error
}

func (d *dialer) dial(ctx context.Context, address string) (net.Conn, error) {
	connection, err := d.Security.Dial(ctx, d.Address, address)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tried = true
	if err != nil {
		d.failed = err
	}
	return connection, err
}

// call bounds a call, and explains why a call did not reach the server.
func (d *dialer) call(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	var reached peer.Peer
	err := invoke(ctx, method, request, reply, connection, append(options, grpc.Peer(&reached))...)
	if err == nil {
		return nil
	}
	if reached.Addr != nil {
		return d.wrongServer(ctx, err, connection, invoke)
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded:
		d.mu.Lock()
		defer d.mu.Unlock()
		return &UnreachableError{Target: d.Target, Tried: d.tried, Dial: d.failed, Status: status.Convert(err)}
	}
	return err
}

// UnreachableError means that a call was not sent, because there was no connection.
type UnreachableError struct {
	Target Target
	// Tried says whether there was an address to connect to. If not, the name could not be resolved.
	Tried bool
	// Dial is why no connection could be opened; nil when one was opened and failed later.
	Dial error
	// Status is gRPC's status of the call.
	Status *status.Status
}

// Error says what is wrong and what to look at.
func (e *UnreachableError) Error() string {
	var refused *net.OpError
	switch {
	case errors.As(e.Dial, &refused):
		return fmt.Sprintf("nothing answers at %s: is the %s running? (%v)", e.Target.Address, e.Target.Role, e.Dial)
	case e.Dial != nil:
		return e.Dial.Error()
	case e.Status.Code() == codes.DeadlineExceeded:
		return fmt.Sprintf("nothing answers at %s within %s: is the %s running?", e.Target.Address, e.Target.Timeout,
			e.Target.Role)
	case !e.Tried:
		return fmt.Sprintf("the name of %s cannot be resolved: %s", e.Target.Address, e.Status.Message())
	case grpcclient.AnswersPlain(e.Status.Err()):
		return fmt.Sprintf("no TLS connection to %s, which uses plain text. Give --plaintext if the network is trusted, "+
			"or give the %s a certificate (its --tls-cert-file and --tls-key-file): %s",
			e.Target.Address, e.Target.Role, e.Status.Message())
	case strings.Contains(e.Status.Message(), "looked like an HTTP/1.1 header"): // golang.org/x/net/http2
		return fmt.Sprintf("%s is a web server, such as the one for metrics (--http-listen). "+
			"Give the address of the %s's gRPC server (--listen): %s",
			e.Target.Address, e.Target.Role, e.Status.Message())
	case strings.Contains(e.Status.Message(), "certificate signed by unknown authority"): // crypto/x509
		return fmt.Sprintf("no TLS connection to %s: this machine does not know the certificate authority. "+
			"Give --tls-ca-file FILE with that authority's certificate: %s",
			e.Target.Address, e.Status.Message())
	case e.Target.Security.Encrypts(e.Target.Address):
		return fmt.Sprintf("no TLS connection to %s: %s", e.Target.Address, e.Status.Message())
	}
	return fmt.Sprintf("no plain text connection to %s; does it use TLS? Then give --tls, "+
		"or --tls-ca-file FILE if this machine does not know its certificate authority: %s",
		e.Target.Address, e.Status.Message())
}
