// Package notify sends notices to a webhook (B29). A notice waits in an outbox in Redis until the receiver
// has confirmed it, so that neither a restart nor an outage loses it. It is remembered afterwards, so that it
// is not sent again. This package is not part of the public API and may change in any release.
package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// inFlight is how many deliveries run at once.
	inFlight = 4
	// maxEntries bounds the outbox. Further notices wait until there is room.
	maxEntries = 10_000
)

// Store keeps the outbox in Redis; see store.Errands. It must be safe for concurrent use.
type Store interface {
	AddNotices(ctx context.Context, entries map[string][]byte) error
	Notices(ctx context.Context) (map[string]string, error)
	PutNotice(ctx context.Context, id string, raw []byte) error
	RemoveNotices(ctx context.Context, ids []string) error
}

// Metrics are the metrics of deliveries.
type Metrics struct {
	deliveries *prometheus.CounterVec
	pending    prometheus.Gauge
}

// NewMetrics registers the metrics of deliveries.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_notice_deliveries_total",
			Help: "Deliveries of notices to the webhook, by result: delivered, failed (tried again later), or given_up.",
		}, []string{"result"}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_notices_pending", Help: "Notices that the webhook's receiver has not confirmed yet.",
		}),
	}
	for _, result := range []string{"delivered", "failed", "given_up"} {
		m.deliveries.WithLabelValues(result)
	}
	registerer.MustRegister(m.deliveries, m.pending)
	return m
}

// Outbox collects notices and delivers them. One goroutine at a time may call Work. Several authorities may
// work on one outbox; then a receiver may get a notice more than once, with the same id.
type Outbox struct {
	store   Store
	webhook *Webhook // nil for none
	metrics *Metrics
	log     *slog.Logger
}

// NewOutbox returns an outbox. Without a webhook it only remembers when each notice was first found.
func NewOutbox(store Store, webhook *Webhook, metrics *Metrics, log *slog.Logger) *Outbox {
	return &Outbox{store: store, webhook: webhook, metrics: metrics, log: log}
}

// Work adds the notices that are new, tries the deliveries that are due, and drops what is outdated. It
// returns when all of it is done, or ctx ends.
func (o *Outbox) Work(ctx context.Context, found []*countersignv1.Notice, now time.Time) error {
	entries, err := o.read(ctx, now)
	if err != nil {
		return err
	}
	fresh := map[string][]byte{}
	for _, n := range found {
		if entries[n.GetNoticeId()] != nil || fresh[n.GetNoticeId()] != nil {
			continue
		}
		if len(entries)+len(fresh) >= maxEntries {
			o.log.Error("the outbox of notices is full: further notices wait", "most", maxEntries)
			break
		}
		raw, err := newEntry(n, now)
		if err != nil {
			return err
		}
		fresh[n.GetNoticeId()] = raw
	}
	if err := o.store.AddNotices(ctx, fresh); err != nil {
		return err
	}
	for id, raw := range fresh {
		e := &entry{}
		if err := json.Unmarshal(raw, e); err != nil {
			return err
		}
		entries[id] = e
	}
	o.deliver(ctx, entries, now)
	waiting := 0
	for _, e := range entries {
		if e.State == pending {
			waiting++
		}
	}
	o.metrics.pending.Set(float64(waiting))
	return nil
}

// read reads the outbox, and removes from it what is outdated or unreadable.
func (o *Outbox) read(ctx context.Context, now time.Time) (map[string]*entry, error) {
	raw, err := o.store.Notices(ctx)
	if err != nil {
		return nil, err
	}
	entries := make(map[string]*entry, len(raw))
	var gone []string
	for id, text := range raw {
		e := &entry{}
		err := json.Unmarshal([]byte(text), e)
		switch {
		case err != nil:
			o.log.Error("an entry of the outbox of notices is damaged and is dropped", "notice", id)
			gone = append(gone, id)
		case e.outdated(now):
			gone = append(gone, id)
		default:
			entries[id] = e
		}
	}
	return entries, o.store.RemoveNotices(ctx, gone)
}

// deliver tries the deliveries that are due, a few at a time, the oldest first.
func (o *Outbox) deliver(ctx context.Context, entries map[string]*entry, now time.Time) {
	due := slices.DeleteFunc(slices.Collect(maps.Keys(entries)), func(id string) bool { return !entries[id].due(now) })
	slices.SortFunc(due, func(a, b string) int {
		if d := entries[a].CreatedMillis - entries[b].CreatedMillis; d != 0 {
			return int(max(-1, min(1, d)))
		}
		if a < b {
			return -1
		}
		return 1
	})
	var running sync.WaitGroup
	slots := make(chan struct{}, inFlight)
	for _, id := range due {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		running.Go(func() {
			defer func() { <-slots }()
			o.try(ctx, id, entries[id], now)
		})
	}
	running.Wait()
}

// try delivers one notice, and notes the result. When the note is lost, the notice is delivered again with
// the same id.
func (o *Outbox) try(ctx context.Context, id string, e *entry, now time.Time) {
	if o.webhook == nil {
		// Nobody is to be told. The entry still ends, so that it is forgotten in time.
		if now.Sub(time.UnixMilli(e.CreatedMillis)) < giveUpAfter {
			return
		}
		e.State, e.DoneMillis = givenUp, now.UnixMilli()
	} else {
		err := o.webhook.Send(ctx, id, e.Payload, time.Now())
		if ctx.Err() != nil && err != nil {
			return // this authority ends: another one tries
		}
		e.tried(err, now)
		o.report(id, e, err)
	}
	raw, err := json.Marshal(e)
	if err == nil {
		err = o.store.PutNotice(ctx, id, raw)
	}
	if err != nil {
		o.log.Warn("the delivery of a notice could not be noted; it will be repeated with the same id", "notice", id, "error", err)
	}
}

// report counts and logs one delivery.
func (o *Outbox) report(id string, e *entry, err error) {
	switch e.State {
	case delivered:
		o.metrics.deliveries.WithLabelValues("delivered").Inc()
		o.log.Info("a notice was delivered", "notice", id, "attempts", e.Attempts)
	case givenUp:
		o.metrics.deliveries.WithLabelValues("given_up").Inc()
		o.log.Error("a notice could not be delivered for 3 days and is given up", "notice", id, "error", err)
	default:
		o.metrics.deliveries.WithLabelValues("failed").Inc()
		o.log.Warn("a notice could not be delivered and is tried again", "notice", id, "attempts", e.Attempts,
			"next", time.UnixMilli(e.NextMillis).UTC().Format(time.RFC3339), "error", fmt.Sprint(err))
	}
}
