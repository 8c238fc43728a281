package rules

import (
	"fmt"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
)

// NewToken is a token to be created.
type NewToken struct {
	ID     string
	Name   string
	Note   string
	Scopes policy.ScopeSet
	// ExpireMillis is in milliseconds since the Unix epoch; 0 is never.
	ExpireMillis int64
	Digest       secret.Digest
	Hint         string
	Imported     bool
	// Field precedes the names of fields in errors: empty, or "imports[3].".
	Field string
}

// Create adds minted or imported tokens to an app, all or none (B01, B04, B11).
func Create(before *record.Document, by By, tokens ...NewToken) (*record.Document, error) {
	after := edit(before, by)
	var added []named
	held := make(map[secret.Digest]bool, len(after.Tokens))
	for i := range after.Tokens {
		held[after.Tokens[i].Digest] = true
	}
	for _, n := range tokens {
		if err := checkNew(after, n, by); err != nil {
			return nil, err
		}
		if held[n.Digest] || after.Memory.Has(&n.Digest) {
			return nil, taken("SECRET_TAKEN", "%ssecret: a token that the app has, or had, has the same secret", n.Field)
		}
		held[n.Digest] = true
		t := record.Token{
			Token: policy.Token{ID: n.ID, Digest: n.Digest, Scopes: n.Scopes, State: policy.Active, Imported: n.Imported},
			Name:  n.Name, Note: n.Note, Hint: n.Hint, CreatedBy: by.Identity,
			CreateMillis: by.millis(), UpdateMillis: by.millis(),
		}
		t.SetEnd(n.ExpireMillis, 0, by.millis())
		after.Tokens, added = append(after.Tokens, t), append(added, named{n.ID, n.Field})
	}
	return withAdded(after, by, true, added...)
}

func checkNew(after *record.Document, n NewToken, by By) error {
	if n.ExpireMillis != 0 && n.ExpireMillis <= by.millis() {
		return invalid(n.Field+"expire_time", "want a time in the future")
	}
	return checkScopes(after, n.Scopes, n.Field+"scopes", by)
}

// checkScopes checks that a token may have some scopes (B04, B14).
func checkScopes(d *record.Document, scopes policy.ScopeSet, field string, by By) error {
	if scopes.Has(policy.ScopeGDPR) {
		return invalid(field, "GDPR cannot be granted: every active token authenticates it")
	}
	if scopes == 0 && d.Enforcement.Ever(by.millis()) != 0 {
		return invalid(field, "want at least one scope, since the app has enforcement")
	}
	return nil
}

// MaxOverlap is the longest overlap of a rotation, DefaultOverlap the one that a caller gets who names none
// (B09).
const (
	MaxOverlap     = 90 * 24 * time.Hour
	DefaultOverlap = 7 * 24 * time.Hour
)

// MinUntilUnused and MaxUntilUnused bound Overlap.UntilUnused.
const (
	MinUntilUnused = time.Hour
	MaxUntilUnused = 35 * 24 * time.Hour
)

// Overlap is how long the old token of a rotation keeps working.
type Overlap struct {
	// Most is the longest time.
	Most time.Duration
	// UntilUnused ends the overlap earlier, once the old token has not been used for so long; 0 for not.
	UntilUnused time.Duration
}

// Rotate replaces a token by a successor. The old token expires after the overlap (B09).
func Rotate(before *record.Document, by By, tokenID string, overlap Overlap, id string, minted secret.Secret,
) (*record.Document, error) {
	i, err := Find(before, tokenID)
	if err != nil {
		return nil, err
	}
	after := edit(before, by)
	old := &after.Tokens[i]
	subject := fmt.Sprintf("apps/%s/tokens/%s", before.AppID, tokenID)
	if old.StateAt(by.millis()) != policy.Active {
		return nil, unmet("TOKEN_NOT_ACTIVE", subject, "token %s is not active, so it cannot be rotated", tokenID)
	}
	if j, err := Find(before, old.SuccessorID); err == nil && countsAsLive(&before.Tokens[j], by.millis()) {
		return nil, unmet("ALREADY_ROTATED", subject, "token %s has a successor already: rotate %s", tokenID, old.SuccessorID)
	}
	own, _ := endsOf(before, &before.Tokens[i])
	successor := record.Token{
		Token: policy.Token{ID: id, Digest: minted.Digest(), Scopes: old.Scopes, State: policy.Active},
		Name:  old.Name, Note: old.Note, Hint: minted.Hint(), CreatedBy: by.Identity,
		CreateMillis: by.millis(), UpdateMillis: by.millis(), PredecessorID: tokenID,
	}
	successor.SetEnd(own, 0, by.millis())
	old.SetEnd(own, by.Now.Add(overlap.Most).UnixMilli(), by.millis())
	old.UntilUnusedMillis = overlap.UntilUnused.Milliseconds()
	old.SuccessorID, old.UpdateMillis = id, by.millis()
	after.Tokens = append(after.Tokens, successor)
	if l := liveOf(before, by.millis()); l.holdsName(&before.Tokens[i]) {
		return withAdded(after, by, true) // the successor takes the name over, even if another token has it too
	}
	return withAdded(after, by, true, named{id: id})
}
