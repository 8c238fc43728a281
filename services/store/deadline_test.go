package store_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store"
)

// silent is a Redis that answers no read until its context ends.
type silent struct{ store.Redis }

func (silent) Look(ctx context.Context, _ int, _, _ string) (store.Look, error) {
	<-ctx.Done()
	return store.Look{}, ctx.Err()
}

func (silent) Tail(ctx context.Context, _ int, _ uint64, _ int) ([]byte, []record.RawEntry, error) {
	<-ctx.Done()
	return nil, nil, ctx.Err()
}

// TestCallsWithoutADeadlineEnd: a call without a deadline gets one, also while it waits for the partition's
// slot. So a Redis that does not answer blocks no caller, connection or goroutine for ever.
func TestCallsWithoutADeadlineEnd(t *testing.T) {
	const call, heal = 10 * time.Second, 2 * time.Minute
	adopt := func(ctx context.Context, s *store.Store, partition int) error {
		_, err := s.Adopt(ctx, partition, nil, countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED)
		return err
	}
	for name, tt := range map[string]struct {
		do   func(context.Context, *store.Store, string, int) error
		most time.Duration
		// waits says that another caller holds the partition's slot for longer.
		waits bool
	}{
		"Read": {func(ctx context.Context, s *store.Store, app string, _ int) error {
			_, _, err := s.Read(ctx, app)
			return err
		}, call, false},
		"Update":                      {updating, call, false},
		"Update waiting for its turn": {updating, call, true},
		"Adopt": {func(ctx context.Context, s *store.Store, _ string, partition int) error {
			return adopt(ctx, s, partition)
		}, heal, false},
	} {
		for kind, own := range map[string]time.Duration{
			"": 0, ", with a longer one of its own": 3 * tt.most,
			", with a shorter one of its own": time.Second,
		} {
			t.Run(name+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					source := storetest.New(t, partitions)
					app := source.App(1, 0)
					s := store.New(silent{}, replica.New(source, source.Codec(), quiet), store.Options{}, quiet)
					if tt.waits {
						ended := make(chan struct{})
						defer func() { <-ended }()
						ctx, cancel := context.WithTimeout(t.Context(), 4*tt.most)
						defer cancel()
						go func() { defer close(ended); _ = adopt(ctx, s, 1) }()
						synctest.Wait()
					}
					ctx, want := t.Context(), tt.most
					if own > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, own)
						defer cancel()
						want = own
					}
					began := time.Now()
					if err := tt.do(ctx, s, app, 1); err == nil || time.Since(began) != want {
						t.Errorf("%v after %v, want an error after %v", err, time.Since(began), want)
					}
				})
			})
		}
	}
}

func updating(ctx context.Context, s *store.Store, app string, _ int) error {
	_, err := s.Update(ctx, store.Call{
		AppID:  app,
		Change: func(*record.Document) (*record.Document, error) { return &record.Document{}, nil },
		Answer: func(*record.Document, record.Position) proto.Message { return nil },
	})
	return err
}
