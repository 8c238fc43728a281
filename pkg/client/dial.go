package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	_ "google.golang.org/grpc/health" // enables health checks in grpc-go
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/countersign/countersign/pkg/client/internal/spread"
	"github.com/countersign/countersign/pkg/grpcclient"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// pingAfter is the shortest ping interval of grpc-go clients, and the shortest that grpcserver permits.
	// Pings find dead connections that have no traffic. With traffic, package spread notices missing answers
	// sooner. The kernel also notices missing acknowledgements sooner, because grpc-go uses pingTimeout as
	// TCP_USER_TIMEOUT (RFC 5482).
	pingAfter   = 10 * time.Second
	pingTimeout = 2 * time.Second

	// connectTimeout bounds one attempt to connect. The pause between two attempts begins at about 100 ms and
	// grows to about maxConnectPause. It stays short, so that the client soon uses a restarted validator.
	connectTimeout  = 2 * time.Second
	maxConnectPause = 2 * time.Second
)

// DialOptions configure Dial. The zero value means TLS with the system's certificate authorities, and plain
// text on loopback.
type DialOptions struct {
	// Security says which connections are encrypted. The connections to all addresses must be encrypted, or
	// none of them.
	Security grpcclient.Security
	// GRPC are further gRPC options, such as interceptors. Transport credentials in GRPC replace the
	// credentials from Security. Options for resolvers, load balancing and keepalive can break what Dial
	// promises.
	GRPC []grpc.DialOption
}

// Connection is a connection to several validators, for New and NewStreaming. It spreads questions evenly
// over the validators that serve. It is safe for concurrent use. The caller must Close it.
type Connection struct {
	*grpc.ClientConn
	again budget
}

// Dial returns a connection to validators. It does not wait for the validators to answer. It fails when an
// address or an option is wrong.
//
// An address is host:port and may begin with dns:///. A single address is resolved again and again, and
// each of its IP addresses is a validator, as with a headless service of Kubernetes. With several addresses
// each address is one validator.
//
// The client does not ask validators that do not serve (grpc.health.v1), or that have stopped answering. It
// asks one other validator in two cases. First, when the first validator returns UNAVAILABLE or OVERLOADED.
// Second, when the first validator does not answer within 250 ms or a quarter of the question's time,
// whichever is less. A question with a MinRevision waits half of its time. The first answer counts, and a
// denial is an answer. So one validator in trouble makes no question fail that may take half a second. While
// too many questions fail, the client asks no second validator. An outage of all validators therefore does
// not double their load (gRPC A6).
//
// Proxies in the environment, such as HTTPS_PROXY, are not used, because they would see secrets.
func Dial(addresses []string, options DialOptions) (*Connection, error) {
	places, err := parse(addresses)
	if err != nil {
		return nil, err
	}
	transport, err := options.Security.Credentials(places[0])
	if err != nil {
		return nil, fmt.Errorf("connections to validators: %w", err)
	}
	for _, a := range places {
		if options.Security.Encrypts(a) != options.Security.Encrypts(places[0]) {
			return nil, fmt.Errorf("%s is on this machine and %s is not, or the reverse: ask for TLS or for plain text", a, places[0])
		}
	}
	d := dialer{security: options.Security, places: places}
	target, resolving := d.target()
	all := append([]grpc.DialOption{
		resolving,
		grpc.WithTransportCredentials(transport),
		grpc.WithContextDialer(d.dial),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(), // DNS must not change how validators are asked
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxConnectPause,
			},
			MinConnectTimeout: connectTimeout,
		}),
	}, options.GRPC...)
	connection, err := grpc.NewClient(target, all...)
	if err != nil {
		return nil, err
	}
	connection.Connect()
	return &Connection{ClientConn: connection}, nil
}

// serviceConfig names the load balancing policy and the service whose health is checked.
var serviceConfig = fmt.Sprintf(`{"loadBalancingConfig": [{%q: {}}], "healthCheckConfig": {"serviceName": %q}}`,
	spread.Name, countersignv1.ValidatorService_ServiceDesc.ServiceName)

func parse(addresses []string) (places []grpcclient.Address, err error) {
	if len(addresses) == 0 {
		return nil, errors.New("want the address of a validator")
	}
	for _, text := range addresses {
		var a grpcclient.Address
		if err := a.Set(strings.TrimPrefix(text, "dns:///")); err != nil {
			return nil, fmt.Errorf("address of a validator %q: %w", text, err)
		}
		places = append(places, a)
	}
	return places, nil
}

// dialer connects to the validators at the addresses places.
type dialer struct {
	security grpcclient.Security
	places   []grpcclient.Address
}

// target returns the target and the resolver for grpc.NewClient.
func (d dialer) target() (string, grpc.DialOption) {
	if len(d.places) == 1 {
		return d.places[0].Target(), grpc.EmptyDialOption{}
	}
	var state resolver.State
	for _, a := range d.places {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: string(a), ServerName: string(a)})
	}
	listed := manual.NewBuilderWithScheme("validators")
	listed.InitialState(state)
	return "validators:///" + string(d.places[0]), grpc.WithResolvers(listed)
}

// dial opens a connection to one validator. With several addresses, dial itself resolves the address, on each
// call again. With a single address, gRPC has resolved it already.
func (d dialer) dial(ctx context.Context, at string) (net.Conn, error) {
	if len(d.places) == 1 {
		return d.security.Dial(ctx, d.places[0], at)
	}
	place := grpcclient.Address(at)
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		return nil, err
	}
	found, err := net.DefaultResolver.LookupHost(ctx, place.Host())
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, ip := range found {
		connection, err := d.security.Dial(ctx, place, net.JoinHostPort(ip, port))
		if err == nil {
			return connection, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}
