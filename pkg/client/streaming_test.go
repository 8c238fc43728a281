package client_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/client"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// opened asks questions until a stream is open. It returns the number of questions that were asked in calls
// until then.
func opened(t *testing.T, c *client.Client, f *fake) int64 {
	t.Helper()
	if err := ask(t.Context(), t, c, "first"); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return f.calls.Load()
}

// Each caller gets the answer to its own question. Once streams are open, no calls are made.
func TestStreamingAnswersEachItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{stream: each(echoed)}
		c := streaming(t, f, client.StreamOptions{})
		calls := opened(t, c, f)
		var callers sync.WaitGroup
		for i := range 100 {
			callers.Go(func() {
				for j := range 50 {
					if err := ask(t.Context(), t, c, fmt.Sprintf("%d.%d", i, j)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		callers.Wait()
		if f.calls.Load() != calls || f.streams.Load() != client.DefaultStreams {
			t.Errorf("%d calls, %d before; %d streams", f.calls.Load(), calls, f.streams.Load())
		}
	})
}

// A single question is sent at once. Questions that are asked at the same time share messages, within the
// limits on a message's size and number of questions.
func TestStreamingSendsTogether(t *testing.T) {
	for name, token := range map[string]string{"usual": "cs_x", "over-long": strings.Repeat("x", 5000)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var messages, most atomic.Int64
				f := &fake{stream: func(s serverStream) error {
					return each(echoed)(&observed{serverStream: s, see: func(m *countersignv1.AuthorizeStreamRequest) {
						messages.Add(1)
						most.Store(max(most.Load(), int64(len(questions(m)))))
						if proto.Size(m) > 64<<10 {
							t.Errorf("got a message of %d bytes, which is too large", proto.Size(m))
						}
					}})
				}}
				c := streaming(t, f, client.StreamOptions{Streams: 1})
				opened(t, c, f)
				began := time.Now()
				if err := ask(t.Context(), t, c, "lone"); err != nil || time.Since(began) != 0 || messages.Load() != 1 {
					t.Errorf("got error %v after %v, with %d messages", err, time.Since(began), messages.Load())
				}
				var callers sync.WaitGroup
				for range 500 {
					callers.Go(func() {
						if answer, err := c.Authorize(t.Context(), request(token)); err != nil || !answer.Allow {
							t.Error(answer, err)
						}
					})
				}
				callers.Wait()
				if most.Load() < 5 || most.Load() > 256 || messages.Load() > 400 {
					t.Errorf("got %d messages with up to %d questions each", messages.Load(), most.Load())
				}
			})
		})
	}
}

// An error over a stream has the code, reason and details of the error of a call.
func TestStreamingErrorsAreThoseOfCalls(t *testing.T) {
	unavailable, invalid := apierr.Unavailable(apierr.DataTooOld, "old"), apierr.Invalid("scope", "want one")
	for _, want := range []*apierr.Error{unavailable, invalid} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{
				stream: each(func(*countersignv1.AuthorizeRequest) *countersignv1.AuthorizeStreamResult { return failure(want) }),
				call: func(context.Context, *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
					return nil, want
				},
			}
			c := streaming(t, f, client.StreamOptions{})
			first := ask(t.Context(), t, c, "by call")
			synctest.Wait()
			then := ask(t.Context(), t, c, "by stream")
			if f.calls.Load() != 1 || client.Reason(then) != want.Reason() ||
				!proto.Equal(status.Convert(first).Proto(), status.Convert(then).Proto()) {
				t.Errorf("the error is %v from a call, but %v from a stream", first, then)
			}
		})
	}
}

func failure(err *apierr.Error) *countersignv1.AuthorizeStreamResult {
	s := err.GRPCStatus()
	var details []*anypb.Any
	details = append(details, s.Proto().GetDetails()...)
	return &countersignv1.AuthorizeStreamResult{
		Result: &countersignv1.AuthorizeStreamResult_Error{Error: &countersignv1.AuthorizeError{
			Code: int32(s.Code()), Reason: err.Reason(), Message: s.Message(), Details: details,
		}},
	}
}

// B20: a malformed answer is neither an approval nor a denial.
func TestB20_StreamingTakesNothingForAnAnswer(t *testing.T) {
	for name, result := range map[string]*countersignv1.AuthorizeStreamResult{
		"nothing": {},
		"no decision": {
			Result: &countersignv1.AuthorizeStreamResult_Response{Response: &countersignv1.AuthorizeResponse{}},
		},
		"success as failure": {Result: &countersignv1.AuthorizeStreamResult_Error{Error: &countersignv1.AuthorizeError{}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{stream: each(func(*countersignv1.AuthorizeRequest) *countersignv1.AuthorizeStreamResult {
					return proto.CloneOf(result)
				})}
				c := streaming(t, f, client.StreamOptions{})
				calls := opened(t, c, f)
				if err := ask(t.Context(), t, c, "x"); err == nil || f.calls.Load() != calls {
					t.Errorf("got error %v, and %d calls", err, f.calls.Load())
				}
			})
		})
	}
}

// A question that must not share a stream is asked in a call. It is one that would end the stream for all
// questions, or one with a MinRevision, whose deadline the validator must know (B25).
func TestStreamingCallsForWhatIsNotForStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{stream: each(echoed)}
		c := streaming(t, f, client.StreamOptions{Streams: 1})
		calls := opened(t, c, f)
		for i, r := range []client.Request{
			{AppID: "a", MinRevision: "AAAA"},
			{AppID: strings.Repeat("a", 20_000)},
			{AppID: "\xff"},
			{AppID: strings.Repeat("a", 1<<20)},
		} {
			_, err := c.Authorize(t.Context(), r)
			wantErr := i >= 2
			if (err != nil) != wantErr {
				t.Errorf("request %d: %v", i, err)
			}
		}
		// The client cannot encode the third question, and the server rejects the last one before its
		// handler.
		if got := f.calls.Load() - calls; got != 2 || f.streams.Load() != 1 {
			t.Errorf("%d calls, %d streams", got, f.streams.Load())
		}
		if err := ask(t.Context(), t, c, "still"); err != nil || f.calls.Load() != calls+2 {
			t.Error(err, f.calls.Load())
		}
	})
}

// Close leaves no goroutine behind. Waiting callers get their answers from calls.
func TestStreamingClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{stream: each(func(*countersignv1.AuthorizeRequest) *countersignv1.AuthorizeStreamResult { return nil })}
		c := streaming(t, f, client.StreamOptions{})
		calls := opened(t, c, f)
		var callers sync.WaitGroup
		for i := range 10 {
			callers.Go(func() {
				if err := ask(t.Context(), t, c, fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		c.Close()
		callers.Wait()
		c.Close()
		if err := ask(t.Context(), t, c, "later"); err != nil || f.calls.Load() != calls+11 || time.Since(began) != 0 {
			t.Errorf("%v, %d calls more, after %v", err, f.calls.Load()-calls, time.Since(began))
		}
		client.New(serve(t, f)).Close()
	})
}

func TestStreamingConnectionClosedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{stream: each(echoed)}
		connection := serve(t, f)
		c := client.NewStreaming(connection, client.StreamOptions{})
		opened(t, c, f)
		connection.Close()
		if err := ask(t.Context(), t, c, "x"); status.Code(err) != codes.Canceled {
			t.Error(err)
		}
		c.Close()
	})
}
