package client_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/client"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// stuck is a validator that never answers. It counts the calls without a deadline.
type stuck struct{ unbounded atomic.Int64 }

func (s *stuck) call(ctx context.Context, _ *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
	if _, has := ctx.Deadline(); !has {
		s.unbounded.Add(1)
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// A question whose context has no deadline ends DefaultTimeout after it was asked, wherever it waits. A
// deadline of the caller's context stays as it is, even if it is later.
func TestDefaultTimeout(t *testing.T) {
	const longer = 10 * client.DefaultTimeout
	for name, tt := range map[string]struct {
		client func(testing.TB, *fake) *client.Client
		// slots is how many earlier questions are in flight, each until longer has passed.
		slots int
		// sent says whether the caller's question must reach the validator in a call.
		sent bool
	}{
		"in a call": {func(t testing.TB, f *fake) *client.Client { return client.New(serve(t, f)) }, 0, true},
		"in a call of a streaming client": {func(t testing.TB, f *fake) *client.Client {
			return streaming(t, f, client.StreamOptions{Streams: 1})
		}, 0, true},
		"waiting for its turn": {func(t testing.TB, f *fake) *client.Client {
			return streaming(t, f, client.StreamOptions{Streams: 1, InFlight: 3})
		}, 3, false},
	} {
		for kind, own := range map[string]time.Duration{
			"none of its own": 0, "a longer one": longer / 2, "a shorter one": client.DefaultTimeout / 2,
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var validator stuck
					f := &fake{stream: func(serverStream) error { return errors.New("not now") }, call: validator.call}
					c := tt.client(t, f)
					began := time.Now()
					var others sync.WaitGroup
					defer others.Wait()
					for range tt.slots {
						others.Go(func() {
							ctx, cancel := context.WithTimeout(t.Context(), longer)
							defer cancel()
							if err := ask(ctx, t, c, "slow"); status.Code(err) != codes.DeadlineExceeded {
								t.Errorf("question that holds a slot: got error %v", err)
							}
						})
					}
					synctest.Wait()
					before := f.calls.Load()

					ctx, want := t.Context(), client.DefaultTimeout
					if own > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, own)
						defer cancel()
						want = own
					}
					err := ask(ctx, t, c, "x")
					if status.Code(err) != codes.DeadlineExceeded || time.Since(began) != want {
						t.Errorf("got error %v after %v, want DEADLINE_EXCEEDED after %v", err, time.Since(began), want)
					}
					if sent := f.calls.Load() > before; sent != tt.sent {
						t.Errorf("its call reached the validator: %v", sent)
					}
					if n := validator.unbounded.Load(); n > 0 {
						t.Errorf("the validator got %d calls without a deadline", n)
					}
				})
			})
		}
	}
}
