// Package ledger keeps the counts of all validators: how many requests each app got, by token, scope, verdict
// and time (B21), and when each token was last used (B22). It adds each batch exactly once. This package is
// not part of the public API and may change in any release.
package ledger

import (
	"time"

	"github.com/countersign/countersign/pkg/policy"
)

const (
	// Hours is for how many hours before the running one the counts are kept by hour.
	Hours = 48
	// Days is for how many days before the present one, in UTC, the counts are kept by day.
	Days = 35
)

// Kind is everything by which requests of one app are counted.
type Kind struct {
	// TokenID is a token of the app. It is empty when the request carried none that the app has.
	TokenID  string
	Scope    policy.Scope
	Reason   policy.Reason
	Enforced bool
}

// Sum is a number of requests of one kind.
type Sum struct {
	Kind
	N uint64
}

// LastUse is when a token was last used for a scope, whatever the verdict was.
type LastUse struct {
	TokenID string
	Scope   policy.Scope
	// Minute is when the minute of the last use began.
	Minute time.Time
}

// Coverage says how far the counts of one start of a validator are complete.
type Coverage struct {
	ValidatorID, InstanceID string
	// Start is when the instance was started, by its own clock.
	Start time.Time
	// Until is the time before which every decision of the instance is counted. It is zero when nothing was
	// counted yet.
	Until time.Time
	// Final says that the instance stopped deciding at Until.
	Final bool
	// Dropped is how many decisions were lost because no authority took their counts in time.
	Dropped uint64
}
