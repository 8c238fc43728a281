// Package upkeep does what needs nobody's call: it ends rotations whose old token is unused, and finds the
// notices of all apps (B29). One of the authorities does it for all, under a lease. It does no harm when two
// do it at once. This package is not part of the public API and may change in any release.
package upkeep

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/evidence"
	"github.com/countersign/countersign/services/authority/internal/notify"
	"github.com/countersign/countersign/services/store"
)

const (
	// Interval is the pause between two rounds.
	Interval = 30 * time.Second
	// leaseLife is how long an authority keeps the upkeep after it began its latest round.
	leaseLife = 3 * Interval
	// lookTimeout bounds the part of a round that looks at apps, so that time is left for deliveries.
	lookTimeout = 2 * Interval
	// maxFailures is how many apps may fail before a round looks at no further partition.
	maxFailures = 20
	// maxApps is about how many apps one round looks at. A larger store takes several rounds.
	maxApps = 20_000
	// appsAtOnce is how many apps of a partition are read with one call.
	appsAtOnce = 500
	// recent is how far back rejections of own tokens count for a notice.
	recent = time.Hour
)

// Lease makes sure that one authority at a time does the upkeep; see store.Errands.
type Lease interface {
	Lease(ctx context.Context, owner string, life time.Duration) (held bool, err error)
}

// Store is what the upkeep needs of the store; see store.Store.
type Store interface {
	Replica() *replica.Replica
	Read(ctx context.Context, appID string) (*record.Document, record.Head, error)
	Update(ctx context.Context, call store.Call) (store.Result, error)
}

// Config is what a keeper works with.
type Config struct {
	Lease    Lease
	Store    Store
	Evidence *evidence.Source
	Outbox   *notify.Outbox
	Metrics  *Metrics
	Log      *slog.Logger
}

// Metrics are the metrics of the upkeep.
type Metrics struct {
	notices *prometheus.GaugeVec
	ended   prometheus.Counter
	failed  prometheus.Counter
}

// NewMetrics registers the metrics of the upkeep.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		notices: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "countersign_notices",
			Help: "What will do harm unless somebody acts, by kind. Only the authority that does the upkeep counts it; " +
				"the others show 0.",
		}, []string{"kind"}),
		ended: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "countersign_unused_tokens_ended_total",
			Help: "Old tokens of rotations that this authority ended because nobody used them any more.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "countersign_upkeep_failed_total", Help: "Rounds of upkeep that could not be finished.",
		}),
	}
	for number := range countersignv1.NoticeKind_name {
		if number != 0 {
			m.notices.WithLabelValues(notify.KindName(countersignv1.NoticeKind(number)))
		}
	}
	registerer.MustRegister(m.notices, m.ended, m.failed)
	return m
}

// Keeper does the upkeep. Make one with New. One goroutine may call Run.
type Keeper struct {
	Config
	owner string
	// next is the partition with which the next round begins.
	next int
	// found has the notices of each partition as it was last looked at.
	found map[int][]*countersignv1.Notice
	// rotations has, by app, the rotations that end once the old token is unused.
	rotations map[string]rotations
	troubled  bool
}

// New returns a keeper.
func New(config Config) *Keeper {
	return &Keeper{
		Config: config, owner: rand.Text(), found: map[int][]*countersignv1.Notice{}, rotations: map[string]rotations{},
	}
}

// Run does a round every Interval until ctx ends, which is not an error.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(Interval):
		}
		err := k.Round(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is no error
		}
		if err != nil {
			k.Metrics.failed.Inc()
		}
		if err != nil && !k.troubled {
			k.Log.Warn("the upkeep is not complete: some rotations that wait for their old token to be unused stay open, and some "+
				"notices are not found or not sent", "error", err)
		}
		if err == nil && k.troubled {
			k.Log.Info("the upkeep is complete again")
		}
		k.troubled = err != nil
	}
}

// Round does one round if this authority has the lease, or can take it. What fails for some apps, or for all,
// keeps nothing else from being done: the error says what was not.
func (k *Keeper) Round(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseLife)
	defer cancel()
	held, err := k.Lease.Lease(ctx, k.owner, leaseLife)
	if err != nil || !held {
		clear(k.found)
		k.count()
		k.Outbox.Rest()
		return err
	}
	now := time.Now()
	failed := k.look(ctx, now)
	k.count()
	var all []*countersignv1.Notice
	for partition := range k.Store.Replica().Table().Len() {
		all = append(all, k.found[partition]...)
	}
	return errors.Join(failed, k.Outbox.Work(ctx, all, now))
}

// look looks at the apps of the next partitions.
func (k *Keeper) look(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	covered, err := k.Evidence.Fleet(ctx)
	if err != nil {
		return err
	}
	partitions := k.Store.Replica().Table().Len()
	var failed []error
	for looked, n := 0, 0; n < partitions && looked < maxApps && len(failed) < maxFailures; n++ {
		number := k.next
		k.next = (number + 1) % partitions // also when it fails, so that the others have their turn
		apps, failures, err := k.partition(ctx, number, covered, now)
		looked += apps
		failed = append(failed, failures...)
		if err != nil {
			return errors.Join(append(failed, err)...)
		}
	}
	return errors.Join(failed...)
}

// count sets the metrics of the notices.
func (k *Keeper) count() {
	byKind := map[string]int{}
	for _, of := range k.found {
		for _, n := range of {
			byKind[notify.KindName(n.GetKind())]++
		}
	}
	for number := range countersignv1.NoticeKind_name {
		if number != 0 {
			kind := notify.KindName(countersignv1.NoticeKind(number))
			k.Metrics.notices.WithLabelValues(kind).Set(float64(byKind[kind]))
		}
	}
}
