package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
)

// notReadyAdvice says what to do about a readiness report with blockers.
const notReadyAdvice = `Do what the blockers say, and try again. What else may help:
  --window N               look further back, or only at the time since the last fix (default 24h)
  --max-rejected-ratio N   accept a higher share of requests without a known token (default 0.01)
  --allow-rejections       enforce in spite of the blockers; what they name will be rejected`

// notReady shows the report in an error that refuses to switch enforcement on, and adds what to do. It
// returns other errors as they are.
func notReady(cmd *cobra.Command, err error) error {
	if err == nil || apierr.ReasonOf(err) != "NOT_READY" {
		return err
	}
	for _, detail := range status.Convert(err).Details() {
		if report, ok := detail.(*countersignv1.Readiness); ok {
			showErr := show.Readiness(cmd.ErrOrStderr(), report, styleOf(cmd.ErrOrStderr()), time.Now(), true)
			if showErr != nil {
				return errors.Join(err, showErr)
			}
			_, _ = cmd.ErrOrStderr().Write([]byte("\n"))
		}
	}
	return &adviceError{err, notReadyAdvice}
}
