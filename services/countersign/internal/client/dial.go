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

// Target is a server to talk to.
type Target struct {
	// Role is what people call the server: Authority, Validator, or server when it may be either.
	Role     string
	Address  Address
	Security Security
	// Key is sent with every call.
	Key Key
	// Timeout bounds each call, the connection it may have to wait for included.
	Timeout time.Duration
}

// Dial makes a connection, which is set up by the first call. A call fails at once when nothing answers,
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

// dialer opens the connections of one Dial, and remembers why it could not.
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

// call bounds a call and finds words for one that did not reach the server.
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

// UnreachableError says that a call was not sent, since there was no connection to send it over.
type UnreachableError struct {
	Target Target
	// Tried tells whether there was an address to try; if not, its name means nothing.
	Tried bool
	// Dial is why no connection could be opened; nil when one was opened and then went wrong.
	Dial error
	// Status is what grpc made of it.
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
		return fmt.Sprintf("nothing answers at %s within %s: is the %s running?", e.Target.Address, e.Target.Timeout, e.Target.Role)
	case !e.Tried:
		return fmt.Sprintf("%s cannot be found by its name: %s", e.Target.Address, e.Status.Message())
	case grpcclient.AnswersPlain(e.Status.Err()):
		return fmt.Sprintf("no TLS connection with %s, which answers in plain text. Give --plaintext if nobody can listen on the way, or let the %s have a certificate (its --tls-cert-file and --tls-key-file): %s",
			e.Target.Address, e.Target.Role, e.Status.Message())
	case strings.Contains(e.Status.Message(), "looked like an HTTP/1.1 header"): // golang.org/x/net/http2
		return fmt.Sprintf("%s answers as a web server does, such as the one for metrics (--http-listen). Give the address of the %s's gRPC server (--listen): %s",
			e.Target.Address, e.Target.Role, e.Status.Message())
	case strings.Contains(e.Status.Message(), "certificate signed by unknown authority"): // crypto/x509
		return fmt.Sprintf("no TLS connection with %s: this machine does not know who signed its certificate. Give --tls-ca-file FILE, the authorities to check it against: %s",
			e.Target.Address, e.Status.Message())
	case e.Target.Security.Encrypts(e.Target.Address):
		return fmt.Sprintf("no TLS connection with %s: %s", e.Target.Address, e.Status.Message())
	}
	return fmt.Sprintf("no plain text connection with %s; does it want TLS? Then give --tls, or --tls-ca-file FILE when this machine does not know who signed its certificate: %s",
		e.Target.Address, e.Status.Message())
}
