package load

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

func TestClosed(t *testing.T) {
	f := &fake{}
	f.serve(t)
	for _, tt := range []struct {
		connections, inFlight int
		calls                 uint64
	}{{1, 1, 1}, {1, 1, 100}, {4, 32, 20_000}, {3, 7, 5}} {
		before := f.calls.Load()
		caller := f.call(t, tt.connections, nil)
		r := Closed(t.Context(), caller, questions(t, "a1", "b1", "a2"), Limits{Calls: tt.calls}, tt.inFlight)
		if r.Answered != tt.calls || r.Wrong != 0 || r.Failed() != 0 || uint64(r.Latency.TotalCount()) != tt.calls {
			t.Errorf("%+v: %+v", tt, r)
		}
		if made := f.calls.Load() - before; uint64(made) != tt.calls {
			t.Errorf("%+v: the server got %d calls", tt, made)
		}
	}
}

func TestClosedForSomeTime(t *testing.T) {
	f := &fake{}
	f.serve(t)
	r := Closed(t.Context(), f.call(t, 2, nil), questions(t, "a1"), Limits{Time: 20 * time.Millisecond}, 4)
	if r.Answered == 0 || r.Wrong+r.Failed() != 0 || r.Elapsed < 20*time.Millisecond || uint64(f.calls.Load()) != r.Answered {
		t.Errorf("%d calls: %+v", f.calls.Load(), r)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if r := Closed(over, f.call(t, 2, nil), questions(t, "a1"), Limits{Time: time.Hour}, 4); r.Answered > 4 || r.Failed() != 0 {
		t.Errorf("after the end: %+v", r)
	}
}

func TestOpen(t *testing.T) {
	f := &fake{}
	f.serve(t)
	for _, arrivals := range []Arrivals{Poisson, Constant} {
		r := Open(t.Context(), f.call(t, 4, nil), questions(t, "a1", "b1"), Limits{Calls: 500}, NewSchedule(10_000, arrivals, 1))
		if r.Answered != 500 || r.Wrong+r.Failed() != 0 || r.Latency.TotalCount() != 500 || r.Late.TotalCount() != 500 {
			t.Errorf("%s: %+v", arrivals, r)
		}
	}
	limits := Limits{Time: 10 * time.Millisecond}
	r := Open(t.Context(), f.call(t, 1, nil), questions(t, "a1"), limits, NewSchedule(1000, Constant, 1))
	if r.Answered != 10 {
		t.Errorf("1,000 a second for 10 ms are %d calls", r.Answered)
	}
}

// stuck is a caller that blocks at its first call, and so delays the sender of the others.
type stuck struct{ begun time.Time }

const stuckFor = 20 * time.Millisecond

// Start implements Caller.
func (s *stuck) Start(c *Call) {
	if s.begun.IsZero() {
		s.begun = time.Now()
		time.Sleep(stuckFor)
	}
	go c.Done(c.Question.Want, nil)
}

// Flush implements Caller.
func (*stuck) Flush() {}

// Close implements Caller.
func (*stuck) Close() error { return nil }

// A call's latency counts from when it was due, also when it was sent late. A delayed generator omits
// nothing.
func TestOpenOmitsNothing(t *testing.T) {
	r := Open(t.Context(), &stuck{}, questions(t, "a1"), Limits{Calls: 20}, NewSchedule(1000, Constant, 1))
	// The 20 calls are due within 20 ms, one each millisecond, so they wait for 10 ms on average.
	if r.Answered != 20 || r.Latency.Mean() < float64(stuckFor/2)*0.99 || r.Late.Max() < int64(stuckFor)*9/10 {
		t.Errorf("%d answers after %s on average, late by %s at most",
			r.Answered, time.Duration(r.Latency.Mean()), time.Duration(r.Late.Max()))
	}
}

func TestWrongAnswers(t *testing.T) {
	f := &fake{}
	f.serve(t)
	ask := func(app string, want Answer) *Result {
		q, err := NewQuestion(&countersignv1.AuthorizeRequest{
			AppId: app, Token: "cs_secret", Scope: countersignv1.Scope_SCOPE_EVENTS,
		}, want)
		if err != nil {
			t.Fatal(err)
		}
		return Closed(t.Context(), f.call(t, 1, nil), NewDeck([]Question{q}, 1), Limits{Calls: 20}, 2)
	}
	for _, tt := range []struct {
		app   string
		want  Answer
		wrong uint64
	}{
		{"a1", Answer{allow, countersignv1.Reason_REASON_TOKEN_VALID}, 0},
		{"a1", Answer{Decision: allow}, 0},
		{"a1", Answer{allow, countersignv1.Reason_REASON_TOKEN_VALID_UNSCOPED}, 20},
		{"a1", Answer{Decision: deny}, 20},
		{"b1", Answer{Decision: deny}, 0},
		{"b1", Answer{deny, countersignv1.Reason_REASON_TOKEN_REVOKED}, 20},
	} {
		r := ask(tt.app, tt.want)
		if r.Answered != 20 || r.Wrong != tt.wrong {
			t.Errorf("%s, want %s: %d of %d are wrong", tt.app, tt.want, r.Wrong, r.Answered)
		}
		if tt.wrong > 0 &&
			(len(r.Examples) != examples || !strings.Contains(r.Examples[0], tt.app) || strings.Contains(r.Examples[0], "secret")) {
			t.Errorf("examples: %q", r.Examples)
		}
	}
}

func TestErrorsByReason(t *testing.T) {
	n := 0
	f := &fake{answer: func(context.Context, *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
		n++
		switch n % 4 {
		case 0:
			return nil, apierr.Unavailable(apierr.NotLoaded, "nothing is there").GRPCStatus().Err()
		case 1:
			return nil, status.Error(codes.ResourceExhausted, "100 % of it")
		case 2:
			return nil, status.Error(codes.Unauthenticated, "")
		}
		return &countersignv1.AuthorizeResponse{Decision: allow, Reason: countersignv1.Reason_REASON_TOKEN_VALID}, nil
	}}
	f.serve(t)
	r := Closed(t.Context(), f.call(t, 1, nil), questions(t, "a1"), Limits{Calls: 40}, 1)
	if r.Answered != 10 || r.Failed() != 30 ||
		r.Errors["NOT_LOADED"] != 10 || r.Errors["ResourceExhausted"] != 10 || r.Errors["Unauthenticated"] != 10 {
		t.Errorf("%+v", r)
	}
}
