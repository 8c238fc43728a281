package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// observed is a stream that shows its messages to a test.
type observed struct {
	serverStream
	see func(*countersignv1.AuthorizeStreamRequest)
}

func (o *observed) Recv() (*countersignv1.AuthorizeStreamRequest, error) {
	m, err := o.serverStream.Recv()
	if err == nil {
		o.see(m)
	}
	return m, err
}

func request(token string) client.Request {
	return client.Request{AppID: "app1", Token: secret.New(token), Scope: countersignv1.Scope_SCOPE_EVENTS}
}

// unlessSlow answers all questions except questions with the token "slow".
func unlessSlow(r *countersignv1.AuthorizeRequest) *countersignv1.AuthorizeStreamResult {
	if r.GetToken() == "slow" {
		return nil
	}
	return echoed(r)
}

// A caller whose context ends returns at once, with the same error as from a call. Other callers are not
// affected.
func TestStreamingCallersGo(t *testing.T) {
	for name, tt := range map[string]struct {
		context func(context.Context) (context.Context, context.CancelFunc)
		code    codes.Code
		after   time.Duration
	}{
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 300*time.Millisecond)
		}, codes.DeadlineExceeded, 300 * time.Millisecond},
		"none given": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return ctx, func() {}
		}, codes.DeadlineExceeded, client.DefaultTimeout},
		"cancelled": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		}, codes.Canceled, 50 * time.Millisecond},
		"cancelled before": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		}, codes.Canceled, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{stream: each(unlessSlow)}
				c := streaming(t, f, client.StreamOptions{})
				calls := opened(t, c, f)
				ctx, cancel := tt.context(t.Context())
				defer cancel()
				began := time.Now()
				var others sync.WaitGroup
				others.Go(func() {
					for time.Since(began) < tt.after {
						if err := ask(t.Context(), t, c, "other"); err != nil {
							t.Error(err)
						}
						time.Sleep(20 * time.Millisecond)
					}
				})
				err := ask(ctx, t, c, "slow")
				if status.Code(err) != tt.code || time.Since(began) != tt.after {
					t.Errorf("%v after %v", err, time.Since(began))
				}
				others.Wait()
				if f.calls.Load() != calls {
					t.Errorf("%d calls more", f.calls.Load()-calls)
				}
			})
		})
	}
}

// An answer that arrives after its caller has given up is dropped.
func TestStreamingDropsLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{stream: func(s serverStream) error {
			var late sync.WaitGroup
			defer late.Wait()
			var mu sync.Mutex
			return each(func(*countersignv1.AuthorizeRequest) *countersignv1.AuthorizeStreamResult { return nil })(&observed{
				serverStream: &locked{serverStream: s, mu: &mu},
				see: func(m *countersignv1.AuthorizeStreamRequest) {
					for i, r := range questions(m) {
						late.Go(func() {
							if r.GetToken() == "slow" {
								time.Sleep(200 * time.Millisecond)
							}
							(&locked{serverStream: s, mu: &mu}).Send(&countersignv1.AuthorizeStreamResponse{
								Sequence: m.GetSequence() + uint64(i),
								Result:   &countersignv1.AuthorizeStreamResponse_Response{Response: echo(r)},
							})
						})
					}
				},
			})
		}}
		c := streaming(t, f, client.StreamOptions{})
		calls := opened(t, c, f)
		var callers sync.WaitGroup
		for i := range 50 {
			callers.Go(func() {
				for j := range 20 {
					token := fmt.Sprintf("%d.%d", i, j)
					want := codes.OK
					if j%2 == 0 {
						token, want = "slow", codes.DeadlineExceeded
					}
					ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
					if err := ask(ctx, t, c, token); status.Code(err) != want {
						t.Errorf("%s: %v", token, err)
					}
					cancel()
				}
			})
		}
		callers.Wait()
		time.Sleep(time.Second) // for the last late answers
		if f.calls.Load() != calls {
			t.Errorf("%d calls more", f.calls.Load()-calls)
		}
	})
}

// locked is a stream on which several goroutines may send.
type locked struct {
	serverStream
	mu *sync.Mutex
}

func (l *locked) Send(m *countersignv1.AuthorizeStreamResponse) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.serverStream.Send(m)
}

// Questions that a failed stream has not answered are asked again in calls.
func TestStreamingAsksAgainWhatALostStreamOwes(t *testing.T) {
	for name, end := range map[string]error{
		"ended":  nil,
		"failed": errors.New("failed"),
		"drains": apierr.Unavailable(apierr.ShuttingDown, "shuts down"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lose := make(chan struct{})
				f := &fake{}
				f.stream = func(s serverStream) error {
					if f.streams.Load() > 1 {
						return each(echoed)(s)
					}
					go each(unlessSlow)(s)
					<-lose
					return end
				}
				c := streaming(t, f, client.StreamOptions{Streams: 1})
				calls := opened(t, c, f)
				var callers sync.WaitGroup
				for range 100 {
					callers.Go(func() {
						if err := ask(t.Context(), t, c, "slow"); err != nil {
							t.Error(err)
						}
					})
				}
				synctest.Wait()
				if err := ask(t.Context(), t, c, "quick"); err != nil || f.calls.Load() != calls {
					t.Errorf("%v, %d calls more", err, f.calls.Load()-calls)
				}
				close(lose)
				callers.Wait()
				if f.calls.Load() != calls+100 {
					t.Errorf("%d calls more, want 100", f.calls.Load()-calls)
				}
				// A new stream is open after a moment.
				time.Sleep(200 * time.Millisecond)
				opened(t, c, f)
				calls = f.calls.Load()
				if err := ask(t.Context(), t, c, "again"); err != nil || f.calls.Load() != calls || f.streams.Load() != 2 {
					t.Errorf("%v, %d calls more, %d streams", err, f.calls.Load()-calls, f.streams.Load())
				}
			})
		})
	}
}

// The client gives up its only stream to a validator that has not answered for a second. With two streams, it
// asks over the other stream.
func TestStreamingLeavesASilentStream(t *testing.T) {
	for streams, most := range map[int]int{1: 11, 2: 1} {
		synctest.Test(t, func(t *testing.T) {
			var mute atomic.Bool
			f := &fake{}
			f.stream = func(s serverStream) error {
				first := f.streams.Load() == 1
				return each(echoed)(&silenced{serverStream: s, when: func() bool { return first && mute.Load() }})
			}
			c := streaming(t, f, client.StreamOptions{Streams: streams})
			opened(t, c, f)
			mute.Store(true)
			failed := 0
			for range 1000 {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				if ask(ctx, t, c, "x") != nil {
					failed++
				}
				cancel()
				time.Sleep(10 * time.Millisecond)
			}
			if failed > most {
				t.Errorf("%d of 1000 questions failed with %d streams", failed, streams)
			}
		})
	}
}

// silenced is a stream that drops its answers.
type silenced struct {
	serverStream
	when func() bool
}

func (s *silenced) Send(m *countersignv1.AuthorizeStreamResponse) error {
	if s.when() {
		return nil
	}
	return s.serverStream.Send(m)
}

// Callers beyond InFlight wait for a slot, each until its deadline.
func TestStreamingBoundsWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var received atomic.Int64
		f := &fake{stream: each(func(r *countersignv1.AuthorizeRequest) *countersignv1.AuthorizeStreamResult {
			received.Add(1)
			return unlessSlow(r)
		})}
		c := streaming(t, f, client.StreamOptions{Streams: 1, InFlight: 3})
		opened(t, c, f)
		began := time.Now()
		within := func(timeout time.Duration, token string, want codes.Code, after time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			if err := ask(ctx, t, c, token); status.Code(err) != want || time.Since(began) != after {
				t.Errorf("%s: %v after %v, want %v after %v", token, err, time.Since(began), want, after)
			}
		}
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() { within(500*time.Millisecond, "slow", codes.DeadlineExceeded, 500*time.Millisecond) })
		}
		synctest.Wait()
		for range 5 {
			callers.Go(func() { within(100*time.Millisecond, "hasty", codes.DeadlineExceeded, 100*time.Millisecond) })
			callers.Go(func() { within(time.Second, "patient", codes.OK, 500*time.Millisecond) })
		}
		callers.Wait()
		if received.Load() != 3+5 {
			t.Errorf("%d questions were sent, want 8", received.Load())
		}
	})
}
