package management

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/identity"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// RevokeToken implements the RPC of that name.
func (s *Service) RevokeToken(ctx context.Context, r *countersignv1.RevokeTokenRequest) (*countersignv1.RevokeTokenResponse, error) {
	if err := checkAppID(r.GetAppId()); err != nil {
		return nil, err
	}
	if err := checkTokenID("token_id", r.GetTokenId()); err != nil {
		return nil, err
	}
	var response countersignv1.RevokeTokenResponse
	_, err := s.perform(ctx, change{
		method: "RevokeToken", appID: r.GetAppId(), request: r, urgent: true,
		apply: func(before *record.Document, by rules.By) (*record.Document, error) {
			return rules.Revoke(before, by, r.GetAllowLockout(), r.GetTokenId())
		},
		answer: func(_, after *record.Document, position string, now time.Time) proto.Message {
			return &countersignv1.RevokeTokenResponse{Token: tokenIn(after, r.GetTokenId(), now), ConsistencyToken: position}
		},
	}, &response)
	if err != nil {
		return nil, err
	}
	return &response, nil
}

// scanTimeout bounds how long RevokeSecret waits until it has seen every app as it is now.
const scanTimeout = 5 * time.Second

// RevokeSecret implements the RPC of that name (B10).
func (s *Service) RevokeSecret(ctx context.Context, r *countersignv1.RevokeSecretRequest) (*countersignv1.RevokeSecretResponse, error) {
	leaked := strings.TrimSpace(r.GetSecret())
	if leaked == "" || len(leaked) > secret.MaxLength {
		return nil, apierr.Invalid("secret", "want 1 to %d bytes", secret.MaxLength)
	}
	if err := checkChanging(r); err != nil {
		return nil, err
	}
	found, unverified, err := s.holders(ctx, secret.DigestOf(leaked))
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0 && len(unverified) > 0:
		return nil, apierr.Unavailable(apierr.PolicyUnverified,
			"no app is known to have this secret, but the policies of %d could not be verified: %s; nothing was changed",
			len(unverified), strings.Join(unverified, ", "))
	case len(found) == 0:
		return nil, apierr.NotFound("SECRET_NOT_FOUND", "no app has a token with this secret")
	}
	if err := s.checkLockouts(ctx, found, r.GetAllowLockout()); err != nil {
		return nil, err
	}
	response := countersignv1.RevokeSecretResponse{UnverifiedAppIds: unverified}
	for _, h := range found {
		var one countersignv1.RevokeTokenResponse
		_, err := s.perform(ctx, change{
			method: "RevokeSecret", appID: h.appID, request: r, urgent: true,
			apply: func(before *record.Document, by rules.By) (*record.Document, error) {
				return rules.Revoke(before, by, r.GetAllowLockout(), h.tokenID)
			},
			answer: func(_, after *record.Document, position string, now time.Time) proto.Message {
				return &countersignv1.RevokeTokenResponse{Token: tokenIn(after, h.tokenID, now), ConsistencyToken: position}
			},
		}, &one)
		if err != nil {
			return nil, err
		}
		response.Tokens = append(response.Tokens, &countersignv1.RevokedToken{AppId: h.appID, Token: one.GetToken()})
		response.ConsistencyTokens = append(response.ConsistencyTokens, one.GetConsistencyToken())
	}
	return &response, nil
}

// holder is a token that has a leaked secret.
type holder struct{ appID, tokenID string }

// holders finds every token with a digest, and the apps of which it cannot be told. It looks through the replica, after
// making sure that this is complete: an app that was overlooked would keep the leaked secret alive.
func (s *Service) holders(ctx context.Context, digest secret.Digest) (found []holder, unverified []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	st, err := s.store()
	if err != nil {
		return nil, nil, err
	}
	replica := st.Replica()
	if err := replica.Confirm(ctx); err != nil {
		return nil, nil, apierr.Unavailable(apierr.StoreUnavailable, "not every app can be looked at now; nothing was changed").Because(err)
	}
	table := replica.Table()
	for i := range table.Len() {
		for appID, entry := range table.Partition(i).All() {
			if entry.Policy == nil {
				unverified = append(unverified, appID)
				continue
			}
			if t := entry.Policy.FindDigest(digest); t != nil && !entry.Policy.Deleted() {
				found = append(found, holder{appID, t.ID})
			}
		}
	}
	slices.SortFunc(found, func(a, b holder) int { return strings.Compare(a.appID, b.appID) })
	slices.Sort(unverified)
	return found, unverified, nil
}

// checkLockouts makes sure that no app would refuse, before any is changed.
func (s *Service) checkLockouts(ctx context.Context, found []holder, allow bool) error {
	by := rules.By{Identity: identity.From(ctx).Name, Now: time.Now()}
	for _, h := range found {
		d, err := s.read(ctx, h.appID)
		if err != nil {
			return err
		}
		if _, err := rules.Revoke(d, by, allow, h.tokenID); err != nil {
			err = nameScopes(err)
			if e := (*apierr.Error)(nil); errors.As(err, &e) && e.Reason() == "LOCKOUT" {
				return apierr.Precondition("LOCKOUT", "apps/"+h.appID, "app %s: %s", h.appID, e.Error())
			}
			return err
		}
	}
	return nil
}
