package fleet

import (
	"fmt"
	"math"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/usage"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	maxTokenIDLength = 64
	// maxCount bounds one count. No validator makes as many decisions in a minute.
	maxCount = 1 << 40
)

// readUsage reads and checks what a report says about usage.
func (r *Registry) readUsage(u *update, m *countersignv1.ReportRequest) error {
	if p := m.GetUsageProgress(); p != nil {
		if p.GetCompleteUntil() != nil && !p.GetCompleteUntil().IsValid() {
			return apierr.Invalid("usage_progress.complete_until", "want a time, or none")
		}
		if p.GetDroppedUntil() != nil && !p.GetDroppedUntil().IsValid() {
			return apierr.Invalid("usage_progress.dropped_until", "want a time, or none")
		}
		u.progress = p
	}
	batch := m.GetUsage()
	switch {
	case batch == nil:
		return nil
	case int64(batch.GetPartition()) >= int64(r.codec.Partitions()):
		return r.badPartition("usage.partition")
	case batch.GetNumber() == 0 || batch.GetNumber() > math.MaxInt64:
		return apierr.Invalid("usage.number", "want 1 or more")
	case len(batch.GetCounts()) > usage.MaxBatch:
		return apierr.Invalid("usage.counts", "want at most %d", usage.MaxBatch)
	}
	read := &usage.Batch{
		Partition: int(batch.GetPartition()), Number: batch.GetNumber(), Oldest: batch.GetOldest(),
		Counts: make([]usage.Count, 0, len(batch.GetCounts())),
	}
	appID := ""
	for i, c := range batch.GetCounts() {
		invalid := func(field, want string, args ...any) error {
			return apierr.Invalid(fmt.Sprintf("usage.counts[%d].%s", i, field), want, args...)
		}
		switch {
		case c.GetAppId() != appID && !policy.ValidAppID(c.GetAppId()):
			return invalid("app_id", "want 1 to %d characters of A-Z a-z 0-9 - _", policy.MaxAppIDLength)
		case c.GetAppId() != appID && r.codec.PartitionOf(c.GetAppId()) != read.Partition:
			return invalid("app_id", "want an app of partition %d", read.Partition)
		case len(c.GetTokenId()) > maxTokenIDLength:
			return invalid("token_id", "want at most %d characters", maxTokenIDLength)
		case c.GetScope() < 1 || c.GetScope() > countersignv1.Scope(policy.MaxScope):
			return invalid("scope", "want a scope")
		case c.GetReason() < 1 || c.GetReason() > math.MaxInt8:
			return invalid("reason", "want a reason")
		case !c.GetMinute().IsValid():
			return invalid("minute", "want a time")
		case c.GetCount() < 1 || c.GetCount() > maxCount:
			return invalid("count", "want 1 to %d", uint64(maxCount))
		}
		appID = c.GetAppId()
		read.Counts = append(read.Counts, usage.Count{
			AppID: appID, TokenID: c.GetTokenId(), Scope: policy.Scope(c.GetScope()), Reason: policy.Reason(c.GetReason()),
			Enforced: c.GetEnforced(), Minute: c.GetMinute().AsTime(), N: c.GetCount(),
		})
	}
	u.usage = read
	return nil
}
