package show

import (
	"time"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/words"
)

// FoundHeading is the heading over FoundRows.
var FoundHeading = []string{"APP", "TOKEN", "NAME", "STATE", "LAST USE"}

// FoundRows returns the rows of tokens that have a secret. Of a token that was revoked long ago only the
// state is known.
func FoundRows(tokens []*countersignv1.FoundToken, now time.Time) [][]string {
	var rows [][]string
	for _, found := range tokens {
		t := found.GetToken()
		row := []string{
			found.GetAppId(), t.GetTokenId(), words.Printable(t.GetName()), words.Enum(t.GetState()),
			words.Ago(LastUse(t.GetLastUses()), now),
		}
		if t.GetTokenId() == "" {
			row[1], row[2], row[4] = "-", "-", "-"
		}
		rows = append(rows, row)
	}
	return rows
}
