package show

import (
	"fmt"
	"time"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/words"
)

// App returns the rows of one app.
func App(a *countersignv1.App, now time.Time) []Row {
	rows := []Row{{"App", a.GetAppId()}, {"Enforced", enforced(a.GetEnforcedScopes())}}
	if a.GetTrialEndTime() != nil {
		rows = append(rows, Row{"Until", words.Time(a.GetTrialEndTime(), now)},
			Row{"Then enforced", enforced(a.GetScopesAfterTrial())})
	}
	rows = append(rows, Row{"Tokens", fmt.Sprintf("%d active, %d disabled, %d revoked, %d expired",
		a.GetActiveTokenCount(), a.GetDisabledTokenCount(), a.GetRevokedTokenCount(), a.GetExpiredTokenCount())})
	if n := a.GetRememberedDigestCount(); n > 0 {
		rows = append(rows, Row{"Remembered", fmt.Sprintf("%d revoked before", n)})
	}
	return append(rows, Row{"Etag", a.GetEtag()})
}

func enforced(scopes []countersignv1.Scope) string {
	if len(scopes) == 0 {
		return "nothing"
	}
	return words.ListScopes(scopes)
}

// AppHeading is the heading over AppCells.
var AppHeading = []string{"APP", "ENFORCED", "UNTIL", "ACTIVE", "DISABLED", "REVOKED", "EXPIRED"}

// AppCells returns an app's row in a list.
func AppCells(a *countersignv1.App, now time.Time) []string {
	if a.GetUnverified() {
		return []string{a.GetAppId(), "not verified", "?", "?", "?", "?", "?"}
	}
	row := []string{a.GetAppId(), enforced(a.GetEnforcedScopes()), words.Relative(a.GetTrialEndTime(), now)}
	for _, count := range []int32{
		a.GetActiveTokenCount(), a.GetDisabledTokenCount(), a.GetRevokedTokenCount(), a.GetExpiredTokenCount(),
	} {
		row = append(row, fmt.Sprint(count))
	}
	return row
}
