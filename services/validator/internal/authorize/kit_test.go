package authorize

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/testkit/storetest"
	"github.com/countersign/countersign/pkg/validator"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const events = countersignv1.Scope_SCOPE_EVENTS

// world is a service whose validator follows a store with one app. The app enforces EVENTS and has one token.
type world struct {
	service  *Service
	registry *prometheus.Registry
	store    *storetest.Store
	app      string
	good     secret.Secret
}

func startWorld(t testing.TB) world {
	t.Helper()
	server := redistest.Start(t)
	w := world{store: storetest.New(t, 8), registry: prometheus.NewRegistry(), good: secret.Mint()}
	w.app = w.store.App(3, 0)
	w.store.Commit(
		w.app, storetest.Add(storetest.Token("tok_good", w.good.Reveal(), policy.Scope(events))),
		storetest.Enforce(policy.Scope(events)),
	)
	admin, err := redisfeed.Open(server.URL(), redisfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close() })
	w.store.CopyTo(admin)
	v, err := validator.New(validator.Config{RedisURL: server.URL(), Ring: w.store.Ring(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	loading, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	if err := v.WaitReady(loading); err != nil {
		t.Fatal(err)
	}
	w.service = New(v, Bound{}, w.registry)
	return w
}

// request returns a request that is allowed.
func (w world) request() *countersignv1.AuthorizeRequest {
	return &countersignv1.AuthorizeRequest{AppId: w.app, Token: w.good.Reveal(), Scope: events}
}

// ahead returns a request whose min_revision is n changes beyond the next one.
func (w world) ahead(n uint64) *countersignv1.AuthorizeRequest {
	r := w.request()
	r.MinRevision = record.EncodePosition(record.Position{
		StoreID: w.store.Meta().StoreID, Partition: 3,
		Cursor: record.Cursor{Epoch: 1, Revision: w.store.Head(3).Revision + 1 + n, Tag: record.Tag{1}},
	})
	return r
}

// encode returns a message as a server receives it: in a buffer that is reused after Free.
func encode(m proto.Message) mem.BufferSlice {
	encoded, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 0, 2<<10), m)
	if err != nil {
		panic(err)
	}
	return mem.BufferSlice{mem.NewBuffer(&encoded, wiped{})}
}

// wiped is a pool that overwrites the buffers that are returned to it.
type wiped struct{ mem.NopBufferPool }

func (wiped) Put(b *[]byte) {
	for i := range *b {
		(*b)[i] = 0xff
	}
}

// call calls Authorize as a gRPC server does.
func (s *Service) call(ctx context.Context, r *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
	encoded, err := handle(s, ctx, func(into any) error {
		data := encode(r)
		defer data.Free()
		return codec.Unmarshal(data, into)
	}, nil)
	if err != nil {
		return nil, err
	}
	data, err := codec.Marshal(encoded)
	if err != nil {
		return nil, err
	}
	response := new(countersignv1.AuthorizeResponse)
	return response, proto.Unmarshal(data.Materialize(), response)
}

// testServer stands in for grpcserver.Server.
type testServer struct{ draining chan struct{} }

func (s testServer) Draining() <-chan struct{} { return s.draining }

func (s testServer) StatusOf(_ context.Context, err error) *status.Status { return status.Convert(err) }

// line is a stream without a network. It carries encoded messages.
type line struct {
	grpc.ServerStream
	t        testing.TB
	ctx      context.Context
	hangUp   context.CancelFunc
	requests chan *countersignv1.AuthorizeStreamRequest
	answers  chan *countersignv1.AuthorizeStreamResponse
	ended    chan error
}

func (w *line) Context() context.Context { return w.ctx }

func (w *line) RecvMsg(into any) error {
	select {
	case m, open := <-w.requests:
		if !open {
			return io.EOF
		}
		return codec.Unmarshal(encode(m), into)
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

func (w *line) SendMsg(m any) error {
	data, err := codec.Marshal(m)
	if err != nil {
		return err
	}
	defer data.Free()
	answer := new(countersignv1.AuthorizeStreamResponse)
	if err := proto.Unmarshal(data.Materialize(), answer); err != nil {
		return err
	}
	select {
	case w.answers <- answer:
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// talk opens a stream to a service. The stream is broken when the test ends.
func talk(t testing.TB, bulk *Bulk) *line {
	ctx, cancel := context.WithCancel(context.Background())
	t.Helper()
	w := &line{
		t:        t,
		ctx:      ctx,
		hangUp:   cancel,
		requests: make(chan *countersignv1.AuthorizeStreamRequest),
		answers:  make(chan *countersignv1.AuthorizeStreamResponse),
		ended:    make(chan error, 1),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// As in grpc-go, receiving fails once the handler has returned.
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				w.ended <- panicked{p}
			}
		}()
		w.ended <- bulk.AuthorizeStream(
			&grpc.GenericServerStream[countersignv1.AuthorizeStreamRequest, countersignv1.AuthorizeStreamResponse]{ServerStream: w},
		)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

// panicked is the value of a handler's panic.
type panicked struct{ value any }

func (panicked) Error() string { return "panic" }

// ask sends requests in one message, with sequence numbers from 1. The test fails if the stream has ended
// or hangs.
func (w *line) ask(first *countersignv1.AuthorizeRequest, more ...*countersignv1.AuthorizeRequest) {
	w.t.Helper()
	select {
	case w.requests <- &countersignv1.AuthorizeStreamRequest{Sequence: 1, Request: first, More: more}:
	case <-w.ctx.Done():
		w.t.Fatal("the stream has ended, and takes no message")
	case <-time.After(patience):
		w.t.Fatal("the stream takes no message")
	}
}

// answer returns the next message of answers. The test fails if the stream ends without one or hangs.
func (w *line) answer() *countersignv1.AuthorizeStreamResponse {
	w.t.Helper()
	select {
	case m := <-w.answers:
		return m
	case <-w.ctx.Done():
		w.t.Fatal("the stream has ended without an answer")
	case <-time.After(patience):
		w.t.Fatal("no answer")
	}
	return nil
}

// end returns the error that the stream has ended with. The test fails if the stream does not end.
func (w *line) end() error {
	w.t.Helper()
	select {
	case err := <-w.ended:
		return err
	case <-time.After(patience):
		w.t.Fatal("the stream does not end")
	}
	return nil
}

// patience bounds every wait. It is long, because a busy machine with the race detector is slow.
const patience = 30 * time.Second

// outcome is the part of an answer that tests compare: a verdict or the reason of an error.
type outcome struct {
	reason  countersignv1.Reason
	failure string
}

// outcomes returns the outcomes in a message, by sequence number.
func outcomes(t testing.TB, m *countersignv1.AuthorizeStreamResponse) map[uint64]outcome {
	t.Helper()
	found := make(map[uint64]outcome)
	add := func(sequence uint64, response *countersignv1.AuthorizeResponse, failed *countersignv1.AuthorizeError) {
		if _, twice := found[sequence]; twice || (response == nil) == (failed == nil) {
			t.Errorf("answer %d: %v %v", sequence, response, failed)
		}
		found[sequence] = outcome{response.GetReason(), failed.GetReason()}
	}
	add(m.GetSequence(), m.GetResponse(), m.GetError())
	for _, r := range m.GetMore() {
		add(r.GetSequence(), r.GetResponse(), r.GetError())
	}
	return found
}

var (
	valid    = outcome{reason: countersignv1.Reason_REASON_TOKEN_VALID}
	missing  = outcome{reason: countersignv1.Reason_REASON_TOKEN_MISSING}
	malform  = outcome{failure: "INVALID_FIELD"}
	tooMany  = outcome{failure: apierr.TooManyWaiting}
	notThere = outcome{failure: apierr.RevisionNotReached}
)
