package management

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/contract"
	"github.com/countersign/countersign/services/authority/internal/evidence"
	"github.com/countersign/countersign/services/authority/internal/readiness"
)

// notReady is the reason of a call that is refused because of the readiness report.
const notReady = "NOT_READY"

// gate decides whether scopes may be switched on, or enforced for longer (B15). It is for one call.
type gate struct {
	source *evidence.Source
	appID  string
	window time.Duration
	ratio  float64

	// gathered says that the evidence was read. found is nil when that failed.
	gathered bool
	found    *evidence.App
	err      error
	// added are the scopes that the call switches on, or enforces for longer. report is the report about
	// them; nil without any, and when there is no evidence.
	added  policy.ScopeSet
	report *countersignv1.Readiness
}

// gather reads the evidence, once.
func (g *gate) gather(ctx context.Context) {
	if g.gathered {
		return
	}
	g.gathered = true
	g.found, g.err = g.source.App(ctx, g.appID)
}

// judge makes the report on the added scopes, from the document that the change starts from. It may be called
// again with a newer document.
func (g *gate) judge(ctx context.Context, before *record.Document, added policy.ScopeSet, now time.Time) {
	g.added, g.report = added, nil
	if added == 0 {
		return
	}
	if g.gather(ctx); g.err == nil {
		g.report = reportOn(before, g.found, g.window, g.ratio, added, now)
	}
}

// reportOn makes a readiness report from evidence.
func reportOn(d *record.Document, found *evidence.App, window time.Duration, ratio float64, scopes policy.ScopeSet,
	now time.Time,
) *countersignv1.Readiness {
	from := now.Add(-window)
	in := readiness.Input{Document: d, LastUses: found.LastUses(), Scopes: scopes, MaxRejectedRatio: ratio, Now: now}
	in.Sums, in.From = found.Sums(from)
	if created := time.UnixMilli(d.CreateMillis); d.CreateMillis > 0 && created.After(from) {
		from = created // the app had no requests before
	}
	in.Missing = append(readiness.Missing(found.Fleet, from, now), readiness.MissingOf(found.Counted(), found.Fleet, from)...)
	return readiness.Report(in)
}

// refusal returns the error of a call that may not enforce the added scopes; nil when it may.
func (g *gate) refusal() *apierr.Error {
	if g.added == 0 {
		return nil
	}
	scopes, subject := contract.ScopeNames(g.added), "apps/"+g.appID
	const insist = "or set allow_rejections to enforce it all the same"
	if g.report == nil {
		text := "the usage counts cannot be read, so that it is unknown what enforcing " + scopes + " would reject"
		return apierr.Preconditions(notReady, subject, []apierr.Violation{{Type: apierr.UsageUnavailable, Description: text}},
			"%s: try again, %s", text, insist).Because(g.err)
	}
	r := g.report
	var violations []apierr.Violation
	for _, sentence := range r.GetBlockers() {
		violations = append(violations, apierr.Violation{Type: notReady, Description: sentence})
	}
	for _, sentence := range r.GetMissing() {
		violations = append(violations, apierr.Violation{Type: "INCOMPLETE", Description: sentence})
	}
	untested, advice := g.untested()
	for _, sentence := range untested {
		violations = append(violations, apierr.Violation{Type: "NO_TRAFFIC", Description: sentence})
	}
	var message string
	switch r.GetVerdict() {
	case countersignv1.ReadinessVerdict_READINESS_VERDICT_READY:
		return nil
	case countersignv1.ReadinessVerdict_READINESS_VERDICT_NOT_READY:
		message = fmt.Sprintf("enforcing %s would reject requests: %s; do what the report says, %s",
			scopes, first(r.GetBlockers()), insist)
	case countersignv1.ReadinessVerdict_READINESS_VERDICT_INCOMPLETE:
		message = fmt.Sprintf("it is unknown what enforcing %s would reject, because counts are missing: %s; wait for them, "+
			"choose a readiness_window that begins later, %s", scopes, first(r.GetMissing()), insist)
	default:
		message = fmt.Sprintf("%s, so that it is unknown what enforcing would reject: %s, %s", strings.Join(untested, ", and "),
			advice, insist)
	}
	return apierr.Preconditions(notReady, subject, violations, "%s", message).With(brief(r))
}

// untested returns a sentence for each kind of added scope about which the report knows nothing, and what to
// do about these scopes.
func (g *gate) untested() (sentences []string, advice string) {
	unseen, unsupported := readiness.Untested(g.report, g.added)
	since := g.report.GetStartTime().AsTime().Format(time.RFC3339)
	if unseen != 0 {
		sentences = append(sentences, fmt.Sprintf("no requests for %s were seen since %s", contract.ScopeNames(unseen), since))
	}
	if unsupported != 0 {
		sentences = append(sentences, fmt.Sprintf("all requests for %s since %s came from Google Tag Manager, which cannot "+
			"send tokens", contract.ScopeNames(unsupported), since))
	}
	advice = "send requests with the app's tokens first"
	if unseen|unsupported != g.added {
		advice += ", leave " + contract.ScopeNames(unseen|unsupported) + " out"
	}
	return sentences, advice
}

// first returns the first of some sentences, and how many more there are.
func first(sentences []string) string {
	if len(sentences) == 1 {
		return sentences[0]
	}
	return fmt.Sprintf("%s (and %d more)", sentences[0], len(sentences)-1)
}

// rejectedScopes returns the numbers for the audit trail: one entry for each added scope.
func (g *gate) rejectedScopes() (scopes []*countersignv1.ScopeReadiness) {
	if g.report == nil {
		return nil
	}
	for scope := range g.added.All() {
		row := &countersignv1.ScopeReadiness{Scope: countersignv1.Scope(scope)}
		for _, s := range g.report.GetScopes() {
			if s.GetScope() == row.GetScope() {
				row.Requests, row.Rejected = s.GetRequests(), s.GetRejected()
			}
		}
		scopes = append(scopes, row)
	}
	return scopes
}

// maxBriefRejections is how many rejections of a scope a brief report keeps.
const maxBriefRejections = 20

// brief returns a report for an error's details and for the stored answer to a call: without tokens and
// notices, and with the most frequent rejections only.
func brief(r *countersignv1.Readiness) *countersignv1.Readiness {
	if r == nil {
		return nil
	}
	short := proto.CloneOf(r)
	short.Tokens, short.Notices = nil, nil
	for _, s := range short.GetScopes() {
		s.Rejections = s.GetRejections()[:min(len(s.GetRejections()), maxBriefRejections)]
	}
	return short
}

// errUsage is the error of a call that needs the usage counts.
func errUsage(cause error) error {
	return apierr.Unavailable(apierr.UsageUnavailable, "the usage counts cannot be read now: try again").Because(cause)
}
