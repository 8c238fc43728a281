package serve

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store"
)

const (
	// changedApps is the number of apps that are changed in turn. No question is about them.
	changedApps = 256
	// changesAtOnce is the number of changes in flight, about as many as a busy authority has.
	changesAtOnce = 16
)

// writer changes policies like an authority, at a constant rate: it disables a token of each of its apps in
// turn, and activates it again. On command it resyncs validators.
type writer struct {
	config Config
	client *redisfeed.Client
	ring   *keyring.Ring
	digest secret.Digest

	made, failed atomic.Uint64

	// resyncer is set before ready is closed.
	resyncer *resyncer
	ready    chan struct{}
}

func newWriter(c Config) (server, error) {
	w := &writer{config: c, digest: secret.Mint().Digest(), ready: make(chan struct{})}
	var err error
	if w.ring, err = keyring.Load(c.RingFile); err != nil {
		return nil, err
	}
	w.client, err = redisfeed.Open(c.RedisURL, redisfeed.Options{})
	return w, err
}

func (w *writer) state(to *State) {
	to.Changes, to.Failed = w.made.Load(), w.failed.Load()
	select {
	case <-w.ready:
		w.resyncer.state(to)
	default:
	}
}

// command implements commanded.
func (w *writer) command(ctx context.Context, c Command) {
	if c.Resync == nil && !c.Steady {
		return
	}
	select {
	case <-ctx.Done():
		return
	case <-w.ready:
	}
	w.resyncer.end()
	if c.Resync != nil {
		w.resyncer.begin(ctx, *c.Resync)
	}
}

// Run implements server.
func (w *writer) Run(ctx context.Context) error {
	defer w.client.Close()
	meta, err := w.client.Meta(ctx, w.ring)
	if err != nil {
		return err
	}
	r := replica.New(redisfeed.New(w.client, meta.Partitions), record.NewCodec(w.ring, meta), w.config.log)
	options := store.Options{Embedded: w.config.Embedded}
	to := store.New(store.Over(w.client, meta.Partitions, options), r, options, w.config.log)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.Run(ctx) })
	group.Go(func() error {
		if r.WaitLoaded(ctx) == nil { // an error means that ctx has ended
			w.resyncer = newResyncer(to, r, w.client, w.change)
			close(w.ready)
			if w.config.ChangesPerSecond > 0 {
				w.write(ctx, to)
			}
		}
		return nil
	})
	err = group.Wait()
	select {
	case <-w.ready:
		w.resyncer.end()
	default:
	}
	return err
}

// write makes changes until ctx ends. When the store is too slow, due changes wait.
func (w *writer) write(ctx context.Context, to *store.Store) {
	var group errgroup.Group
	defer func() { _ = group.Wait() }() // failures are counted
	group.SetLimit(changesAtOnce)
	began := time.Now()
	for n := 0; ; n++ {
		due := began.Add(time.Duration(float64(n) / w.config.ChangesPerSecond * float64(time.Second)))
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		group.Go(func() error {
			_, err := to.Update(ctx, w.change(fmt.Sprintf("changed%03d", n%changedApps)))
			switch {
			case err == nil:
				w.made.Add(1)
			case ctx.Err() == nil:
				w.failed.Add(1)
			}
			return nil
		})
	}
}

// change returns a call that changes an app.
func (w *writer) change(appID string) store.Call {
	now := time.Now()
	return store.Call{
		AppID: appID,
		Change: func(before *record.Document) (*record.Document, error) {
			after := &record.Document{AppID: appID, CreateMillis: now.UnixMilli(), Tokens: []record.Token{{
				Token:     policy.Token{ID: "tok_changed", Digest: w.digest, State: policy.Disabled},
				Name:      "changed",
				CreatedBy: "bench",
			}}}
			if before != nil {
				after.CreateMillis = before.CreateMillis
				after.Tokens[0] = before.Tokens[0]
			}
			if t := &after.Tokens[0]; t.State == policy.Disabled {
				t.State = policy.Active
			} else {
				t.State = policy.Disabled
			}
			after.Tokens[0].UpdateMillis, after.UpdateMillis = now.UnixMilli(), now.UnixMilli()
			return after, nil
		},
		Event:  &countersignv1.AuditEvent{EventTime: timestamppb.New(now), Identity: "bench", Method: "UpdateToken"},
		Answer: func(*record.Document, record.Position) proto.Message { return &countersignv1.UpdateTokenResponse{} },
	}
}
