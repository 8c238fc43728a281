package rules

import (
	"cmp"
	"slices"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
)

// forget removes from a document what lists no longer show (B06): tokens that ended before the retention, and
// the oldest ended tokens beyond MaxEnded. The digests of revoked ones stay remembered (B08). A token that
// the present call changed stays, since the call's answer shows it.
func forget(after *record.Document, by By) *record.Document {
	old := by.Now.Add(-Retention).UnixMilli()
	if ends := endedAt(after, by.millis()); len(ends) > MaxEnded {
		old = max(old, ends[len(ends)-MaxEnded-1]+1)
	}
	var revoked []policy.Token
	after.Tokens = slices.DeleteFunc(after.Tokens, func(t record.Token) bool {
		at, ended := endOf(&t, by.millis())
		if !ended || at >= old || t.UpdateMillis == by.millis() {
			return false
		}
		if t.State == policy.Revoked {
			revoked = append(revoked, t.Token)
		}
		return true
	})
	after.Memory = after.Memory.With(revoked...)
	return after
}

// endedAt returns when the REVOKED and EXPIRED tokens of a document ended, in ascending order.
func endedAt(d *record.Document, nowMillis int64) []int64 {
	var ends []int64
	for i := range d.Tokens {
		if at, ended := endOf(&d.Tokens[i], nowMillis); ended {
			ends = append(ends, at)
		}
	}
	slices.SortFunc(ends, cmp.Compare[int64])
	return ends
}

// endOf returns when a token became REVOKED or EXPIRED; false when it is neither.
func endOf(t *record.Token, nowMillis int64) (int64, bool) {
	switch t.StateAt(nowMillis) {
	case policy.Revoked:
		return t.RevokeMillis, true
	case policy.Expired:
		return t.EndMillis(), true
	}
	return 0, false
}

// Listed tells whether a list of ended tokens shows a token (B06).
func Listed(t *record.Token, nowMillis int64) bool {
	at, ended := endOf(t, nowMillis)
	return !ended || nowMillis-at < Retention.Milliseconds()
}
