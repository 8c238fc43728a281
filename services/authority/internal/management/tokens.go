package management

import (
	"context"
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/contract"
	"github.com/countersign/countersign/services/authority/internal/readiness"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// CreateToken implements the RPC.
func (s *Service) CreateToken(ctx context.Context, r *countersignv1.CreateTokenRequest,
) (*countersignv1.CreateTokenResponse, error) {
	if err := checkAppID(r.GetAppId()); err != nil {
		return nil, err
	}
	token, err := newToken("", r.GetName(), r.GetNote(), r.GetScopes())
	if err != nil {
		return nil, err
	}
	expiry, err := endOf("expire_time", r.GetExpireTime(), "ttl", r.GetTtl())
	if err != nil {
		return nil, err
	}
	minted := secret.Mint()
	token.Digest, token.Hint = minted.Digest(), minted.Hint()
	answer, repeated, err := perform(ctx, s, change[*countersignv1.CreateTokenResponse]{
		method: "CreateToken", appID: r.GetAppId(), request: r,
		apply: func(before *record.Document, by rules.By) (*record.Document, error) {
			token.ExpireMillis = expiry.at(by.Now)
			return rules.Create(before, by, token)
		},
		answer: func(after *record.Document, now time.Time) *countersignv1.CreateTokenResponse {
			return &countersignv1.CreateTokenResponse{Token: contract.TokenOf(after, token.ID, now)}
		},
	})
	if err == nil && !repeated {
		answer.Secret = minted.Reveal()
	}
	return answer, err
}

// newToken checks the fields that created and imported tokens share. field precedes the names of fields in
// errors.
func newToken(field, name, note string, scopes []countersignv1.Scope) (rules.NewToken, error) {
	token := rules.NewToken{ID: rules.NewTokenID(), Note: note, Field: field}
	var err error
	if token.Name, err = cleanName(field+"name", name); err != nil {
		return token, err
	}
	if err := checkNote(field+"note", note); err != nil {
		return token, err
	}
	token.Scopes, err = scopesOf(field+"scopes", scopes)
	return token, err
}

// GetToken implements the RPC.
func (s *Service) GetToken(ctx context.Context, r *countersignv1.GetTokenRequest) (*countersignv1.GetTokenResponse, error) {
	d, err := s.read(ctx, r.GetAppId())
	if err != nil {
		return nil, err
	}
	if err := checkTokenID("token_id", r.GetTokenId()); err != nil {
		return nil, err
	}
	i, err := rules.Find(d, r.GetTokenId())
	if err != nil {
		return nil, refused(err)
	}
	token := contract.Token(&d.Tokens[i], time.Now())
	token.LastUses = s.lastUses(ctx, r.GetAppId())[token.GetTokenId()]
	return &countersignv1.GetTokenResponse{Token: token}, nil
}

// lastUses returns the last uses of an app's tokens (B22), by token. It is empty when the counts cannot be
// read: a list of tokens must not depend on them.
func (s *Service) lastUses(ctx context.Context, appID string) map[string][]*countersignv1.LastUse {
	ctx, cancel := waiting(ctx, lastUsesTimeout)
	defer cancel()
	history, err := s.evidence.Uses(ctx, appID)
	if err != nil {
		return nil
	}
	return readiness.UsesByToken(history.LastUses())
}

// lastUsesTimeout bounds how long a token's last uses hold its answer up.
const lastUsesTimeout = time.Second

// UpdateToken implements the RPC.
func (s *Service) UpdateToken(ctx context.Context, r *countersignv1.UpdateTokenRequest,
) (*countersignv1.UpdateTokenResponse, error) {
	if err := checkAppID(r.GetAppId()); err != nil {
		return nil, err
	}
	if err := checkTokenID("token.token_id", r.GetToken().GetTokenId()); err != nil {
		return nil, err
	}
	update, err := updateOf(r)
	if err != nil {
		return nil, err
	}
	expiry, err := expiryOf(r)
	if err != nil {
		return nil, err
	}
	answer, _, err := perform(ctx, s, change[*countersignv1.UpdateTokenResponse]{
		method: "UpdateToken", appID: r.GetAppId(), request: r,
		urgent: update.State != nil && *update.State == policy.Disabled,
		apply: func(before *record.Document, by rules.By) (*record.Document, error) {
			if expiry != nil {
				millis := expiry.at(by.Now)
				update.ExpireMillis = &millis
			}
			return update.Apply(before, by)
		},
		answer: func(after *record.Document, now time.Time) *countersignv1.UpdateTokenResponse {
			return &countersignv1.UpdateTokenResponse{Token: contract.TokenOf(after, update.TokenID, now)}
		},
	})
	return answer, err
}

// updateOf reads the fields that the mask names (AIP-134).
func updateOf(r *countersignv1.UpdateTokenRequest) (rules.Update, error) {
	token := r.GetToken()
	u := rules.Update{
		TokenID: token.GetTokenId(), AllowLockout: r.GetAllowLockout(),
		Check: func(*record.Token) error { return nil },
	}
	if err := checkEtag("token.etag", token.GetEtag()); err != nil {
		return u, err
	}
	if want := token.GetEtag(); want != "" {
		u.Check = func(t *record.Token) error {
			if contract.Etag(t.TouchedRevision) != want {
				return apierr.Aborted("STALE_ETAG", "token.etag: the token was changed since it was read; read it again")
			}
			return nil
		}
	}
	if len(r.GetUpdateMask().GetPaths()) == 0 {
		return u, apierr.Invalid("update_mask", "want at least one of name, scopes, state, expire_time, note")
	}
	for _, path := range r.GetUpdateMask().GetPaths() {
		if err := readField(&u, path, token); err != nil {
			return u, err
		}
	}
	return u, nil
}

func readField(u *rules.Update, path string, token *countersignv1.Token) error {
	switch path {
	case "name":
		name, err := cleanName("token.name", token.GetName())
		u.Name = &name
		return err
	case "note":
		note := token.GetNote()
		u.Note = &note
		return checkNote("token.note", note)
	case "scopes":
		scopes, err := scopesOf("token.scopes", token.GetScopes())
		u.Scopes = &scopes
		return err
	case "expire_time":
		return nil // see expiryOf
	case "state":
		var state policy.State
		switch token.GetState() {
		case countersignv1.TokenState_TOKEN_STATE_ACTIVE:
			state = policy.Active
		case countersignv1.TokenState_TOKEN_STATE_DISABLED:
			state = policy.Disabled
		case countersignv1.TokenState_TOKEN_STATE_REVOKED:
			return apierr.Invalid("token.state", "want ACTIVE or DISABLED; only RevokeToken revokes")
		default:
			return apierr.Invalid("token.state", "want ACTIVE or DISABLED")
		}
		u.State = &state
		return nil
	}
	return apierr.Invalid("update_mask", "want only name, scopes, state, expire_time, note")
}

// expiryOf reads the new expiry of an update; nil when the update sets none.
func expiryOf(r *countersignv1.UpdateTokenRequest) (*end, error) {
	if !slices.Contains(r.GetUpdateMask().GetPaths(), "expire_time") {
		if r.GetTtl() != nil {
			return nil, apierr.Invalid("ttl", "want it only when update_mask names expire_time")
		}
		return nil, nil
	}
	expiry, err := endOf("token.expire_time", r.GetToken().GetExpireTime(), "ttl", r.GetTtl())
	return &expiry, err
}

// RotateToken implements the RPC.
func (s *Service) RotateToken(ctx context.Context, r *countersignv1.RotateTokenRequest,
) (*countersignv1.RotateTokenResponse, error) {
	if err := checkAppID(r.GetAppId()); err != nil {
		return nil, err
	}
	if err := checkTokenID("token_id", r.GetTokenId()); err != nil {
		return nil, err
	}
	overlap, err := overlapOf(r)
	if err != nil {
		return nil, err
	}
	minted, id := secret.Mint(), rules.NewTokenID()
	answer, repeated, err := perform(ctx, s, change[*countersignv1.RotateTokenResponse]{
		method: "RotateToken", appID: r.GetAppId(), request: r,
		apply: func(before *record.Document, by rules.By) (*record.Document, error) {
			return rules.Rotate(before, by, r.GetTokenId(), overlap, id, minted)
		},
		answer: func(after *record.Document, now time.Time) *countersignv1.RotateTokenResponse {
			return &countersignv1.RotateTokenResponse{
				Token: contract.TokenOf(after, id, now), Previous: contract.TokenOf(after, r.GetTokenId(), now),
			}
		},
	})
	if err == nil && !repeated {
		answer.Secret = minted.Reveal()
	}
	return answer, err
}

// overlapOf reads how long the old token of a rotation keeps working.
func overlapOf(r *countersignv1.RotateTokenRequest) (o rules.Overlap, err error) {
	o.Most = rules.DefaultOverlap
	if unused := r.GetUntilUnused(); unused != nil {
		o.Most, o.UntilUnused = rules.MaxOverlap, unused.AsDuration()
		if unused.CheckValid() != nil || o.UntilUnused < rules.MinUntilUnused || o.UntilUnused > rules.MaxUntilUnused ||
			o.UntilUnused%time.Millisecond != 0 {
			return o, apierr.Invalid("until_unused", "want 1 hour to 35 days, in whole milliseconds")
		}
	}
	if r.GetOverlap() != nil {
		o.Most = r.GetOverlap().AsDuration()
		if r.GetOverlap().CheckValid() != nil || o.Most < 0 || o.Most > rules.MaxOverlap {
			return o, apierr.Invalid("overlap", "want 0 to 90 days")
		}
	}
	return o, nil
}
