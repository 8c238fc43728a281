package fleet

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/usage"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/ledger"
)

const (
	// maxBatches is how many batches of one stream may wait to be added. Further ones are ignored: a
	// validator sends one of each partition, and sends it again.
	maxBatches = 128
	// lastCover bounds how long the end of a validator's counts may take to be stored.
	lastCover = 2 * time.Second
	// coverPause is the least time between two notes about one validator's progress. coverAgain is the
	// longest: it is noted that a validator runs, also when it hands nothing up.
	coverPause = time.Second
	coverAgain = time.Minute
)

// UsageSink takes the usage counts of validators (B21). It must be safe for concurrent use.
type UsageSink interface {
	// Add adds a batch once, and returns up to which number the partition's batches of the instance were
	// added. After an error the validator sends the batch again.
	Add(ctx context.Context, instanceID string, batch *usage.Batch) (counted uint64, err error)
	// Cover stores how far the counts of an instance are complete.
	Cover(ctx context.Context, c ledger.Coverage) error
}

// OpenUsage says where usage counts go. Until then they are ignored, and validators keep them.
func (s *Service) OpenUsage(sink UsageSink) { s.usage.Store(&sink) }

// counting hands the usage counts of one stream on. A slow or broken sink delays nothing else of the stream.
type counting struct {
	ctx     context.Context // of the stream
	sink    func() *UsageSink
	who     ledger.Coverage // without progress
	slots   chan struct{}   // has an element for each batch that waits
	counted chan counted
	// progress has the latest progress that was not noted yet.
	progress chan ledger.Coverage
}

// counted is the answer to a batch.
type counted struct {
	partition int
	number    uint64
}

func (c counted) toProto() *countersignv1.ReportResponse {
	return &countersignv1.ReportResponse{UsagePartition: proto.Uint32(uint32(c.partition)), UsageAcknowledged: c.number}
}

func newCounting(ctx context.Context, sink func() *UsageSink) *counting {
	return &counting{
		ctx: ctx, sink: sink, slots: make(chan struct{}, maxBatches), counted: make(chan counted, maxBatches),
		progress: make(chan ledger.Coverage, 1),
	}
}

// begin takes the first message of a stream.
func (c *counting) begin(hello *update) {
	c.who = whose(hello)
	go c.note()
	c.take(hello)
}

func whose(hello *update) ledger.Coverage {
	v := &hello.validator
	return ledger.Coverage{ValidatorID: v.ID, InstanceID: v.InstanceID, Start: v.Start}
}

// take takes what a message says about usage. It does not block.
func (c *counting) take(u *update) {
	if u.progress != nil {
		select {
		case <-c.progress: // the earlier one was not noted yet
		default:
		}
		c.progress <- withProgress(c.who, u.progress)
	}
	sink := c.sink()
	if u.usage == nil || sink == nil {
		return
	}
	select {
	case c.slots <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-c.slots }()
		number, err := (*sink).Add(c.ctx, c.who.InstanceID, u.usage)
		if err != nil {
			return
		}
		select {
		case c.counted <- counted{u.usage.Partition, number}:
		case <-c.ctx.Done():
		}
	}()
}

// note notes that the validator runs, and its progress, until the stream ends. A note that fails is made
// again with the next one.
func (c *counting) note() {
	latest, pause := c.who, time.Duration(0)
	for {
		if sink := c.sink(); sink != nil {
			_ = (*sink).Cover(c.ctx, latest)
		}
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = coverPause
		select {
		case <-c.ctx.Done():
			return
		case latest = <-c.progress:
		case <-time.After(coverAgain):
		}
	}
}

func withProgress(who ledger.Coverage, p *countersignv1.UsageProgress) ledger.Coverage {
	if p.GetCompleteUntil() != nil {
		who.Until = p.GetCompleteUntil().AsTime()
	}
	if p.GetDroppedUntil() != nil {
		who.DroppedUntil = p.GetDroppedUntil().AsTime()
	}
	who.Dropped, who.Final = p.GetDropped(), p.GetFinal()
	return who
}

// leave removes a validator that leaves, and then notes the end of its counts.
func (s *Service) leave(ctx context.Context, r *Registry, u *update) error {
	err := r.leave(ctx, u)
	if sink := s.usage.Load(); sink != nil && u.progress != nil {
		// A validator that has gone does not repeat it, so its own timeout must not end it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCover)
		defer cancel()
		if err := (*sink).Cover(ctx, withProgress(whose(u), u.progress)); err != nil {
			r.log.Warn("it could not be stored that a validator's usage counts are complete; reports will call them incomplete",
				"validator", u.validator.ID, "error", err)
		}
	}
	return err
}
