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
	_ "google.golang.org/grpc/health" // without it grpc-go checks nobody's health
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/countersign/countersign/pkg/client/internal/spread"
	"github.com/countersign/countersign/pkg/grpcclient"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// pingAfter is the shortest interval that grpc-go allows a client, and what grpcserver permits. A path
	// that is dead is found long before, by what is asked over it and not acknowledged (pingTimeout is its
	// TCP_USER_TIMEOUT, too: RFC 5482) or not answered (spread). A ping finds one that nothing is asked
	// over.
	pingAfter   = 10 * time.Second
	pingTimeout = 2 * time.Second

	// connectTimeout bounds one try to connect; between two tries are some 100 ms at first, and never more
	// than some maxConnectPause, so that a validator that is back is asked soon.
	connectTimeout  = 2 * time.Second
	maxConnectPause = 2 * time.Second
)

// DialOptions say how validators are connected to. The zero value is TLS with the system's authorities, and
// plain text on loopback.
type DialOptions struct {
	// Security says which connections are encrypted. It must come to the same for all addresses.
	Security grpcclient.Security
	// GRPC are further options of the connections, such as interceptors, or credentials with a client
	// certificate, which then count instead of Security. Others may undo what Dial is for.
	GRPC []grpc.DialOption
}

// Connection goes to several validators. It is for New and NewStreaming, whose questions it spreads evenly
// over the validators that serve. It is safe for concurrent use; Close ends it.
type Connection struct {
	*grpc.ClientConn
	again budget
}

// Dial returns a connection to validators. It does not wait for any of them.
//
// A single address is looked up again and again, and every IP address that it stands for is a validator:
// the name of a headless service of Kubernetes, for example. Of several addresses each is one validator. An
// address is host:port, and may begin with dns:///.
//
// No validator is asked that says it does not serve (grpc.health.v1), or that is silent. A question that a
// validator answers with UNAVAILABLE or OVERLOADED, or does not answer within a quarter of its time or 250
// ms, is asked once more of another one, within its deadline; the first answer counts. A denial is an
// answer. When too many questions fail, they are not asked twice, so that an outage of all validators does
// not double their load (gRPC A6). So no question fails because of one validator if it may take half a
// second.
//
// Proxies that the environment names, such as HTTPS_PROXY, are not used: secrets would pass them.
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
		grpc.WithDisableServiceConfig(), // the name server has no say in how validators are asked
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxConnectPause},
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

// serviceConfig names the policy, and the service whose health counts.
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

// dialer knows where the validators are.
type dialer struct {
	security grpcclient.Security
	places   []grpcclient.Address
}

// target returns what to give to grpc.NewClient.
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

// dial opens a connection to one validator. Of several addresses each is looked up here, anew each time.
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
