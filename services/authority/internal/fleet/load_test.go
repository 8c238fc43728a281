package fleet_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/validator"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

// TestB24_ManyReceipts: many validators report to two authorities, and changes come faster than validators
// apply them. Every receipt is complete, and names every validator.
func TestB24_ManyReceipts(t *testing.T) {
	const validators, changes, pause = 20, 100, 20 * time.Millisecond
	w := start(t, cluster.Options{Authorities: 2})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for i := range validators {
		v, err := validator.New(validator.Config{
			RedisURL: redistest.URL(w.Redis.Address(), "validator", "validator"), Ring: w.Ring, Log: slog.New(slog.DiscardHandler),
			Fleet: w.Fleet(fmt.Sprintf("v%03d", i), w.Authorities[i%2]),
		})
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() { _ = v.Run(ctx) })
		if err := v.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for i := range w.authorities {
		check.Eventually(t, "the whole fleet", func() error {
			if all := w.validators(i); len(all) != validators {
				return fmt.Errorf("%d validators", len(all))
			}
			return nil
		})
	}
	var mu sync.Mutex
	var calling sync.WaitGroup
	var last, calls []time.Duration
	began := time.Now()
	for i := range changes {
		time.Sleep(time.Until(began.Add(time.Duration(i) * pause)))
		calling.Go(func() {
			called := time.Now()
			made, err := w.authorities[i%2].CreateToken(w.admin(), &pb.CreateTokenRequest{
				AppId: fmt.Sprint("app", i), Name: "a", WaitForPropagation: durationpb.New(wait),
			})
			if err != nil {
				t.Error(err)
				return
			}
			r := made.GetReceipt()
			if !r.GetComplete() || len(r.GetValidators()) != validators {
				t.Errorf("got a receipt of %d validators, complete %t; want all, complete", len(r.GetValidators()), r.GetComplete())
			}
			latest := slices.MaxFunc(r.GetValidators(), func(a, b *pb.ReceiptEntry) int {
				return a.GetReportTime().AsTime().Compare(b.GetReportTime().AsTime())
			})
			mu.Lock()
			defer mu.Unlock()
			last = append(last, latest.GetReportTime().AsTime().Sub(r.GetCommitTime().AsTime()))
			calls = append(calls, time.Since(called))
		})
	}
	calling.Wait()
	slices.Sort(last)
	slices.Sort(calls)
	n := len(last)
	t.Logf("%d validators, %d changes: to the last report p50 %v, p99 %v; calls p50 %v, p99 %v", validators, n,
		last[n/2], last[n*99/100], calls[n/2], calls[n*99/100])
}
