package management

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/contract"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// RevokeToken implements the RPC.
func (s *Service) RevokeToken(ctx context.Context, r *countersignv1.RevokeTokenRequest,
) (*countersignv1.RevokeTokenResponse, error) {
	if err := checkAppID(r.GetAppId()); err != nil {
		return nil, err
	}
	if err := checkTokenID("token_id", r.GetTokenId()); err != nil {
		return nil, err
	}
	if r.GetValidateOnly() {
		return s.tryRevoking(ctx, r)
	}
	answer, _, err := perform(ctx, s, change[*countersignv1.RevokeTokenResponse]{
		method: "RevokeToken", appID: r.GetAppId(), request: r, urgent: true,
		apply: func(before *record.Document, by rules.By) (*record.Document, error) {
			return rules.Revoke(before, by, r.GetAllowLockout(), r.GetTokenId())
		},
		answer: func(after *record.Document, now time.Time) *countersignv1.RevokeTokenResponse {
			return &countersignv1.RevokeTokenResponse{Token: contract.TokenOf(after, r.GetTokenId(), now)}
		},
	})
	return answer, err
}

// RevokeSecret implements the RPC (B10).
func (s *Service) RevokeSecret(ctx context.Context, r *countersignv1.RevokeSecretRequest,
) (*countersignv1.RevokeSecretResponse, error) {
	leaked, err := pastedSecret(r.GetSecret())
	if err != nil {
		return nil, err
	}
	if err := checkChanging(r); err != nil {
		return nil, err
	}
	found, err := s.search(ctx, leaked)
	if err != nil {
		return nil, err
	}
	response := &countersignv1.RevokeSecretResponse{UnverifiedAppIds: found.unverified, Incomplete: found.incomplete}
	err = s.revokeAll(ctx, r, found.holders, found.unseen, response)
	s.addReceipt(ctx, r, response, response.GetConsistencyTokens()...)
	if err != nil {
		return nil, err
	}
	return response, nil
}

// tryRevoking answers a call with validate_only (AIP-163): the token as it would be, and who would notice. It
// changes nothing, and a lockout is only a warning.
func (s *Service) tryRevoking(ctx context.Context, r *countersignv1.RevokeTokenRequest,
) (*countersignv1.RevokeTokenResponse, error) {
	if err := checkChanging(r); err != nil {
		return nil, err
	}
	before, err := s.read(ctx, r.GetAppId())
	if err != nil {
		return nil, err
	}
	by := rules.By{Now: time.Now().Truncate(time.Millisecond)}
	after, err := rules.Revoke(before, by, true, r.GetTokenId())
	if err != nil {
		return nil, refused(err)
	}
	if after == nil {
		return &countersignv1.RevokeTokenResponse{
			Token:    contract.TokenOf(before, r.GetTokenId(), by.Now),
			Warnings: []string{"The token is revoked already: nothing would change."},
		}, nil
	}
	response := &countersignv1.RevokeTokenResponse{Token: contract.TokenOf(after, r.GetTokenId(), by.Now)}
	response.Warnings = append(s.useWarnings(ctx, r, before, by.Now), successionWarnings(before, r.GetTokenId(), by.Now)...)
	if _, err := rules.Revoke(before, by, false, r.GetTokenId()); err != nil {
		var lockout *rules.Error
		if !errors.As(err, &lockout) {
			return nil, err
		}
		response.Warnings = append(response.Warnings, "Locked out: "+lockout.Message(contract.ScopeNames)+".")
	}
	return response, nil
}

// useWarnings says when a token was last used, for each scope.
func (s *Service) useWarnings(ctx context.Context, r *countersignv1.RevokeTokenRequest, d *record.Document, now time.Time,
) []string {
	ctx, cancel := waiting(ctx, lastUsesTimeout)
	defer cancel()
	history, err := s.evidence.Uses(ctx, r.GetAppId())
	if err != nil {
		return []string{"The usage counts cannot be read: it is unknown whether the token is in use."}
	}
	var warnings []string
	for _, use := range history.LastUses() {
		if use.TokenID != r.GetTokenId() {
			continue
		}
		scope := policy.ScopesOf(use.Scope)
		then := "is accepted all the same, since the scope is not enforced"
		if d.Enforcement.At(now.UnixMilli()).Has(use.Scope) {
			then = "is rejected"
		}
		warnings = append(warnings, fmt.Sprintf("Last used for %s at %s. A request with it %s once it is revoked.",
			contract.ScopeNames(scope), use.Minute.UTC().Format(time.RFC3339), then))
	}
	if warnings == nil {
		return []string{"No use of the token is known."}
	}
	return warnings
}

// successionWarnings names the tokens that replace a token, or that it replaces.
func successionWarnings(d *record.Document, tokenID string, now time.Time) (warnings []string) {
	i, err := rules.Find(d, tokenID)
	if err != nil {
		return nil
	}
	for _, other := range []struct{ id, says string }{
		{d.Tokens[i].SuccessorID, "Its successor %s is %s."},
		{d.Tokens[i].PredecessorID, "It replaces %s, which is %s."},
	} {
		if other.id == "" {
			continue
		}
		state := "not listed any more"
		if j, err := rules.Find(d, other.id); err == nil {
			state = stateWords[d.Tokens[j].StateAt(now.UnixMilli())]
		}
		warnings = append(warnings, fmt.Sprintf(other.says, other.id, state))
	}
	return warnings
}

var stateWords = map[policy.State]string{
	policy.Active: "active", policy.Disabled: "disabled", policy.Revoked: "revoked", policy.Expired: "expired",
}
