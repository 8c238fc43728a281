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
	"github.com/countersign/countersign/services/authority/internal/readiness"
)

// scanTimeout bounds the wait of a search until the replica has every app as it is now.
const scanTimeout = 3 * time.Second

// FindToken implements the RPC.
func (s *Service) FindToken(ctx context.Context, r *countersignv1.FindTokenRequest,
) (*countersignv1.FindTokenResponse, error) {
	pasted, err := pastedSecret(r.GetSecret())
	if err != nil {
		return nil, err
	}
	found, err := s.search(ctx, pasted)
	if err != nil {
		return nil, err
	}
	response := &countersignv1.FindTokenResponse{UnverifiedAppIds: found.unverified, Incomplete: found.incomplete}
	response.Tokens = make([]*countersignv1.FoundToken, len(found.holders))
	ctx, cancel := waiting(ctx, scanTimeout)
	defer cancel()
	each(found.holders, func(i int, h holder) {
		response.Tokens[i] = &countersignv1.FoundToken{AppId: h.appID, Token: s.tokenOf(ctx, h)}
	})
	return response, nil
}

// tokenOf reads the token of a holder, with its last uses. When the app cannot be read now, the token has
// what the replica knows.
func (s *Service) tokenOf(ctx context.Context, h holder) *countersignv1.Token {
	if h.token == nil {
		return &countersignv1.Token{State: countersignv1.TokenState_TOKEN_STATE_REVOKED}
	}
	now := time.Now()
	token := contract.Token(&record.Token{Token: *h.token}, now)
	token.Etag = "" // unknown
	if st, err := s.storeOf(h.appID); err == nil {
		if d, _, err := st.Read(ctx, h.appID); err == nil && d != nil {
			if read := contract.TokenOf(d, h.tokenID, now); read != nil {
				token = read
			}
		}
	}
	if history, err := s.evidence.Uses(ctx, h.appID); err == nil {
		token.LastUses = readiness.UsesByToken(history.LastUses())[h.tokenID]
	}
	return token
}

// pastedSecret checks a secret that a caller has pasted, and returns it without white space around it.
func pastedSecret(text string) (string, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "" || len(text) > secret.MaxLength:
		return "", apierr.Invalid("secret", "want 1 to %d bytes", secret.MaxLength)
	case secret.Within(text) && !secret.WellFormed(text):
		// The whole text would match no token, and the caller would believe that the secret is unknown.
		return "", apierr.Invalid("secret", "want the secret alone: what was pasted holds one, with other text around it")
	}
	return text, nil
}

// searched is what a search for a secret has found: one holder or more.
type searched struct {
	holders []holder
	// unverified are the apps that could not be checked. incomplete says that the replica may lack apps, of
	// the partitions in unseen if they are known.
	unverified []string
	incomplete bool
	unseen     []string
}

// search finds every token that has a secret. Its error says so when there is none.
func (s *Service) search(ctx context.Context, text string) (found searched, err error) {
	found.holders, found.unverified, found.incomplete, err = s.holders(ctx, secret.DigestOf(text))
	if st := s.open.Load(); st != nil {
		found.unseen = unreachable(st.Replica())
	}
	if err == nil {
		found.holders, found.unverified = s.verified(ctx, found.holders, found.unverified)
	}
	switch {
	case err != nil || len(found.holders) > 0:
		return found, err
	case found.incomplete:
		return found, apierr.Unavailable(apierr.StoreUnavailable, "not every app can be checked now%s; nothing was changed",
			inParentheses(found.unseen))
	case len(found.unverified) > 0:
		return found, apierr.Unavailable(apierr.PolicyUnverified,
			"no app is known to have this secret, but the policies of %d could not be verified: %s; nothing was changed",
			len(found.unverified), strings.Join(found.unverified, ", "))
	case strings.HasPrefix(text, secret.Prefix) && !secret.WellFormed(text):
		return found, apierr.NotFound("SECRET_NOT_FOUND", "no app has a token with this secret, and it is mistyped or cut off: "+
			"its checksum is wrong")
	}
	return found, apierr.NotFound("SECRET_NOT_FOUND", "no app has a token with this secret")
}

// holder is a token that has a secret that was searched for.
type holder struct {
	appID, tokenID string
	// revoked says that the token is revoked already. position is a position at which it was revoked.
	revoked  bool
	position string
	// token is the token by the replica's copy; nil when only its digest is remembered.
	token *policy.Token
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
				h.tokenID, h.token = t.ID, t
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
