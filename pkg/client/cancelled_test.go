package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/client"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// door is an ingest server that accepts requests in an outage. It counts the requests that the middleware
// accepts.
type door struct {
	accepted, undecided atomic.Int64
	answered            chan int // the status of each request that the middleware has finished
}

func (d *door) handler(c *client.Client) http.Handler {
	wrapped := client.Middleware{
		Client: c, Scope: countersignv1.Scope_SCOPE_EVENTS, AppID: func(*http.Request) string { return "app1" },
		Undecided: func(w http.ResponseWriter, r *http.Request, handler http.Handler, _ error) {
			d.undecided.Add(1)
			handler.ServeHTTP(w, r)
		},
	}.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { d.accepted.Add(1) }))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorded := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		wrapped.ServeHTTP(recorded, r)
		d.answered <- recorded.status
	})
}

// closedTo fails the test if the middleware has accepted a request, or has called Undecided.
func (d *door) closedTo(t *testing.T, what string) {
	t.Helper()
	if accepted, undecided := d.accepted.Load(), d.undecided.Load(); accepted != 0 || undecided != 0 {
		t.Errorf("%s: the handler ran %d times, Undecided %d times; want neither", what, accepted, undecided)
	}
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// hanging returns a validator that never answers. It signals the arrival of each question.
func hanging() (f *fake, asked chan struct{}) {
	asked = make(chan struct{}, 1024)
	return &fake{
		call: func(ctx context.Context, _ *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
			asked <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		},
		stream: each(func(*countersignv1.AuthorizeRequest) *countersignv1.AuthorizeStreamResult {
			asked <- struct{}{}
			return nil
		}),
	}, asked
}

// kinds are the two kinds of clients.
func kinds(t *testing.T, f *fake) map[string]*client.Client {
	return map[string]*client.Client{
		"calls": client.New(serve(t, f)), "streams": streaming(t, f, client.StreamOptions{Streams: 1}),
	}
}

// B20: a sender that resets its request while the client asks about it (HEADERS, DATA, RST_STREAM) causes no
// outage.
func TestB20_ResetRequestIsNoOutage(t *testing.T) {
	f, asked := hanging()
	for kind, c := range kinds(t, f) {
		t.Run(kind, func(t *testing.T) {
			d := &door{answered: make(chan int, 1)}
			server := httptest.NewUnstartedServer(d.handler(c))
			server.Config.Protocols = new(http.Protocols)
			server.Config.Protocols.SetUnencryptedHTTP2(true)
			server.Start()
			defer server.Close()
			raw := dialHTTP2(t, server.Listener.Addr().String())
			for i := range 30 {
				id := uint32(2*i + 1)
				raw.send(t, id, `{"forged":true}`)
				<-asked
				if err := raw.framer.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
					t.Fatal(err)
				}
				<-d.answered
			}
			d.closedTo(t, "reset requests")
		})
	}
}

// rawHTTP2 is an HTTP/2 client that sends single frames.
type rawHTTP2 struct {
	framer *http2.Framer
}

func dialHTTP2(t *testing.T, address string) *rawHTTP2 {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	if _, err := io.WriteString(connection, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	r := &rawHTTP2{framer: http2.NewFramer(connection, connection)}
	if err := r.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, connection) }() // the server's frames do not matter
	return r
}

// send sends a complete request on a stream.
func (r *rawHTTP2) send(t *testing.T, id uint32, body string) {
	t.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":authority", "ingest"},
		{":path", "/app1/events"},
		{"authorization", "Bearer forged"},
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true}),
		r.framer.WriteData(id, true, []byte(body)),
	); err != nil {
		t.Fatal(err)
	}
}

// B20: a request that ends in another way causes no outage either. Its sender closes the connection, its
// deadline passes, or its deadline has passed before the question.
func TestB20_EndedRequestIsNoOutage(t *testing.T) {
	f, asked := hanging()
	for kind, c := range kinds(t, f) {
		t.Run(kind, func(t *testing.T) {
			t.Run("HTTP/1 connection closed", func(t *testing.T) {
				d := &door{answered: make(chan int, 1)}
				server := httptest.NewServer(d.handler(c))
				defer server.Close()
				connection, err := net.Dial("tcp", server.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(
					connection, "POST /app1/events HTTP/1.1\r\nHost: ingest\r\nContent-Length: 0\r\n\r\n",
				); err != nil {
					t.Fatal(err)
				}
				<-asked
				_ = connection.Close()
				<-d.answered
				d.closedTo(t, "a closed connection")
			})
			t.Run("TimeoutHandler", func(t *testing.T) {
				d := &door{answered: make(chan int, 1)}
				w := httptest.NewRecorder()
				http.TimeoutHandler(d.handler(c), 20*time.Millisecond, "late").ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
				<-asked
				if got := <-d.answered; w.Code != http.StatusServiceUnavailable || got != http.StatusServiceUnavailable {
					t.Errorf("answered %d, inside %d", w.Code, got)
				}
				d.closedTo(t, "http.TimeoutHandler")
			})
			t.Run("over before", func(t *testing.T) {
				d := &door{answered: make(chan int, 1)}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				w := httptest.NewRecorder()
				d.handler(c).ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", "/", nil))
				if got := <-d.answered; got != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
					t.Errorf("got status %d and Retry-After %q", got, w.Header().Get("Retry-After"))
				}
				d.closedTo(t, "a request that was over")
			})
		})
	}
}

// answering is a connection that answers every call at once, after it has called a function.
type answering struct {
	grpc.ClientConnInterface
	before func()
	err    error
}

func (a answering) Invoke(_ context.Context, _ string, request, reply any, _ ...grpc.CallOption) error {
	a.before()
	if a.err == nil {
		proto.Merge(reply.(proto.Message), echo(request.(*countersignv1.AuthorizeRequest)))
	}
	return a.err
}

// B20: if the answer arrives after the request has ended, the handler and Undecided are not called. It does
// not matter whether the answer is an approval or an outage.
func TestB20_AnswerToAnEndedRequest(t *testing.T) {
	for name, err := range map[string]error{
		"an approval": nil, "an outage": apierr.Unavailable(apierr.NotLoaded, "not loaded"),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			d := &door{answered: make(chan int, 1)}
			handler := d.handler(client.New(answering{before: cancel, err: err}))
			handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "POST", "/", nil))
			if got := <-d.answered; got != http.StatusServiceUnavailable {
				t.Errorf("got status %d, want 503", got)
			}
			d.closedTo(t, name)
		})
	}
	// A validator also ends a question at its deadline. If that is the request's deadline, the request is
	// over, even when our own clock has not reached it.
	ctx, cancel := context.WithTimeout(t.Context(), client.DefaultTimeout)
	defer cancel()
	d := &door{answered: make(chan int, 1)}
	handler := d.handler(client.New(answering{before: func() {}, err: status.Error(codes.DeadlineExceeded, "too late")}))
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "POST", "/", nil))
	if got := <-d.answered; got != http.StatusServiceUnavailable {
		t.Errorf("got status %d, want 503", got)
	}
	d.closedTo(t, "the request's deadline, on a validator's clock")
}

// B20: only errors that mean that no validator can decide are outages. Errors that come from the request,
// the setup or a bug are not, because a sender could cause them.
func TestB20_OnlyOutagesAreUndecided(t *testing.T) {
	for name, tt := range map[string]struct {
		err       error
		undecided bool
		want      int
	}{
		"not loaded":             {apierr.Unavailable(apierr.NotLoaded, "not loaded"), true, 200},
		"data too old":           {apierr.Unavailable(apierr.DataTooOld, "old"), true, 200},
		"out of reach":           {status.Error(codes.Unavailable, "connection refused"), true, 200},
		"too slow":               {status.Error(codes.DeadlineExceeded, "too late"), true, 200},
		"overloaded":             {apierr.Exhausted(apierr.Overloaded, "too many calls"), true, 200},
		"message too large":      {status.Error(codes.ResourceExhausted, "received message larger than max"), false, 500},
		"malformed app or scope": {apierr.Invalid("scope", "want one"), false, 400},
		"no certificate":         {status.Error(codes.Unauthenticated, "no certificate"), false, 500},
		"not allowed to ask":     {status.Error(codes.PermissionDenied, "not for you"), false, 500},
		"no validator at all":    {status.Error(codes.Unimplemented, "unknown service"), false, 500},
		"a fault inside":         {status.Error(codes.Internal, "panic"), false, 500},
		"an error unknown":       {status.Error(codes.Unknown, "?"), false, 500},
		"cancelled by a server":  {status.Error(codes.Canceled, "reset"), false, 500},
		"data loss":              {status.Error(codes.DataLoss, "lost"), false, 500},
	} {
		t.Run(name, func(t *testing.T) {
			d := &door{answered: make(chan int, 1)}
			handler := d.handler(scriptedClient(t, &scripted{err: tt.err}))
			handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/", nil))
			if got := <-d.answered; got != tt.want || d.undecided.Load() == 1 != tt.undecided {
				t.Errorf("got status %d, and Undecided ran %d times; want %d, Undecided called %t",
					got, d.undecided.Load(), tt.want, tt.undecided)
			}
			if got := client.Undecided(t.Context(), tt.err); got != tt.undecided {
				t.Errorf("Undecided = %t, want %t", got, tt.undecided)
			}
			over, cancel := context.WithCancel(t.Context())
			cancel()
			if client.Undecided(over, tt.err) {
				t.Error("Undecided = true for a request that has ended, want false")
			}
		})
	}
	if client.Undecided(t.Context(), nil) {
		t.Error("Undecided = true for a nil error, want false")
	}
}

// A request with a late deadline is answered soon, because Middleware.Timeout ends the question before.
func TestB20_MiddlewareAsksNoLongerThanItMay(t *testing.T) {
	for _, kind := range []string{"calls", "streams"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, _ := hanging()
				d := &door{answered: make(chan int, 1)}
				handler := d.handler(kinds(t, f)[kind])
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				began := time.Now()
				handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "POST", "/", nil))
				if got := <-d.answered; got != 200 || d.undecided.Load() != 1 || time.Since(began) != client.DefaultTimeout {
					t.Errorf("got status %d after %v, and Undecided ran %d times", got, time.Since(began), d.undecided.Load())
				}
			})
		})
	}
}
