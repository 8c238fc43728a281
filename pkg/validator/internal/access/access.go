// Package access gives package inside the parts of a validator that package validator keeps to itself. This
// package is not part of the public API and may change in any release.
package access

import (
	"time"

	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/usage"
)

// Package validator sets these functions. They take a *validator.Validator.
var (
	Replica func(validator any) *replica.Replica
	Usage   func(validator any) *usage.Counter

	StopCounting        func(validator any)
	UnacknowledgedUsage func(validator any) (batches int, age time.Duration)
)
