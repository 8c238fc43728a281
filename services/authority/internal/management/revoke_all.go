package management

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/contract"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// revokeAll revokes every token that has a leaked secret, several at the same time. A token that cannot be
// revoked stops no other (B10). The response has what was done. The error carries the response, and says that
// not everything was done.
func (s *Service) revokeAll(ctx context.Context, r *countersignv1.RevokeSecretRequest, found []holder, unseen []string,
	response *countersignv1.RevokeSecretResponse,
) error {
	ctx, cancel := waiting(ctx, maxWait)
	defer cancel()
	answers, errs := make([]*countersignv1.RevokeTokenResponse, len(found)), make([]error, len(found))
	each(found, func(i int, h holder) { answers[i], errs[i] = s.revokeOne(ctx, r, h) })

	unconfirmed := false
	for i, h := range found {
		if errs[i] != nil {
			response.Failures = append(response.Failures, &countersignv1.RevokeFailure{
				AppId: h.appID, Reason: apierr.ReasonOf(errs[i]), Message: publicWords(errs[i]),
			})
			continue
		}
		one := answers[i]
		response.Tokens = append(response.Tokens, &countersignv1.RevokedToken{AppId: h.appID, Token: one.GetToken()})
		response.ConsistencyTokens = append(response.ConsistencyTokens, one.GetConsistencyToken())
		d := one.GetDurability()
		if d == nil {
			unconfirmed = true
			continue
		}
		if response.Durability == nil || d.GetAcknowledged() < response.GetDurability().GetAcknowledged() {
			response.Durability = d
		}
	}
	if unconfirmed && response.Durability != nil {
		response.Durability.Acknowledged = 0 // unknown for a token that was revoked before
	}
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) == 0 && len(response.GetUnverifiedAppIds()) == 0 && !response.GetIncomplete() {
		return nil
	}
	return notAll(response, unseen, errs)
}

// revokeOne revokes the token of one holder. A failure does not count if the token is revoked already, since
// a revocation is final.
func (s *Service) revokeOne(ctx context.Context, r *countersignv1.RevokeSecretRequest, h holder,
) (*countersignv1.RevokeTokenResponse, error) {
	already := &countersignv1.RevokeTokenResponse{
		Token:            &countersignv1.Token{TokenId: h.tokenID, State: countersignv1.TokenState_TOKEN_STATE_REVOKED},
		ConsistencyToken: h.position,
	}
	if h.ended {
		return already, nil
	}
	one, _, err := carryOut(ctx, s, change[*countersignv1.RevokeTokenResponse]{
		method: revokeSecret, appID: h.appID, request: r, urgent: true,
		apply: func(before *record.Document, by rules.By) (*record.Document, error) {
			return rules.Revoke(before, by, r.GetAllowLockout(), h.tokenID)
		},
		answer: func(after *record.Document, now time.Time) *countersignv1.RevokeTokenResponse {
			return &countersignv1.RevokeTokenResponse{Token: contract.TokenOf(after, h.tokenID, now)}
		},
	})
	if err != nil && h.revoked {
		return already, nil
	}
	return one, err
}

// revokeSecret is the name of the one method that changes several apps.
const revokeSecret = "RevokeSecret"

// notAll is the error of a call that did not reach every app. It is OUTCOME_UNKNOWN when a repetition may
// reach them and something may have been changed. Otherwise it has the code and the reason of the first
// failure. Its message always names the apps that are left, and the apps that are done.
func notAll(response *countersignv1.RevokeSecretResponse, unseen []string, errs []error) error {
	done := ""
	if n := len(response.GetTokens()); n > 0 {
		done = fmt.Sprintf("the secret is revoked in %d apps%s, but not everywhere: ", n, inParentheses(appsOf(response)))
	}
	repeat := done + strings.Join(left(response, unseen), ", ") + "; repeat the call"
	beyond := len(response.GetUnverifiedAppIds()) > 0 || response.GetIncomplete()
	passes := beyond
	var first *apierr.Error
	for _, err := range errs {
		e := (*apierr.Error)(nil)
		if !errors.As(err, &e) {
			e = apierr.Unavailable(apierr.OutcomeUnknown, "%s", repeat).Because(err)
		}
		if first == nil {
			first = e
		}
		passes = passes || e.Code() == codes.Unavailable
	}
	if alone := done == "" && len(errs) == 1 && !beyond; alone || !passes {
		return first.Saying(done + strings.Join(explained(response.GetFailures()), "; ")).With(response)
	}
	return apierr.Unavailable(apierr.OutcomeUnknown, "%s", repeat).Because(errors.Join(errs...)).With(response)
}

// left names the apps that a call did not reach, with the reasons. The message of one failure, such as
// "nothing was changed", would be wrong for the whole call.
func left(response *countersignv1.RevokeSecretResponse, unseen []string) (names []string) {
	for _, f := range response.GetFailures() {
		names = append(names, f.GetAppId()+" ("+f.GetReason()+")")
	}
	for _, appID := range response.GetUnverifiedAppIds() {
		names = append(names, appID+" ("+apierr.PolicyUnverified+", it may have the secret or not)")
	}
	if len(names) > maxNamed {
		names = append(names[:maxNamed], fmt.Sprintf("%d more apps", len(names)-maxNamed))
	}
	if response.GetIncomplete() {
		names = append(names,
			"a part of the store could not be read"+inParentheses(unseen)+", so that another app may have the secret")
	}
	return names
}

// explained names the apps that a call did not change, with the reasons.
func explained(failures []*countersignv1.RevokeFailure) (words []string) {
	for i, f := range failures {
		if i == maxNamed {
			return append(words, fmt.Sprintf("%d more apps", len(failures)-maxNamed))
		}
		words = append(words, "app "+f.GetAppId()+": "+f.GetMessage())
	}
	return words
}

// maxNamed is how many apps a message names. The response that the error carries has all of them.
const maxNamed = 10

// appsOf names the apps in which a secret was revoked.
func appsOf(response *countersignv1.RevokeSecretResponse) (names []string) {
	for i, t := range response.GetTokens() {
		if i == maxNamed {
			return append(names, "...")
		}
		names = append(names, t.GetAppId())
	}
	return names
}

// publicWords returns the part of an error that callers may read.
func publicWords(err error) string {
	var e *apierr.Error
	if errors.As(err, &e) {
		return e.GRPCStatus().Message()
	}
	return "the app could not be changed"
}

// atOnce is how many apps are changed at the same time.
const atOnce = 16

// each calls a function for every holder, several at the same time, and returns when all calls have returned.
func each(holders []holder, f func(i int, h holder)) {
	var running sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, h := range holders {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			f(i, h)
		})
	}
	running.Wait()
}
