package rules_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// B16: a token may end now while another one authenticates its scopes, even one that expires later: ending now is revoking
// it, which is allowed. Only an end that is yet to come has to look at what will be there by then.
func TestB16_EndingNowLooksAtNow(t *testing.T) {
	before := document(set(events), token("a", events), expiring(token("b", events), 2*day))
	if _, err := rules.Revoke(before, by, false, "a"); err != nil {
		t.Fatalf("revoked: %v", err)
	}
	for in, refused := range map[time.Duration]bool{-day: false, 0: false, time.Millisecond: true, day: true} {
		_, err := rules.Update{TokenID: "a", ExpireMillis: ptr(millis(in)), Check: func(*record.Token) error { return nil }}.Apply(before, by)
		if (err != nil) != refused {
			t.Errorf("to expire in %v: %v, want it refused: %v", in, err, refused)
		}
	}
}
