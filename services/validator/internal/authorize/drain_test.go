package authorize_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/services/test/cluster"
)

// No question fails when a validator shuts down, although streams last longer than calls.
func TestStreamingSurvivesADrain(t *testing.T) {
	d := startDemo(t, func(o *cluster.Options) { o.Validators = 2 })
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
	stopped := make(chan struct{})
	stop := sync.OnceFunc(func() { close(stopped); callers.Wait() })
	defer stop()
	for range 20 {
		callers.Go(func() {
			for {
				select {
				case <-stopped:
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
		t.Helper()
		check.Eventually(t, "questions", func() error {
			if got := asked.Load(); got < n {
				return fmt.Errorf("%d questions were asked, want %d", got, n)
			}
			return nil
		})
	}
	await(1000)
	// Stop the validator that is asked most. The streams may all go to one validator or be spread over both.
	busiest, most := 0, 0.0
	for i, process := range d.cluster.ValidatorProcesses {
		if n := decisions(t, process.HTTPAddress); n > most {
			busiest, most = i, n
		}
	}
	if most < 500 {
		t.Fatalf("the busiest validator was asked %v times, of 1000 and more", most)
	}
	began := time.Now()
	d.cluster.ValidatorProcesses[busiest].Stop()
	check.Within(t, "the drain", time.Since(began), 5*time.Second, 9*time.Second)
	await(asked.Load() + 1000)
	stop()
}

// decisions returns how many decisions a validator has made, by its metrics.
func decisions(t *testing.T, address string) (total float64) {
	t.Helper()
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if name, value, _ := strings.Cut(lines.Text(), "} "); strings.HasPrefix(name, "countersign_decisions_total{") {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			total += n
		}
	}
	return total
}
