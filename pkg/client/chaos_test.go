package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/client"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// erratic serves a stream badly. It answers late, not at all, twice, or with the number of another question.
// It ends the stream at any time.
func erratic(random func(n int) int) func(serverStream) error {
	return func(s serverStream) error {
		ctx, cancel := context.WithCancel(s.Context())
		defer cancel()
		received := make(chan *countersignv1.AuthorizeStreamRequest)
		go func() {
			for {
				m, err := s.Recv()
				if err != nil {
					cancel()
					return
				}
				select {
				case received <- m:
				case <-ctx.Done():
					return
				}
			}
		}()
		var late sync.WaitGroup
		defer late.Wait()
		defer cancel()
		out := &locked{serverStream: s, mu: new(sync.Mutex)}
		for {
			var m *countersignv1.AuthorizeStreamRequest
			select {
			case m = <-received:
			case <-ctx.Done():
				return nil
			}
			if random(100) == 0 {
				return errors.New("no more")
			}
			for i, r := range questions(m) {
				answer := &countersignv1.AuthorizeStreamResponse{
					Sequence: m.GetSequence() + uint64(i), Result: &countersignv1.AuthorizeStreamResponse_Response{Response: echo(r)},
				}
				// Some answers arrive just when callers give up, after 100 ms. No timer has length 0: such a
				// timer crashes the race detector in a bubble (go.dev/issue/78156).
				after := max(time.Duration(random(4))*50*time.Millisecond, 1)
				times := random(20)
				late.Go(func() {
					select {
					case <-time.After(after):
					case <-ctx.Done():
						return
					}
					if times > 0 {
						_ = out.Send(answer)
					}
					if times == 1 {
						_ = out.Send(answer)
						_ = out.Send(&countersignv1.AuthorizeStreamResponse{Sequence: 1 << 40, Result: answer.GetResult()})
					}
				})
			}
		}
	}
}

// However badly a validator serves a stream, each caller gets the answer to its own question, or an error at
// its deadline.
func TestStreamingWhateverHappens(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				source := rand.New(rand.NewPCG(seed, 0))
				f := &fake{stream: erratic(func(n int) int {
					mu.Lock()
					defer mu.Unlock()
					return source.IntN(n)
				})}
				c := streaming(t, f, client.StreamOptions{InFlight: 40})
				opened(t, c, f)
				answered := 0
				var callers sync.WaitGroup
				for i := range 50 {
					callers.Go(func() {
						for j := range 100 {
							ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
							began := time.Now()
							err := ask(ctx, t, c, fmt.Sprintf("%d.%d", i, j))
							took := time.Since(began)
							cancel()
							switch {
							case err == nil:
								mu.Lock()
								answered++
								mu.Unlock()
							case status.Code(err) != codes.DeadlineExceeded || took != 100*time.Millisecond:
								t.Errorf("got error %v after %v", err, took)
							}
						}
					})
				}
				callers.Wait()
				time.Sleep(time.Second)
				if answered < 1000 {
					t.Errorf("only %d of 5000 questions were answered", answered)
				}
			})
		})
	}
}
