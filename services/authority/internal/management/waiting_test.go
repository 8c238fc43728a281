package management_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/fleet"
	"github.com/countersign/countersign/services/authority/internal/management"
	"github.com/countersign/countersign/services/store"
)

// stuckFleet is a fleet with one validator that never applies a change.
type stuckFleet struct{ management.Fleet }

func (stuckFleet) Wait(ctx context.Context, _ []record.Position) (fleet.Receipt, error) {
	<-ctx.Done()
	return fleet.Receipt{}, nil
}

// B24: a wait ends by itself: after 10 s for a call without a deadline, after a minute at most, and before a
// caller's own deadline by a tenth of the rest or 250 ms, so that the answer arrives.
func TestB24_WaitsEnd(t *testing.T) {
	for name, tt := range map[string]struct{ deadline, want time.Duration }{
		"no deadline":    {0, 10 * time.Second},
		"a short one":    {time.Second, 900 * time.Millisecond},
		"a longer one":   {20 * time.Second, 20*time.Second - 250*time.Millisecond},
		"a very far one": {time.Hour, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := storetest.New(t, 4)
				made := source.Commit(source.App(1, 0), storetest.AddToken("a"))
				r := replica.New(source, source.Codec(), slog.New(slog.DiscardHandler))
				running, stop := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- r.Run(running) }()
				defer func() { stop(); <-ended }()
				if err := r.WaitLoaded(running); err != nil {
					t.Fatal(err)
				}
				service := management.New(stuckFleet{}, nil)
				service.Open(store.New(nil, r, store.Options{}, slog.New(slog.DiscardHandler)))
				ctx := t.Context()
				if tt.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.deadline)
					defer cancel()
				}
				began := time.Now()
				got, err := service.WaitForPropagation(ctx,
					&pb.WaitForPropagationRequest{ConsistencyToken: record.EncodePosition(record.Position{
						StoreID: source.Meta().StoreID, Partition: made.Partition, Cursor: made.Cursor,
					})})
				if took := time.Since(began); err != nil || got.GetReceipt().GetComplete() || took != tt.want {
					t.Errorf("%v, %v after %v, want an answer after %v", got, err, took, tt.want)
				}
			})
		})
	}
}
