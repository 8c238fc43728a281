package validator

import (
	"time"

	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/usage"
	"github.com/countersign/countersign/pkg/validator/internal/access"
)

func init() {
	access.Replica = func(v any) *replica.Replica { return v.(*Validator).replica.Load() }
	access.Usage = func(v any) *usage.Counter { return &v.(*Validator).usage }
	access.StopCounting = func(v any) { v.(*Validator).uncounted = true }
	access.UnacknowledgedUsage = func(v any) (int, time.Duration) {
		if reporter := v.(*Validator).fleet.reporter; reporter != nil {
			return reporter.UnacknowledgedUsage()
		}
		return 0, 0
	}
}
