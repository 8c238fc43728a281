package rules

import (
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
)

// EndUnused ends the old token of a rotation that was to end once it is unused. The caller knows that it is.
// EndUnused returns nil without an error when the token need not end, or may not any more: it ended, its end
// was set by a person, or no ACTIVE successor is left that could replace it.
func EndUnused(before *record.Document, by By, tokenID string) (*record.Document, error) {
	i, err := Find(before, tokenID)
	if err != nil {
		return nil, err
	}
	if _, wanted := UntilUnused(before, &before.Tokens[i], by.millis()); !wanted {
		return nil, nil
	}
	after := edit(before, by)
	t := &after.Tokens[i]
	own, _ := endsOf(before, &before.Tokens[i])
	t.SetEnd(own, by.millis(), by.millis())
	t.UntilUnusedMillis, t.UpdateMillis = 0, by.millis()
	if err := guardLockout(before, after, by, false); err != nil {
		return nil, err
	}
	return forget(after, by), nil
}

// UntilUnused reports whether the overlap of a token ends once the token is unused, and when its rotation
// began, in milliseconds since the Unix epoch. It is false while no ACTIVE successor is there to replace the
// token.
func UntilUnused(d *record.Document, t *record.Token, nowMillis int64) (began int64, wanted bool) {
	if t.UntilUnusedMillis == 0 || t.StateAt(nowMillis) != policy.Active {
		return 0, false
	}
	i, err := Find(d, t.SuccessorID)
	if err != nil || d.Tokens[i].StateAt(nowMillis) != policy.Active {
		return 0, false
	}
	return d.Tokens[i].CreateMillis, true
}
