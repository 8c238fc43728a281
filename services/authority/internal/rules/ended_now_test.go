package rules_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// TestB16_EndingNowIsRevoking: ending a token now, ending it later and revoking it are judged alike, by how
// long the other tokens last.
func TestB16_EndingNowIsRevoking(t *testing.T) {
	for name, tt := range map[string]struct {
		other   record.Token
		refused bool
	}{
		"the other never ends":   {token("b", events), false},
		"the other ends later":   {expiring(token("b", events), 2*day), true},
		"the other ends shortly": {expiring(token("b", events), time.Millisecond), true},
	} {
		t.Run(name, func(t *testing.T) {
			before := document(set(events), token("a", events), tt.other)
			if _, err := rules.Revoke(before, by, false, "a"); (err != nil) != tt.refused {
				t.Errorf("to revoke: %v, want it refused: %v", err, tt.refused)
			}
			for _, in := range []time.Duration{-day, 0, time.Millisecond, day} {
				_, err := rules.Update{
					TokenID: "a", ExpireMillis: ptr(millis(in)),
					Check: func(*record.Token) error { return nil },
				}.Apply(before, by)
				if (err != nil) != tt.refused {
					t.Errorf("to expire in %v: %v, want it refused: %v", in, err, tt.refused)
				}
			}
		})
	}
}
