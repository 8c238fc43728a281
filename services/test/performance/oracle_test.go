package performance

import (
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// verdict is the correct answer of a validator.
type verdict struct {
	decision countersignv1.Decision
	reason   countersignv1.Reason
	enforced bool
}

func verdictOf(answer *countersignv1.AuthorizeResponse) verdict {
	return verdict{answer.GetDecision(), answer.GetReason(), answer.GetEnforced()}
}

func (v verdict) String() string {
	return fmt.Sprintf("%s %s enforced %t", v.decision, v.reason, v.enforced)
}

// question is a request with its correct answer, which is written down and does not come from the code under
// test.
type question struct {
	request *countersignv1.AuthorizeRequest
	first   verdict
	turn    atomic.Pointer[turn] // nil: the first verdict stays correct
}

// turn is when another verdict becomes correct. From one time on the new verdict is allowed; until another
// time, zero for not yet known, the old one.
type turn struct {
	from, until time.Time
	then        verdict
}

// right reports whether a verdict is correct for a call that was sent and received at two times.
func (q *question) right(v verdict, sent, received time.Time) bool {
	change := q.turn.Load()
	if change == nil {
		return v == q.first
	}
	return v == q.first && (change.until.IsZero() || sent.Before(change.until)) || v == change.then &&
		!received.Before(change.from)
}

// turns sets a turn that depends on the clock alone.
func (q *question) turns(at time.Time, then verdict) { q.turn.Store(&turn{at, at, then}) }

const (
	sessions = countersignv1.Scope_SCOPE_SESSIONS
	allow    = countersignv1.Decision_DECISION_ALLOW
	deny     = countersignv1.Decision_DECISION_DENY
)

// population is the apps of a test, with every question about them.
type population struct {
	w         *world
	questions []*question
	// doomed are the questions about tokens that the test will revoke.
	doomed []*doomed
	// latest are the consistency tokens of the latest changes, by app.
	latest map[string]string
}

// doomed is a question about a token that works until it is revoked.
type doomed struct {
	*question
	tokenID string
}

// populate makes apps through the authority, each in its own partition; at most as many as there are
// partitions.
func (w *world) populate(apps int) *population {
	w.t.Helper()
	p := &population{w: w, latest: map[string]string{}}
	p.ask("nobody", "", events, allow, countersignv1.Reason_REASON_APP_NOT_CONFIGURED, false)
	for i := range apps {
		p.add(appIn(i, "app"))
	}
	return p
}

// add makes an app with tokens in every state, and enforces EVENTS.
func (p *population) add(app string) {
	p.w.t.Helper()
	unscoped, valid, narrow := p.mint(app, "unscoped"), p.mint(app, "valid", events), p.mint(app, "narrow", sessions)
	revoked, disabled, fated := p.mint(app, "revoked", events), p.mint(app, "disabled", events), p.mint(app, "doomed", events)
	check.Must(p.w.management.RevokeToken(p.w.admin,
		&countersignv1.RevokeTokenRequest{AppId: app, TokenId: revoked.GetToken().GetTokenId()}))(p.w.t)
	check.Must(p.w.management.UpdateToken(p.w.admin, &countersignv1.UpdateTokenRequest{
		AppId: app, UpdateMask: check.Must(fieldmaskpb.New(&countersignv1.Token{}, "state"))(p.w.t),
		Token: &countersignv1.Token{
			TokenId: disabled.GetToken().GetTokenId(),
			State:   countersignv1.TokenState_TOKEN_STATE_DISABLED,
		},
	}))(p.w.t)
	p.enforce(app, time.Time{})

	p.ask(app, valid.GetSecret(), events, allow, countersignv1.Reason_REASON_TOKEN_VALID, true)
	p.ask(app, unscoped.GetSecret(), events, allow, countersignv1.Reason_REASON_TOKEN_VALID_UNSCOPED, true)
	p.ask(app, narrow.GetSecret(), events, deny, countersignv1.Reason_REASON_SCOPE_NOT_GRANTED, true)
	p.ask(app, valid.GetSecret(), sessions, allow, countersignv1.Reason_REASON_SCOPE_NOT_GRANTED, false)
	p.ask(app, revoked.GetSecret(), events, deny, countersignv1.Reason_REASON_TOKEN_REVOKED, true)
	p.ask(app, disabled.GetSecret(), events, deny, countersignv1.Reason_REASON_TOKEN_DISABLED, true)
	p.ask(app, secret.Mint().Reveal(), events, deny, countersignv1.Reason_REASON_TOKEN_UNKNOWN, true)
	p.ask(app, "cs_mistyped", events, deny, countersignv1.Reason_REASON_TOKEN_MALFORMED, true)
	p.ask(app, "", events, deny, countersignv1.Reason_REASON_TOKEN_MISSING, true)
	p.ask(app, valid.GetSecret(), events, deny, countersignv1.Reason_REASON_SOURCE_NOT_SUPPORTED, true).
		request.Source = countersignv1.Source_SOURCE_GOOGLE_TAG_MANAGER
	p.doomed = append(p.doomed, &doomed{
		p.ask(app, fated.GetSecret(), events, allow, countersignv1.Reason_REASON_TOKEN_VALID, true), fated.GetToken().GetTokenId(),
	})
}

// addTimed makes an app with a token that expires at a future time, and one whose enforcement ends then (B08,
// B17).
func (p *population) addTimed(moment time.Time) {
	p.w.t.Helper()
	moment = moment.Truncate(time.Millisecond)
	expiring := check.Must(p.w.management.CreateToken(p.w.admin, &countersignv1.CreateTokenRequest{
		AppId: "expiring", Name: "expiring", ExpireTime: timestamppb.New(moment),
	}))(p.w.t)
	p.latest["expiring"] = expiring.GetConsistencyToken()
	p.ask("expiring", expiring.GetSecret(), events, allow, countersignv1.Reason_REASON_TOKEN_VALID_UNSCOPED, false).
		turns(moment, verdict{allow, countersignv1.Reason_REASON_TOKEN_EXPIRED, false})

	p.mint("trial", "valid", events)
	p.enforce("trial", moment)
	p.ask("trial", "", events, deny, countersignv1.Reason_REASON_TOKEN_MISSING, true).
		turns(moment, verdict{allow, countersignv1.Reason_REASON_TOKEN_MISSING, false})
}

func (p *population) mint(app, name string, scopes ...countersignv1.Scope) *countersignv1.CreateTokenResponse {
	p.w.t.Helper()
	return check.Must(p.w.management.CreateToken(p.w.admin,
		&countersignv1.CreateTokenRequest{AppId: app, Name: name, Scopes: scopes}))(p.w.t)
}

// enforce enforces EVENTS, as a trial when there is an end.
func (p *population) enforce(app string, end time.Time) {
	p.w.t.Helper()
	request := &countersignv1.SetEnforcementRequest{
		AppId: app, Scopes: []countersignv1.Scope{events}, AllowRejections: true,
	}
	if !end.IsZero() {
		request.TrialEndTime = timestamppb.New(end)
	}
	p.latest[app] = check.Must(p.w.management.SetEnforcement(p.w.admin, request))(p.w.t).GetConsistencyToken()
}

// ask adds a question.
func (p *population) ask(app, token string, scope countersignv1.Scope, decision countersignv1.Decision,
	reason countersignv1.Reason, enforced bool,
) *question {
	q := &question{
		request: &countersignv1.AuthorizeRequest{AppId: app, Token: token, Scope: scope},
		first:   verdict{decision, reason, enforced},
	}
	p.questions = append(p.questions, q)
	return q
}

// await returns when a validator has all changes.
func (p *population) await(v countersignv1.ValidatorServiceClient) {
	p.w.t.Helper()
	for app, position := range p.latest {
		check.Must(v.Authorize(p.w.t.Context(), &countersignv1.AuthorizeRequest{
			AppId: app, Scope: events,
			MinRevision: position,
		}))(p.w.t)
	}
}
