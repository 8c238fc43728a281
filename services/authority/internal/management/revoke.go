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
const scanTimeout = 3 * time.Second

// RevokeSecret implements the RPC of that name (B10).
func (s *Service) RevokeSecret(ctx context.Context, r *countersignv1.RevokeSecretRequest) (*countersignv1.RevokeSecretResponse, error) {
	leaked := strings.TrimSpace(r.GetSecret())
	switch {
	case leaked == "" || len(leaked) > secret.MaxLength:
		return nil, apierr.Invalid("secret", "want 1 to %d bytes", secret.MaxLength)
	case secret.Within(leaked) && !secret.WellFormed(leaked):
		// Taken as it is it would not be found, and whoever pasted it would believe that it is not ours.
		return nil, apierr.Invalid("secret", "want the secret alone: what was pasted holds one, with other text around it")
	}
	if err := checkChanging(r); err != nil {
		return nil, err
	}
	found, unverified, incomplete, err := s.holders(ctx, secret.DigestOf(leaked))
	var unseen []string
	if st := s.open.Load(); st != nil {
		unseen = unreachable(st.Replica().Unserved())
	}
	if err == nil {
		found, unverified, err = s.checkLockouts(ctx, found, unverified, r.GetAllowLockout())
	}
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0 && incomplete:
		return nil, apierr.Unavailable(apierr.StoreUnavailable, "not every app can be looked at now%s; nothing was changed", inParentheses(unseen))
	case len(found) == 0 && len(unverified) > 0:
		return nil, apierr.Unavailable(apierr.PolicyUnverified,
			"no app is known to have this secret, but the policies of %d could not be verified: %s; nothing was changed",
			len(unverified), strings.Join(unverified, ", "))
	case len(found) == 0 && strings.HasPrefix(leaked, secret.Prefix) && !secret.WellFormed(leaked):
		return nil, apierr.NotFound("SECRET_NOT_FOUND", "no app has a token with this secret, and it is mistyped or cut off: its checksum is wrong")
	case len(found) == 0:
		return nil, apierr.NotFound("SECRET_NOT_FOUND", "no app has a token with this secret")
	}
	response := countersignv1.RevokeSecretResponse{UnverifiedAppIds: unverified, Incomplete: incomplete}
	unconfirmed := false
	for _, h := range found {
		var one countersignv1.RevokeTokenResponse
		if h.deleted {
			// It was revoked with its app, for ever.
			response.Tokens = append(response.Tokens, &countersignv1.RevokedToken{AppId: h.appID, Token: &countersignv1.Token{
				TokenId: h.tokenID, State: countersignv1.TokenState_TOKEN_STATE_REVOKED,
			}})
			response.ConsistencyTokens = append(response.ConsistencyTokens, h.position)
			unconfirmed = true
			continue
		}
		_, err := s.carryOut(ctx, change{
			method: "RevokeSecret", appID: h.appID, request: r, urgent: true,
			apply: func(before *record.Document, by rules.By) (*record.Document, error) {
				return rules.Revoke(before, by, r.GetAllowLockout(), h.tokenID)
			},
			answer: func(_, after *record.Document, position string, now time.Time) proto.Message {
				return &countersignv1.RevokeTokenResponse{Token: tokenIn(after, h.tokenID, now), ConsistencyToken: position}
			},
		}, &one)
		switch {
		case err != nil && len(response.Tokens) > 0:
			return nil, apierr.Unavailable(apierr.OutcomeUnknown,
				"of %d apps that have the secret %d are done; repeat the call", len(found), len(response.Tokens)).Because(err)
		case err != nil:
			return nil, err
		}
		response.Tokens = append(response.Tokens, &countersignv1.RevokedToken{AppId: h.appID, Token: one.GetToken()})
		response.ConsistencyTokens = append(response.ConsistencyTokens, one.GetConsistencyToken())
		if d := one.GetDurability(); response.Durability == nil || d.GetAcknowledged() < response.GetDurability().GetAcknowledged() {
			response.Durability = d
		}
	}
	if len(unseen) > 0 {
		var done []string
		for _, t := range response.GetTokens() {
			done = append(done, t.GetAppId()+"/"+t.GetToken().GetTokenId())
		}
		return nil, apierr.Unavailable(apierr.NotLoaded,
			"the secret is revoked in %d apps (%s), but %s could not be looked at; repeat the call when the store is whole", len(done),
			strings.Join(done, ", "), strings.Join(unseen, ", "))
	}
	if unconfirmed && response.Durability != nil {
		response.Durability.Acknowledged = 0 // of one that was revoked before, nobody knows
	}
	s.addReceipt(ctx, r, &response, response.GetConsistencyTokens()...)
	return &response, nil
}

// holder is a token that has a leaked secret.
type holder struct {
	appID, tokenID string
	// deleted says that the app is, and with it the token is revoked; position is one at which it was so.
	deleted  bool
	position string
}

// holders finds every token with a digest, and the apps of which it cannot be told. It looks through the replica, after
// asking whether this is complete: an app that was overlooked would keep the leaked secret alive.
func (s *Service) holders(ctx context.Context, digest secret.Digest) (found []holder, unverified []string, incomplete bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	st, err := s.store()
	if err != nil {
		return nil, nil, false, err
	}
	replica := st.Replica()
	incomplete = replica.Confirm(ctx) != nil
	table := replica.Table()
	for i := range table.Len() {
		if table.Partition(i) == nil {
			incomplete = true
			continue
		}
		for appID, entry := range table.Partition(i).All() {
			if entry.Policy == nil || entry.Behind() {
				unverified = append(unverified, appID)
				continue
			}
			if t := entry.Policy.FindDigest(digest); t != nil {
				at, _, _ := replica.State(i)
				found = append(found, holder{appID, t.ID, entry.Policy.Deleted(), record.EncodePosition(st.Position(appID, at))})
			}
		}
	}
	slices.SortFunc(found, func(a, b holder) int { return strings.Compare(a.appID, b.appID) })
	return found, unverified, incomplete, nil
}

// checkLockouts makes sure that no app would refuse, before any is changed. An app that the replica knows and whose
// document in the store does not verify goes to the unverified ones.
func (s *Service) checkLockouts(ctx context.Context, holders []holder, unverified []string, allow bool) (found []holder, _ []string, err error) {
	by := rules.By{Identity: identity.From(ctx).Name, Now: time.Now()}
	for _, h := range holders {
		if h.deleted {
			found = append(found, h)
			continue
		}
		d, err := s.read(ctx, h.appID)
		if apierr.ReasonOf(err) == apierr.PolicyUnverified {
			unverified = append(unverified, h.appID)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if _, err := rules.Revoke(d, by, allow, h.tokenID); err != nil {
			err = nameScopes(err)
			if e := (*apierr.Error)(nil); errors.As(err, &e) && e.Reason() == "LOCKOUT" {
				return nil, nil, apierr.Precondition("LOCKOUT", "apps/"+h.appID, "app %s: %s", h.appID, e.Error())
			}
			return nil, nil, err
		}
		found = append(found, h)
	}
	slices.Sort(unverified)
	return found, unverified, nil
}
