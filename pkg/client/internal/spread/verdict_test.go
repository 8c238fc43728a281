package spread

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
)

// TestB25_VerdictOf: a question is asked again only if another validator may decide it. A validator is
// avoided only for outcomes that say something about the validator itself.
func TestB25_VerdictOf(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want Verdict
	}{
		"an answer":                       {nil, Decided},
		"out of reach":                    {status.Error(codes.Unavailable, "connection refused"), Refused},
		"not loaded":                      {apierr.Unavailable(apierr.NotLoaded, "it loads"), Refused},
		"data too old":                    {apierr.Unavailable(apierr.DataTooOld, "old"), Refused},
		"overloaded":                      {apierr.Exhausted(apierr.Overloaded, "too much"), Refused},
		"the app's policy is unverified":  {apierr.Unavailable(apierr.PolicyUnverified, "damaged"), Lacking},
		"the revision is not reached":     {apierr.Unavailable(apierr.RevisionNotReached, "behind"), Lacking},
		"the revision is lost":            {apierr.Unavailable(apierr.RevisionLost, "lost"), Lacking},
		"too many wait for revisions":     {apierr.Unavailable(apierr.TooManyWaiting, "full"), Lacking},
		"the question is too large":       {status.Error(codes.ResourceExhausted, "larger than max"), Decided},
		"the question is wrong":           {status.Error(codes.InvalidArgument, "app_id"), Decided},
		"the caller has no more time":     {status.Error(codes.DeadlineExceeded, "late"), Left},
		"the caller has gone":             {status.Error(codes.Canceled, "gone"), Left},
		"the caller's own context":        {status.FromContextError(context.Canceled).Err(), Left},
		"an error that is none of gRPC's": {errors.New("odd"), Decided},
	} {
		if got := VerdictOf(test.err); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}
