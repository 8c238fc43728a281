// Package notify sends notices to a webhook (B29). A notice waits in an outbox in Redis until the receiver
// has confirmed it, so that neither a restart nor an outage loses it. It is remembered afterwards, so that it
// is not sent again. This package is not part of the public API and may change in any release.
package notify

import (
	"cmp"
	"context"
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
	// deliverFor is how long one call of Work begins deliveries, so that a receiver that hangs does not hold
	// up the rest of the upkeep. What is due then waits for the next call.
	deliverFor = 20 * time.Second
)

// Store keeps the outbox in Redis; see store.Errands. It must be safe for concurrent use.
type Store interface {
	AddNotices(ctx context.Context, entries map[string]string) (added []string, err error)
	Notices(ctx context.Context) (map[string]string, error)
	PutNotice(ctx context.Context, id, raw string) error
	ReplaceNotices(ctx context.Context, from, to map[string]string) error
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
	full    bool // the latest Work had no room for all new notices

	mu sync.Mutex
	// unnoted has the entries whose delivery was tried, and whose result could not be written to Redis.
	unnoted map[string]*entry
}

// NewOutbox returns an outbox. Without a webhook it only remembers notices.
func NewOutbox(store Store, webhook *Webhook, metrics *Metrics, log *slog.Logger) *Outbox {
	return &Outbox{store: store, webhook: webhook, metrics: metrics, log: log, unnoted: map[string]*entry{}}
}

// Work adds the notices that are new, tries deliveries that are due, and forgets notices that were not found
// for long. It returns after deliverFor and the end of the last delivery, or when ctx ends.
func (o *Outbox) Work(ctx context.Context, found []*countersignv1.Notice, now time.Time) error {
	c, err := o.read(ctx)
	if err != nil {
		return err
	}
	if err := o.noteLate(ctx, c); err != nil {
		return err
	}
	unknown := c.find(found, now)
	room := c.makeRoom(len(unknown), now)
	o.reportFull(len(unknown) > room)
	if err := o.store.ReplaceNotices(ctx, c.from, c.to); err != nil {
		return err
	}
	if err := o.add(ctx, c, unknown[:room], now); err != nil {
		return err
	}
	o.deliver(ctx, c.entries, now)
	o.metrics.pending.Set(float64(c.pending()))
	return nil
}

// Rest says that another authority works on the outbox: the metric of pending notices is 0 here.
func (o *Outbox) Rest() { o.metrics.pending.Set(0) }

// read reads the outbox. An entry that cannot be read is dropped.
func (o *Outbox) read(ctx context.Context) (*contents, error) {
	raw, err := o.store.Notices(ctx)
	if err != nil {
		return nil, err
	}
	c := &contents{entries: make(map[string]*entry, len(raw)), from: map[string]string{}, to: map[string]string{}}
	for id, text := range raw {
		e, err := parse(text)
		if err != nil {
			o.log.Error("an entry of the outbox of notices is damaged and is dropped", "notice", id, "error", err)
			c.from[id] = text
			continue
		}
		c.entries[id] = e
	}
	return c, nil
}

// noteLate writes the results of deliveries that could not be written before. Nothing is delivered until they
// are, since their notices would be delivered again.
func (o *Outbox) noteLate(ctx context.Context, c *contents) error {
	for id, late := range o.unnoted {
		if e := c.entries[id]; e != nil && e.State == pending {
			if err := o.note(ctx, id, late); err != nil {
				return err
			}
			c.entries[id] = late
		}
		delete(o.unnoted, id)
	}
	return nil
}

// reportFull logs when the outbox becomes full.
func (o *Outbox) reportFull(full bool) {
	if full && !o.full {
		o.log.Error("the outbox of notices is full: further notices wait until others are delivered, or do not hold any more",
			"most_pending", maxPending, "most", maxEntries)
	}
	o.full = full
}

// add adds new notices to the outbox. Those that another authority has added meanwhile are left to it. A
// notice that cannot be written must not stop the others.
func (o *Outbox) add(ctx context.Context, c *contents, fresh []*countersignv1.Notice, now time.Time) error {
	raw, entries := map[string]string{}, map[string]*entry{}
	for _, n := range fresh {
		e, err := newEntry(n, now)
		if err != nil {
			o.log.Error("a notice cannot be sent", "notice", n.GetNoticeId(), "app", n.GetAppId(), "error", err)
			continue
		}
		raw[n.GetNoticeId()], entries[n.GetNoticeId()] = e.raw, e
	}
	added, err := o.store.AddNotices(ctx, raw)
	if err != nil {
		return err
	}
	for _, id := range added {
		c.entries[id] = entries[id]
	}
	return nil
}

// deliver tries deliveries that are due, a few at a time. Those that are due for longest come first, so that
// notices that fail again and again do not hold up the others.
func (o *Outbox) deliver(ctx context.Context, entries map[string]*entry, now time.Time) {
	due := slices.DeleteFunc(slices.Collect(maps.Keys(entries)), func(id string) bool { return !entries[id].due(now) })
	slices.SortFunc(due, func(a, b string) int {
		return cmp.Or(cmp.Compare(entries[a].dueMillis(), entries[b].dueMillis()), cmp.Compare(a, b))
	})
	until := time.Now().Add(deliverFor)
	var running sync.WaitGroup
	slots := make(chan struct{}, inFlight)
	for _, id := range due {
		slots <- struct{}{}
		if ctx.Err() != nil || o.troubled() || !time.Now().Before(until) {
			break
		}
		running.Go(func() {
			defer func() { <-slots }()
			o.try(ctx, id, entries[id], now)
		})
	}
	running.Wait()
}

// troubled reports whether a result could not be written. Then further deliveries would be repeated too.
func (o *Outbox) troubled() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.unnoted) > 0
}

// try delivers one notice, and notes the result.
func (o *Outbox) try(ctx context.Context, id string, e *entry, now time.Time) {
	if o.webhook == nil {
		// Nobody is to be told. The entry still ends, so that it is forgotten in time.
		if now.Sub(time.UnixMilli(e.CreatedMillis)) < giveUpAfter {
			return
		}
		e.end(givenUp, now)
	} else {
		err := o.webhook.Send(ctx, id, e.Payload, time.Now())
		if ctx.Err() != nil && err != nil {
			return // this authority ends: another one tries
		}
		e.tried(err, now)
		o.report(id, e, err)
	}
	if err := o.note(ctx, id, e); err != nil {
		o.log.Warn("the delivery of a notice could not be noted; if this authority ends before it can, the notice is delivered "+
			"again with the same id", "notice", id, "error", err)
		o.mu.Lock()
		defer o.mu.Unlock()
		o.unnoted[id] = e
	}
}

// note writes the result of a delivery, even when this authority ends meanwhile. That a notice was delivered
// is true whatever other authorities have written. Any other result must not replace theirs.
func (o *Outbox) note(ctx context.Context, id string, e *entry) error {
	text, err := e.text()
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if e.State == delivered {
		err = o.store.PutNotice(ctx, id, text)
	} else {
		err = o.store.ReplaceNotices(ctx, map[string]string{id: e.raw}, map[string]string{id: text})
	}
	if err == nil {
		e.raw = text
	}
	return err
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
