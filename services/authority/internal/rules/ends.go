package rules

import "github.com/countersign/countersign/pkg/record"

// endsOf returns a token's own expiry and the end of its overlap, each 0 for none (B09).
//
// A record of an earlier release has one time for both, which is the earlier one. For a rotated token it
// counts as the end of the overlap, unless the successor, which inherited the own expiry, ends no later.
func endsOf(d *record.Document, t *record.Token) (own, overlapEnd int64) {
	switch {
	case t.ExpireMillis == 0, t.OwnExpireMillis != 0, t.OverlapEndMillis != 0:
		return t.OwnExpireMillis, t.OverlapEndMillis
	case t.SuccessorID == "":
		return t.EndMillis(), 0
	}
	if i, err := Find(d, t.SuccessorID); err == nil {
		own, _ = endsOf(d, &d.Tokens[i])
	}
	if own != 0 && own <= t.EndMillis() {
		return t.EndMillis(), 0
	}
	return own, t.EndMillis()
}

// setExpiry gives a token of a document another expiry; 0 is never. While a successor of the token is ACTIVE
// or DISABLED, the time moves the end of the overlap. Otherwise the time becomes the token's own expiry,
// which a successor inherits, and ends the overlap. A time that a person gives is final: the overlap does not
// end earlier any more because the token is unused.
func setExpiry(d *record.Document, t *record.Token, given int64, by By) {
	at := endAt(t.EndMillis(), given, by)
	switch {
	case at == t.EndMillis():
		return
	case at != 0 && liveOf(d, by.millis()).hasHeir(t):
		own, _ := endsOf(d, t)
		if own != 0 && own < at {
			own = at
		}
		t.SetEnd(own, at, by.millis())
	default:
		t.SetEnd(at, 0, by.millis())
	}
	t.UntilUnusedMillis = 0
}

// endAt returns the end of a token that had one expiry and is given another. A time in the past becomes now,
// so that lists show when the token really ended, unless the token has expired already.
func endAt(had, given int64, by By) int64 {
	switch now := by.millis(); {
	case given == 0 || given > now:
		return given
	case had != 0 && had <= now:
		return had
	default:
		return now
	}
}
