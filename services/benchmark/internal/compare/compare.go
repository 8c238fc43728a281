// Package compare measures what a decision costs, beside an empty gRPC server and a service that asks Redis
// for each request. This package is not part of the public API and may change in any release.
package compare

import (
	"context"

	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/benchmark/internal/testbed"
)

// Report is the result of a comparison.
type Report struct {
	Environment report.Environment `json:"environment"`
	Options     testbed.Options    `json:"options"`
	// Notes tell readers what differs from what they may expect, such as a missing Redis.
	Notes   []string         `json:"notes"`
	Summary []report.Summary `json:"summary"`
	// Changes is the number of policies that were changed during the rounds, ChangesReached the same per
	// second.
	Changes        uint64         `json:"changes"`
	ChangesReached float64        `json:"changesPerSecondReached"`
	Turns          []*report.Turn `json:"turns"`
}

// Run runs a comparison. It pins this process to some of the machine's processors, until the process ends.
func Run(ctx context.Context, o testbed.Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	p := testbed.Divide()
	if err := p.Pin(); err != nil {
		return nil, err
	}
	found, err := testbed.Run(ctx, o, p, []testbed.Condition{o.Condition()})
	if err != nil {
		return nil, err
	}
	return &Report{
		Environment: report.ReadEnvironment(), Options: o, Notes: append([]string{p.Note()}, found.Notes...),
		Summary: found.Summaries[0], Changes: found.Changes, ChangesReached: found.ChangesReached, Turns: found.Turns[0],
	}, nil
}
