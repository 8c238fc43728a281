package authorize_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/internal/testcluster"
)

// A validator that shuts down takes no question with it, though streams last longer than any call.
func TestStreamingSurvivesADrain(t *testing.T) {
	d := startDemo(t, func(o *testcluster.Options) { o.Validators = 2 })
	both := manual.NewBuilderWithScheme("both")
	var state resolver.State
	for _, address := range d.cluster.Validators {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address})
	}
	both.InitialState(state)
	c := client.NewStreaming(connect(t, "both:///validators", grpc.WithResolvers(both),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`)), client.StreamOptions{})
	defer c.Close()

	var callers sync.WaitGroup
	var asked atomic.Int64
	stop := make(chan struct{})
	for range 20 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				answer, err := c.Authorize(d.ctx, client.Request{AppID: fuzzApp, Token: secret.New(d.secret), Scope: events})
				if err != nil || !answer.Allow {
					t.Errorf("%+v %v", answer, err)
				}
				asked.Add(1)
			}
		})
	}
	await := func(n int64) {
		for deadline := time.Now().Add(20 * time.Second); asked.Load() < n && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}
	await(1000)
	began := time.Now()
	d.cluster.ValidatorProcesses[0].Stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the drain took %v", took)
	}
	await(asked.Load() + 1000)
	close(stop)
	callers.Wait()
}
