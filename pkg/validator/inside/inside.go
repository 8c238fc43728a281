// Package inside opens a validator to this module's own services and tests: its replica, its usage counts and
// the reporter that joins it to the fleet. This package is not part of the public API and may change in any
// release.
package inside

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/usage"
	"github.com/countersign/countersign/pkg/validator"
	"github.com/countersign/countersign/pkg/validator/internal/access"
	"github.com/countersign/countersign/pkg/validator/internal/fleet"
)

// Replica returns the replica that a validator decides from. It is nil until the validator has found the
// store, or a snapshot of it.
func Replica(v *validator.Validator) *replica.Replica { return access.Replica(v) }

// Usage returns the counter of the decisions that Authorize has made, by app, token, scope, verdict and
// minute (B21, B22). Apps without a policy and requests that failed are not counted. The counter keeps
// counts that nobody takes for an hour at most; see usage.Counter.
func Usage(v *validator.Validator) *usage.Counter { return access.Usage(v) }

// StopCounting makes a validator count no decisions. It is for measurements of what counting costs, and must
// be called before the first decision.
func StopCounting(v *validator.Validator) { access.StopCounting(v) }

// UnacknowledgedUsage returns how many batches of usage counts no authority has acknowledged yet, and how old
// the oldest decision in them may be. Both are 0 without an authority.
func UnacknowledgedUsage(v *validator.Validator) (batches int, age time.Duration) {
	return access.UnacknowledgedUsage(v)
}

// Reporter reports to an authority, as a validator does, what a replica holds.
type Reporter = fleet.Reporter

// NewReporter returns a reporter for tests. It reports as the validator with an id, logs nothing, and
// connects with dial.
func NewReporter(id string, dial func(ctx context.Context, address string) (net.Conn, error)) (*Reporter, error) {
	return fleet.New(fleet.Config{Authority: "127.0.0.1:1", ID: id, Log: slog.New(slog.DiscardHandler), Dial: dial})
}
