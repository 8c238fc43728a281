package client_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/client"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// site is a set of validators, with a Connection to them over a simulated network.
type site struct {
	validators []*validator
	connection *client.Connection
}

// newSite starts validators and connects to them. They stop when the test ends.
func newSite(t testing.TB, count int) *site {
	t.Helper()
	s := &site{}
	places := map[string]*validator{}
	var addresses []string
	for i := range count {
		v := &validator{fake: &fake{}}
		v.answers(allowed)
		v.fake.call, v.fake.stream = v.call, each(v.streamedAnswer)
		v.start(true)
		s.validators = append(s.validators, v)
		address := fmt.Sprintf("127.0.0.1:%d", i+1)
		addresses = append(addresses, address)
		places[address] = v
	}
	connection, err := client.Dial(addresses, client.DialOptions{GRPC: []grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, at string) (net.Conn, error) { return places[at].dial(ctx) }),
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.connection = connection
	t.Cleanup(func() {
		_ = connection.Close()
		for _, v := range s.validators {
			v.stop()
		}
	})
	return s
}

// client returns a client of a kind. It is closed when the test ends.
func (s *site) client(t testing.TB, kind string) *client.Client {
	if kind == "calls" {
		return client.New(s.connection)
	}
	c := client.NewStreaming(s.connection, client.StreamOptions{})
	t.Cleanup(c.Close)
	return c
}

// asked returns how many questions have reached the validators.
func (s *site) asked() (n int64) {
	for _, v := range s.validators {
		n += v.asked()
	}
	return n
}

// busiest returns the validator that was asked the most questions.
func (s *site) busiest() *validator {
	return slices.MaxFunc(s.validators, func(a, b *validator) int { return cmp.Compare(a.asked(), b.asked()) })
}

// network is the state of the network between a client and a validator.
type network int32

const (
	open     network = iota
	held             // answers are held back: the process is stopped, its kernel is not
	vanished         // all packets are dropped silently
)

// validator is a validator that a test can get into trouble.
type validator struct {
	fake     *fake
	outcome  atomic.Pointer[outcome]
	streamed atomic.Int64

	mu       sync.Mutex
	listener *bufconn.Listener // nil while it is down
	server   *grpc.Server
	health   *health.Server
	network  network
	changed  chan struct{} // closed when the network changes
	ended    sync.WaitGroup
}

// outcome says how the validator treats every question.
type outcome struct {
	decision countersignv1.Decision
	err      error
	wait     time.Duration // in calls
	mute     bool
}

var allowed = outcome{decision: allow}

func (v *validator) answers(o outcome) { v.outcome.Store(&o) }

// unverified is the id of an app about which no validator can decide.
const unverified = "unverified0app"

var errUnverified = apierr.Unavailable(apierr.PolicyUnverified, "the policy does not verify")

func (v *validator) call(ctx context.Context, r *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
	if r.GetAppId() == unverified {
		return nil, errUnverified
	}
	o := v.outcome.Load()
	time.Sleep(o.wait)
	if o.mute {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	response := echo(r)
	response.Decision = o.decision
	return response, o.err
}

func (v *validator) streamedAnswer(r *countersignv1.AuthorizeRequest) *countersignv1.AuthorizeStreamResult {
	v.streamed.Add(1)
	o := *v.outcome.Load()
	if r.GetAppId() == unverified {
		o = outcome{err: errUnverified}
	}
	result := echoed(r)
	result.GetResponse().Decision = o.decision
	switch s := status.Convert(o.err).Proto(); {
	case o.mute:
		return nil
	case o.err != nil:
		result.Result = &countersignv1.AuthorizeStreamResult_Error{
			Error: &countersignv1.AuthorizeError{Code: s.GetCode(), Message: s.GetMessage(), Details: s.GetDetails()},
		}
	}
	return result
}

// asked returns how many questions have reached the validator.
func (v *validator) asked() int64 { return v.fake.calls.Load() + v.streamed.Load() }

func (v *validator) start(serving bool) {
	listener, server, healthy := bufconn.Listen(1<<20), grpc.NewServer(), health.NewServer()
	countersignv1.RegisterValidatorServiceServer(server, v.fake)
	countersignv1.RegisterBulkValidatorServiceServer(server, v.fake)
	healthpb.RegisterHealthServer(server, healthy)
	v.ended.Go(func() { _ = server.Serve(listener) })
	v.mu.Lock()
	v.listener, v.server, v.health = listener, server, healthy
	if v.changed == nil {
		v.changed = make(chan struct{})
	}
	v.mu.Unlock()
	v.serving(serving)
}

func (v *validator) serving(yes bool) {
	state := healthpb.HealthCheckResponse_NOT_SERVING
	if yes {
		state = healthpb.HealthCheckResponse_SERVING
	}
	v.health.SetServingStatus(countersignv1.ValidatorService_ServiceDesc.ServiceName, state)
}

// stop kills the validator.
func (v *validator) stop() {
	v.mu.Lock()
	server := v.server
	v.listener = nil
	v.mu.Unlock()
	server.Stop()
	v.ended.Wait()
}

func (v *validator) connect(n network) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.network = n
	close(v.changed)
	v.changed = make(chan struct{})
}

func (v *validator) now() (network, *bufconn.Listener, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.network, v.listener, v.changed
}

func (v *validator) dial(ctx context.Context) (net.Conn, error) {
	state, listener, _ := v.now()
	if state == vanished {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if listener == nil {
		return nil, errors.New("connection refused")
	}
	connection, err := listener.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	return &link{Conn: connection, to: v, closed: make(chan struct{})}, nil
}

// link is a connection to a validator.
type link struct {
	net.Conn
	to     *validator
	lost   atomic.Bool // a packet was dropped: the connection never works again
	closed chan struct{}
	once   sync.Once
}

func (l *link) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	for {
		state, _, changed := l.to.now()
		if state == vanished {
			l.lost.Store(true)
		}
		if state == open && !l.lost.Load() || err != nil {
			return n, err
		}
		select {
		case <-changed:
		case <-l.closed:
			return 0, net.ErrClosed
		}
	}
}

func (l *link) Write(p []byte) (int, error) {
	if state, _, _ := l.to.now(); state == vanished {
		l.lost.Store(true)
	}
	if l.lost.Load() {
		return len(p), nil
	}
	return l.Conn.Write(p)
}

func (l *link) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Conn.Close()
}
