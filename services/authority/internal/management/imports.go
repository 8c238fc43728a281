package management

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/contract"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// ImportTokens implements the RPC (B11).
func (s *Service) ImportTokens(ctx context.Context, r *countersignv1.ImportTokensRequest,
) (*countersignv1.ImportTokensResponse, error) {
	if err := checkAppID(r.GetAppId()); err != nil {
		return nil, err
	}
	if n := len(r.GetImports()); n == 0 || n > rules.MaxTokens {
		return nil, apierr.Invalid("imports", "want 1 to %d", rules.MaxTokens)
	}
	tokens := make([]rules.NewToken, len(r.GetImports()))
	for i, item := range r.GetImports() {
		var err error
		if tokens[i], err = importOf(fmt.Sprintf("imports[%d].", i), item); err != nil {
			return nil, err
		}
	}
	answer, _, err := perform(ctx, s, change[*countersignv1.ImportTokensResponse]{
		method: "ImportTokens", appID: r.GetAppId(), request: r,
		apply: func(before *record.Document, by rules.By) (*record.Document, error) {
			return rules.Create(before, by, tokens...)
		},
		answer: func(after *record.Document, now time.Time) *countersignv1.ImportTokensResponse {
			answer := &countersignv1.ImportTokensResponse{}
			for i := range tokens {
				answer.Tokens = append(answer.Tokens, contract.TokenOf(after, tokens[i].ID, now))
			}
			return answer
		},
	})
	return answer, err
}

func importOf(field string, item *countersignv1.TokenImport) (rules.NewToken, error) {
	token, err := newToken(field, item.GetName(), "", item.GetScopes())
	if err != nil {
		return token, err
	}
	token.Imported = true
	switch credential := item.GetCredential().(type) {
	case *countersignv1.TokenImport_Secret:
		if err := secret.CheckImport(credential.Secret); err != nil {
			return token, apierr.Invalid(field+"secret", "%s", err)
		}
		if secret.WellFormedAdminKey(credential.Secret) {
			return token, apierr.Invalid(field+"secret", "is an admin key")
		}
		foreign := secret.New(credential.Secret)
		token.Digest, token.Hint = foreign.Digest(), foreign.Hint()
	case *countersignv1.TokenImport_Sha256:
		if len(credential.Sha256) != len(token.Digest) {
			return token, apierr.Invalid(field+"sha256", "want %d bytes", len(token.Digest))
		}
		copy(token.Digest[:], credential.Sha256)
		if token.Digest == ([sha256.Size]byte{}) || token.Digest == sha256.Sum256(nil) {
			return token, apierr.Invalid(field+"sha256", "want the digest of a secret: this is the digest of an empty text, or "+
				"all zeros")
		}
	default:
		return token, apierr.Invalid(field+"credential", "want secret or sha256")
	}
	return token, nil
}
