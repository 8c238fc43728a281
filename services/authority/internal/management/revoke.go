package management

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
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

// scanTimeout bounds the wait of RevokeSecret until the replica has every app as it is now.
const scanTimeout = 3 * time.Second

// RevokeSecret implements the RPC (B10).
func (s *Service) RevokeSecret(ctx context.Context, r *countersignv1.RevokeSecretRequest,
) (*countersignv1.RevokeSecretResponse, error) {
	leaked := strings.TrimSpace(r.GetSecret())
	switch {
	case leaked == "" || len(leaked) > secret.MaxLength:
		return nil, apierr.Invalid("secret", "want 1 to %d bytes", secret.MaxLength)
	case secret.Within(leaked) && !secret.WellFormed(leaked):
		// The whole text would match no token, and the caller would believe that the secret is unknown.
		return nil, apierr.Invalid("secret", "want the secret alone: what was pasted holds one, with other text around it")
	}
	if err := checkChanging(r); err != nil {
		return nil, err
	}
	found, unverified, incomplete, err := s.holders(ctx, secret.DigestOf(leaked))
	var unseen []string
	if st := s.open.Load(); st != nil {
		unseen = unreachable(st.Replica())
	}
	if err == nil {
		found, unverified = s.verified(ctx, found, unverified)
	}
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0 && incomplete:
		return nil, apierr.Unavailable(apierr.StoreUnavailable, "not every app can be checked now%s; nothing was changed",
			inParentheses(unseen))
	case len(found) == 0 && len(unverified) > 0:
		return nil, apierr.Unavailable(apierr.PolicyUnverified,
			"no app is known to have this secret, but the policies of %d could not be verified: %s; nothing was changed",
			len(unverified), strings.Join(unverified, ", "))
	case len(found) == 0 && strings.HasPrefix(leaked, secret.Prefix) && !secret.WellFormed(leaked):
		return nil, apierr.NotFound("SECRET_NOT_FOUND", "no app has a token with this secret, and it is mistyped or cut off: "+
			"its checksum is wrong")
	case len(found) == 0:
		return nil, apierr.NotFound("SECRET_NOT_FOUND", "no app has a token with this secret")
	}
	response := &countersignv1.RevokeSecretResponse{UnverifiedAppIds: unverified, Incomplete: incomplete}
	err = s.revokeAll(ctx, r, found, unseen, response)
	s.addReceipt(ctx, r, response, response.GetConsistencyTokens()...)
	if err != nil {
		return nil, err
	}
	return response, nil
}

// holder is a token that has a leaked secret.
type holder struct {
	appID, tokenID string
	// revoked says that the token is revoked already. position is a position at which it was revoked.
	revoked  bool
	position string
	// ended says that there is nothing left to change: the token was revoked with its app, or so long ago
	// that only its digest is remembered.
	ended bool
}

// holders finds every token with a digest, and the apps that could not be checked. It searches the replica,
// after a check that the replica is complete: an overlooked app would keep the leaked secret alive.
func (s *Service) holders(ctx context.Context, digest secret.Digest,
) (found []holder, unverified []string, incomplete bool, err error) {
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
		if _, unhealed := replica.Unhealed(i); unhealed {
			incomplete = true
		}
		for appID, entry := range table.Partition(i).All() {
			if entry.Policy == nil || entry.Behind() {
				unverified = append(unverified, appID)
				continue
			}
			t := entry.Policy.FindDigest(digest)
			if t == nil && !entry.Policy.Memory().Has(&digest) {
				continue
			}
			at, _, _ := replica.State(i)
			h := holder{
				appID: appID, ended: t == nil || entry.Policy.Deleted(),
				position: record.EncodePosition(st.Position(appID, at)),
			}
			if t != nil {
				h.tokenID = t.ID
			}
			h.revoked = h.ended || t.State == policy.Revoked
			found = append(found, h)
		}
	}
	slices.SortFunc(found, func(a, b holder) int { return strings.Compare(a.appID, b.appID) })
	return found, unverified, incomplete, nil
}

// verified removes the holders whose document in the store does not verify, and adds their apps to the
// unverified ones. An app whose document cannot be read stays a holder, since a later read may succeed.
func (s *Service) verified(ctx context.Context, holders []holder, unverified []string) (found []holder, _ []string) {
	ctx, cancel := waiting(ctx, scanTimeout)
	defer cancel()
	errs := make([]error, len(holders))
	each(holders, func(i int, h holder) {
		if !h.revoked {
			_, errs[i] = s.read(ctx, h.appID)
		}
	})
	for i, h := range holders {
		if apierr.ReasonOf(errs[i]) == apierr.PolicyUnverified {
			unverified = append(unverified, h.appID)
		} else {
			found = append(found, h)
		}
	}
	slices.Sort(unverified)
	return found, unverified
}
