// Package propagation measures how long a change takes to every validator: from the call that makes it to the first
// answers that show it, over gRPC and a real Redis. See docs/performance.md.
package propagation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/testcluster"
)

const (
	validators = 2
	// pause is how long an observer waits between two questions. It bounds what the measurement adds.
	pause = 100 * time.Microsecond
	// slack is how long after a change the slowest observer may take before the benchmark fails.
	slack = 10 * time.Second
)

// BenchmarkPropagation makes b.N changes, one after the other, each a token that is created, and reports how long it
// took until the last of two validators accepted it, counted from before the call and from its return. In the variant
// heads, the validators' account may not subscribe, so that they see changes by the check of the heads alone.
func BenchmarkPropagation(b *testing.B) {
	for _, variant := range []struct {
		name    string
		account string
	}{
		{"hints", testcluster.ValidatorAccount},
		{"heads", strings.ReplaceAll(testcluster.ValidatorAccount, "+subscribe", "")},
	} {
		b.Run(variant.name, func(b *testing.B) { measure(b, start(b, variant.account)) })
	}
}

func measure(b *testing.B, w *world) {
	var sinceCall, sinceReturn []time.Duration
	for i := 0; b.Loop(); i++ {
		appID := fmt.Sprintf("app%d", i%100)
		called := time.Now()
		created, err := w.management.CreateToken(w.admin, &countersignv1.CreateTokenRequest{
			AppId: appID, Name: fmt.Sprintf("token %d", i),
			Scopes: []countersignv1.Scope{countersignv1.Scope_SCOPE_EVENTS},
		})
		if err != nil {
			b.Fatal(err)
		}
		returned := time.Now()
		seen := w.awaitAll(b, appID, created.GetSecret())
		sinceCall = append(sinceCall, seen.Sub(called))
		sinceReturn = append(sinceReturn, max(seen.Sub(returned), 0))
	}
	b.StopTimer()
	report(b, "call", sinceCall)
	report(b, "return", sinceReturn)
}

func report(b *testing.B, from string, times []time.Duration) {
	slices.Sort(times)
	for _, q := range []struct {
		name string
		at   float64
	}{{"p50", 0.50}, {"p99", 0.99}, {"max", 1}} {
		t := times[min(int(q.at*float64(len(times))), len(times)-1)]
		b.ReportMetric(float64(t)/float64(time.Millisecond), q.name+"-ms/since-"+from)
	}
}

// world is an authority and its validators over one Redis.
type world struct {
	management countersignv1.AuthorityServiceClient
	admin      context.Context
	deciders   []countersignv1.ValidatorServiceClient
}

// awaitAll returns when the last validator accepted a secret.
func (w *world) awaitAll(b *testing.B, appID, secret string) time.Time {
	ctx, cancel := context.WithTimeout(b.Context(), slack)
	defer cancel()
	seen := make([]time.Time, len(w.deciders))
	var group errgroup.Group
	for i, decider := range w.deciders {
		group.Go(func() error {
			for {
				response, err := decider.Authorize(ctx, &countersignv1.AuthorizeRequest{
					AppId: appID, Token: secret, Scope: countersignv1.Scope_SCOPE_EVENTS,
				})
				if err != nil {
					return err
				}
				if response.GetReason() == countersignv1.Reason_REASON_TOKEN_VALID {
					seen[i] = time.Now()
					return nil
				}
				time.Sleep(pause)
			}
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	return slices.MaxFunc(seen, time.Time.Compare)
}

// start starts everything on loopback. Redis keeps what it acknowledges, as in production.
func start(b *testing.B, account string) *world {
	c := testcluster.Start(b, testcluster.Options{
		Validators: validators, Account: account, RedisArgs: []string{"--appendonly", "yes", "--appendfsync", "always"},
	})
	w := &world{
		admin:      metadata.AppendToOutgoingContext(b.Context(), "authorization", "Bearer "+c.AdminKey.Reveal()),
		management: countersignv1.NewAuthorityServiceClient(dial(b, c.Authority)),
	}
	for _, address := range c.Validators {
		w.deciders = append(w.deciders, countersignv1.NewValidatorServiceClient(dial(b, address)))
	}
	return w
}

func dial(b *testing.B, address string) *grpc.ClientConn {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = connection.Close() })
	return connection
}
