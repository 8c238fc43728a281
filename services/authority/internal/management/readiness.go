package management

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/readiness"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

const (
	defaultRatio = readiness.DefaultMaxRejectedRatio
	// minWindow is the shortest window of a report.
	minWindow = time.Minute
)

// windowOf checks the window of a report; absent is the default.
func windowOf(field string, window *durationpb.Duration) (time.Duration, error) {
	if window == nil {
		return readiness.DefaultWindow, nil
	}
	d := window.AsDuration()
	if window.CheckValid() != nil || d < minWindow || d > readiness.MaxWindow {
		return 0, apierr.Invalid(field, "want 1 minute to %d days", int(readiness.MaxWindow.Hours()/24))
	}
	return d, nil
}

// GetReadiness implements the RPC (B21).
func (s *Service) GetReadiness(ctx context.Context, r *countersignv1.GetReadinessRequest,
) (*countersignv1.GetReadinessResponse, error) {
	if err := checkAppID(r.GetAppId()); err != nil {
		return nil, err
	}
	window, err := windowOf("window", r.GetWindow())
	if err != nil {
		return nil, err
	}
	ratio, err := ratioOf(r.MaxRejectedRatio)
	if err != nil {
		return nil, err
	}
	d, err := s.read(ctx, r.GetAppId())
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, refused(rules.NoApp())
	}
	found, err := s.evidence.App(ctx, r.GetAppId())
	if err != nil {
		return nil, errUsage(err)
	}
	return &countersignv1.GetReadinessResponse{Readiness: reportOn(d, found, window, ratio, 0, time.Now())}, nil
}
