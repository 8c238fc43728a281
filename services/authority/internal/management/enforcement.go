package management

import (
	"context"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/contract"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// enforcementWarning is the warning for a caller who switches enforcement on (B15).
const enforcementWarning = "Only requests that are sent with one of the app's configured tokens will be accepted " +
	"for the enforced endpoints."

// enforcement is a checked SetEnforcementRequest.
type enforcement struct {
	request  *countersignv1.SetEnforcementRequest
	scopes   policy.ScopeSet
	trialEnd end
	gate     *gate
}

func (s *Service) enforcementOf(r *countersignv1.SetEnforcementRequest) (*enforcement, error) {
	if err := checkAppID(r.GetAppId()); err != nil {
		return nil, err
	}
	scopes, err := scopesOf("scopes", r.GetScopes())
	if err != nil {
		return nil, err
	}
	trialEnd, err := endOf("trial_end_time", r.GetTrialEndTime(), "trial_duration", r.GetTrialDuration())
	if err != nil {
		return nil, err
	}
	ratio, err := ratioOf(r.MaxRejectedRatio)
	if err != nil {
		return nil, err
	}
	window, err := windowOf("readiness_window", r.GetReadinessWindow())
	if err != nil {
		return nil, err
	}
	if err := checkEtag("etag", r.GetEtag()); err != nil {
		return nil, err
	}
	if err := checkChanging(r); err != nil {
		return nil, err
	}
	return &enforcement{
		request: r, scopes: scopes, trialEnd: trialEnd,
		gate: &gate{source: s.evidence, appID: r.GetAppId(), window: window, ratio: ratio},
	}, nil
}

// apply returns the document after the call, and the scopes that the gate judges: those that the call
// enforces at a time at which they would not be enforced without it. So a trial that is made longer, or
// permanent, is judged like a scope that is switched on. A trial that is shortened is not judged.
func (e *enforcement) apply(before *record.Document, by rules.By) (*record.Document, policy.ScopeSet, error) {
	if err := checkAppEtag(before, e.request.GetEtag()); err != nil {
		return nil, 0, err
	}
	after, err := rules.Enforce(before, by, e.request.GetAppId(), e.scopes, e.trialEnd.at(by.Now))
	if err != nil || before == nil || after == nil {
		return after, 0, err
	}
	return after, after.Enforcement.Beyond(before.Enforcement, by.Now.UnixMilli()), nil
}

func (e *enforcement) warnings() []string {
	if e.scopes == 0 {
		return nil
	}
	return []string{enforcementWarning}
}

// SetEnforcement implements the RPC. Switching a scope on, or enforcing it for longer, needs a readiness
// report without blockers (B15).
func (s *Service) SetEnforcement(ctx context.Context, r *countersignv1.SetEnforcementRequest,
) (*countersignv1.SetEnforcementResponse, error) {
	e, err := s.enforcementOf(r)
	if err != nil {
		return nil, err
	}
	if r.GetValidateOnly() {
		return s.tryEnforcement(ctx, e)
	}
	s.prepareGate(ctx, e)
	answer, _, err := perform(ctx, s, change[*countersignv1.SetEnforcementResponse]{
		method: "SetEnforcement", appID: r.GetAppId(), request: r,
		apply: func(before *record.Document, by rules.By) (*record.Document, error) {
			after, added, err := e.apply(before, by)
			if err != nil {
				return nil, err
			}
			e.gate.judge(ctx, before, added, by.Now)
			if err := e.gate.refusal(); err != nil && !r.GetAllowRejections() {
				return nil, err
			}
			return after, nil
		},
		note: func(event *countersignv1.AuditEvent) {
			if event.RejectedScopes = nil; r.GetAllowRejections() {
				event.RejectedScopes = e.gate.rejectedScopes()
			}
		},
		answer: func(after *record.Document, now time.Time) *countersignv1.SetEnforcementResponse {
			return &countersignv1.SetEnforcementResponse{
				App: contract.App(r.GetAppId(), after, now), Readiness: brief(e.gate.report), Warnings: e.warnings(),
			}
		},
	})
	return answer, err
}

// prepareGate reads the evidence for the gate before the change, so that a slow read does not hold the app's
// partition up. A call that the gate does not judge needs no evidence. A failure shows in the change itself.
func (s *Service) prepareGate(ctx context.Context, e *enforcement) {
	if e.scopes == 0 && e.trialEnd == (end{}) {
		return // it only switches off
	}
	d, err := s.read(ctx, e.request.GetAppId())
	if err != nil {
		return
	}
	if _, added, err := e.apply(d, rules.By{Now: time.Now()}); err == nil && added != 0 {
		e.gate.gather(ctx)
	}
}

// tryEnforcement answers a call with validate_only (AIP-163): it returns the app as the change would make it,
// and the readiness report, and changes nothing. It never fails for the report.
func (s *Service) tryEnforcement(ctx context.Context, e *enforcement) (*countersignv1.SetEnforcementResponse, error) {
	appID := e.request.GetAppId()
	before, err := s.read(ctx, appID)
	if err != nil {
		return nil, err
	}
	by := rules.By{Now: time.Now()}
	after, added, err := e.apply(before, by)
	if err != nil {
		return nil, refused(err)
	}
	if after == nil {
		after = before
	}
	e.gate.judge(ctx, before, added, by.Now)
	warnings := e.warnings()
	if err := e.gate.refusal(); err != nil {
		warnings = append(warnings, "Without allow_rejections this would be refused: "+err.GRPCStatus().Message())
	}
	return &countersignv1.SetEnforcementResponse{
		App: contract.App(appID, after, by.Now), Readiness: e.gate.report, Warnings: warnings,
	}, nil
}

// ratioOf checks the share of requests that may be rejected.
func ratioOf(ratio *float64) (float64, error) {
	switch {
	case ratio == nil:
		return defaultRatio, nil
	case !(*ratio >= 0 && *ratio <= 1): // rejects NaN too
		return 0, apierr.Invalid("max_rejected_ratio", "want 0 to 1")
	}
	return *ratio, nil
}
