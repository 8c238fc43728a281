package record

import (
	"fmt"

	"github.com/countersign/countersign/pkg/policy"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

func enforcementToProto(e policy.Enforcement) *countersignv1.Enforcement {
	return &countersignv1.Enforcement{
		Scopes: uint64(e.Scopes), TrialEndMillis: e.TrialEndMillis, ScopesAfterTrial: uint64(e.After),
	}
}

func enforcementFromProto(m *countersignv1.Enforcement) policy.Enforcement {
	return policy.Enforcement{
		Scopes:         policy.ScopeSet(m.GetScopes()),
		TrialEndMillis: m.GetTrialEndMillis(),
		After:          policy.ScopeSet(m.GetScopesAfterTrial()),
	}
}

func tokenToProto(t *policy.Token) *countersignv1.PolicyToken {
	return &countersignv1.PolicyToken{
		TokenId: t.ID, Digest: t.Digest[:], Scopes: uint64(t.Scopes), State: countersignv1.TokenState(t.State),
		ExpireMillis: t.ExpireMillis, Imported: t.Imported,
	}
}

func tokenFromProto(m *countersignv1.PolicyToken) (policy.Token, error) {
	t := policy.Token{
		ID: m.GetTokenId(), Scopes: policy.ScopeSet(m.GetScopes()), State: policy.State(m.GetState()),
		ExpireMillis: m.GetExpireMillis(), Imported: m.GetImported(),
	}
	if len(m.GetDigest()) != len(t.Digest) || m.GetState() < 0 || m.GetState() > 255 {
		return policy.Token{}, fmt.Errorf("%w token %q", ErrMalformed, t.ID)
	}
	copy(t.Digest[:], m.GetDigest())
	return t, nil
}

func tokensFromProto(ms []*countersignv1.PolicyToken) ([]policy.Token, error) {
	tokens := make([]policy.Token, len(ms))
	for i, m := range ms {
		var err error
		if tokens[i], err = tokenFromProto(m); err != nil {
			return nil, err
		}
	}
	return tokens, nil
}

// remembering is a message with the app's memory of revoked tokens.
type remembering interface {
	GetRemembered() []byte
	GetRememberedImported() bool
}

func memoryFromProto(m remembering) (policy.Memory, error) {
	return policy.MemoryOf(m.GetRemembered(), m.GetRememberedImported())
}

func detailsToProto(d *Token) *countersignv1.TokenDetails {
	return &countersignv1.TokenDetails{
		Name: d.Name, Note: d.Note, Hint: d.Hint, CreatedBy: d.CreatedBy,
		CreateMillis: d.CreateMillis, UpdateMillis: d.UpdateMillis, RevokeMillis: d.RevokeMillis,
		OwnExpireMillis: d.OwnExpireMillis, OverlapEndMillis: d.OverlapEndMillis, UntilUnusedMillis: d.UntilUnusedMillis,
		PredecessorId: d.PredecessorID, SuccessorId: d.SuccessorID, Revision: d.TouchedRevision,
	}
}

// detailsFromProto returns a token without its embedded policy.Token.
func detailsFromProto(m *countersignv1.TokenDetails) Token {
	return Token{
		Name: m.GetName(), Note: m.GetNote(), Hint: m.GetHint(), CreatedBy: m.GetCreatedBy(),
		CreateMillis: m.GetCreateMillis(), UpdateMillis: m.GetUpdateMillis(), RevokeMillis: m.GetRevokeMillis(),
		OwnExpireMillis: m.GetOwnExpireMillis(), OverlapEndMillis: m.GetOverlapEndMillis(),
		UntilUnusedMillis: m.GetUntilUnusedMillis(),
		PredecessorID:     m.GetPredecessorId(), SuccessorID: m.GetSuccessorId(), TouchedRevision: m.GetRevision(),
	}
}
