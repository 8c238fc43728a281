package management_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/contract"
	"github.com/countersign/countersign/services/authority/internal/fleet"
	"github.com/countersign/countersign/services/authority/internal/ledger"
)

// TestB15_Gate: switching on is refused while the report has blockers or cannot tell, each with words of its
// own, and passes with allow_rejections. A dry run answers in every case.
func TestB15_Gate(t *testing.T) {
	c := newCounted(t)
	for _, tt := range []struct {
		name string
		// prepare sets the counts of an app with one token, which has the scope EVENTS.
		prepare func(app, id string)
		// types are the types of the violations, none when the call passes. words are in the message.
		types   []string
		words   string
		verdict pb.ReadinessVerdict
	}{
		{
			"ready", func(app, id string) { c.count(app, sum(id, events, policy.TokenValid, 100)) }, nil, "",
			pb.ReadinessVerdict_READINESS_VERDICT_READY,
		},
		{
			"0.5 % of forgeries", func(app, id string) {
				c.count(app, sum(id, events, policy.TokenValid, 995), sum("", events, policy.TokenMissing, 5))
			}, nil, "", pb.ReadinessVerdict_READINESS_VERDICT_READY,
		},
		{
			"own requests for another scope do not matter", func(app, id string) {
				c.count(app, sum(id, events, policy.TokenValid, 995), sum(id, sessions, policy.ScopeNotGranted, 5))
			}, nil, "", pb.ReadinessVerdict_READINESS_VERDICT_READY,
		},
		{
			"2 % of forgeries", func(app, id string) {
				c.count(app, sum(id, events, policy.TokenValid, 98), sum("", events, policy.TokenMissing, 2))
			},
			[]string{"NOT_READY"},
			"2 of 100 requests", pb.ReadinessVerdict_READINESS_VERDICT_NOT_READY,
		},
		{
			"no traffic", func(string, string) {},
			[]string{"NO_TRAFFIC"},
			"no requests for EVENTS were seen since",
			pb.ReadinessVerdict_READINESS_VERDICT_NO_TRAFFIC,
		},
		{
			"incomplete", func(app, id string) {
				c.count(app, sum(id, events, policy.TokenValid, 100))
				c.members = []fleet.Instance{{ID: "v1", InstanceID: "i1", Start: time.Now().Add(-time.Hour), Reporting: true}}
			},
			[]string{"INCOMPLETE"},
			"validator v1", pb.ReadinessVerdict_READINESS_VERDICT_INCOMPLETE,
		},
		{
			"the counts cannot be read", func(string, string) { c.away = true },
			[]string{"USAGE_UNAVAILABLE"},
			"cannot be read",
			pb.ReadinessVerdict_READINESS_VERDICT_UNSPECIFIED,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			app := newApp()
			id := c.create(t, app, "a", events).GetToken().GetTokenId()
			c.away, c.members = false, nil
			tt.prepare(app, id)
			request := &pb.SetEnforcementRequest{AppId: app, Scopes: []pb.Scope{events}, TrialDuration: durationpb.New(time.Hour)}

			dry := proto.CloneOf(request)
			dry.ValidateOnly = true
			tried := check.Must(c.service.SetEnforcement(t.Context(), dry))(t)
			if got := tried.GetReadiness().GetVerdict(); got != tt.verdict {
				t.Errorf("the dry run says %v, want %v", got, tt.verdict)
			}
			refused := strings.Contains(strings.Join(tried.GetWarnings(), "\n"), "would be refused")
			if refused != (tt.types != nil) {
				t.Errorf("the dry run warns: %q", tried.GetWarnings())
			}

			answer, err := c.service.SetEnforcement(t.Context(), request)
			if tt.types == nil {
				if err != nil || answer.GetReadiness().GetVerdict() != tt.verdict || len(answer.GetApp().GetEnforcedScopes()) != 1 {
					t.Errorf("got %v, %v", answer, err)
				}
				return
			}
			types, report := violations(err)
			if !slices.Equal(types, tt.types) || status.Code(err) != codes.FailedPrecondition || apierr.ReasonOf(err) != "NOT_READY" {
				t.Errorf("got %v with %v", err, types)
			}
			if report.GetVerdict() != tt.verdict {
				t.Errorf("the details have the verdict %v", report.GetVerdict())
			}
			message := status.Convert(err).Message()
			if !strings.Contains(message, tt.words) || !strings.Contains(message, "allow_rejections") {
				t.Errorf("message %q", message)
			}
			if len(c.app(t, app).GetEnforcedScopes()) != 0 {
				t.Error("a refused call has switched enforcement on")
			}
			request.AllowRejections = true
			if _, err := c.service.SetEnforcement(t.Context(), request); err != nil {
				t.Errorf("with allow_rejections: %v", err)
			}
		})
	}
}

// TestB15_EveryScopeNeedsTraffic: each scope that is switched on needs a request that can carry a token. The
// error names the scopes without one, also beside other reasons.
func TestB15_EveryScopeNeedsTraffic(t *testing.T) {
	c := newCounted(t)
	good := func(id string, scope pb.Scope) ledger.Sum { return sum(id, scope, policy.TokenValid, 10) }
	manager := func(scope pb.Scope) ledger.Sum { return sum("", scope, policy.SourceNotSupported, 10) }
	for _, tt := range []struct {
		name   string
		on     []pb.Scope // enforced already
		scopes []pb.Scope
		sums   func(id string) []ledger.Sum
		// types are the types of the violations, none when the call passes. words are in the message.
		types []string
		words []string
	}{
		{
			"all of them have", nil,
			[]pb.Scope{events, sessions},
			func(id string) []ledger.Sum { return []ledger.Sum{good(id, events), good(id, sessions)} }, nil, nil,
		},
		{
			"two of three have none", nil,
			[]pb.Scope{events, sessions, revenue},
			func(id string) []ledger.Sum { return []ledger.Sum{good(id, events)} },
			[]string{"NO_TRAFFIC"},
			[]string{"no requests for SESSIONS, AD_REVENUE were seen since 2", "leave SESSIONS, AD_REVENUE out"},
		},
		{
			"none has", nil,
			[]pb.Scope{events, sessions},
			func(string) []ledger.Sum { return nil },
			[]string{"NO_TRAFFIC"},
			[]string{"no requests for EVENTS, SESSIONS were seen since 2"},
		},
		{
			"one that was on before has none",
			[]pb.Scope{sessions},
			[]pb.Scope{events, sessions},
			func(id string) []ledger.Sum { return []ledger.Sum{good(id, events)} }, nil, nil,
		},
		{
			"B18 one has a tag manager's only", nil,
			[]pb.Scope{events, sessions},
			func(id string) []ledger.Sum { return []ledger.Sum{good(id, events), manager(sessions)} },
			[]string{"NO_TRAFFIC"},
			[]string{"all requests for SESSIONS since 2", "Google Tag Manager, which cannot send tokens", "leave SESSIONS out"},
		},
		{
			"B18 one has a tag manager's only, one none", nil,
			[]pb.Scope{events, sessions},
			func(string) []ledger.Sum { return []ledger.Sum{manager(events)} },
			[]string{"NO_TRAFFIC"},
			[]string{"no requests for SESSIONS were seen since 2", "and all requests for EVENTS since 2"},
		},
		{
			"a blocker too", nil,
			[]pb.Scope{events, sessions},
			func(string) []ledger.Sum { return []ledger.Sum{sum("", events, policy.TokenMissing, 1)} },
			[]string{"NOT_READY", "NO_TRAFFIC"},
			[]string{"EVENTS: 1 of 1 request (100 %)"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			app := newApp()
			id := c.create(t, app, "a", events, sessions, revenue).GetToken().GetTokenId()
			c.enforce(t, app, tt.on...)
			c.count(app, tt.sums(id)...)
			_, err := c.service.SetEnforcement(t.Context(), &pb.SetEnforcementRequest{AppId: app, Scopes: tt.scopes})
			if tt.types == nil {
				check.NoError(t, err)
				return
			}
			if types, _ := violations(err); !slices.Equal(types, tt.types) || apierr.ReasonOf(err) != "NOT_READY" {
				t.Errorf("got %v with %v, want %v", err, types, tt.types)
			}
			message := status.Convert(err).Message()
			for _, words := range tt.words {
				if !strings.Contains(message, words) {
					t.Errorf("message %q lacks %q", message, words)
				}
			}
			if tt.name == "none has" && strings.Contains(message, "out") {
				t.Errorf("message %q advises to leave out all that was asked for", message)
			}
		})
	}
}

// TestB15_OwnTokensBlock: own traffic that would be rejected blocks, and the error names token and scope.
// Once the token has the scope, the call passes, also for the requests of before.
func TestB15_OwnTokensBlock(t *testing.T) {
	c := newCounted(t)
	app := newApp()
	c.create(t, app, "all", events, revenue)
	id := c.create(t, app, "ios-backend", events).GetToken().GetTokenId()
	c.count(app, sum(id, revenue, policy.ScopeNotGranted, 4211), sum(id, events, policy.TokenValid, 10))
	request := &pb.SetEnforcementRequest{AppId: app, Scopes: []pb.Scope{events, revenue}}
	_, err := c.service.SetEnforcement(t.Context(), request)
	_, report := violations(err)
	want := "token `ios-backend` (" + id + ") was used 4,211 times for AD_REVENUE, which it is not granted"
	if len(report.GetBlockers()) != 1 || !strings.Contains(report.GetBlockers()[0], want) ||
		!strings.Contains(err.Error(), want) {
		t.Errorf("got %v, %v", err, report)
	}
	check.Must(c.update(t.Context(), app, &pb.Token{TokenId: id, Scopes: []pb.Scope{events, revenue}}, "scopes"))(t)
	check.Must(c.service.SetEnforcement(t.Context(), request))(t)
}

// TestB15_OnlyWideningIsGated: without any evidence, what is enforced can be narrowed, kept and switched off,
// one after the other, and not widened, neither for good nor for a trial.
func TestB15_OnlyWideningIsGated(t *testing.T) {
	c := newCounted(t)
	app := newApp()
	c.create(t, app, "a", events, sessions, revenue)
	c.enforce(t, app, events, sessions)
	c.away = true
	set := func(trial *durationpb.Duration, scopes ...pb.Scope) error {
		_, err := c.service.SetEnforcement(t.Context(),
			&pb.SetEnforcementRequest{AppId: app, Scopes: scopes, TrialDuration: trial})
		return err
	}
	notReady := precondition("NOT_READY", "apps/"+app)
	wantFailure(t, set(nil, events, sessions, revenue), notReady)
	wantFailure(t, set(durationpb.New(time.Hour), events, revenue), notReady)
	for _, step := range []struct {
		name   string
		trial  *durationpb.Duration
		scopes []pb.Scope
	}{
		{"the same", nil, []pb.Scope{events, sessions}},
		{"fewer", nil, []pb.Scope{events}},
		{"the same in a trial", durationpb.New(time.Hour), []pb.Scope{events}},
		{"fewer in a trial", durationpb.New(time.Hour), nil},
		{"off", nil, nil},
	} {
		if err := set(step.trial, step.scopes...); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
	}
}

// TestB15_WhatIsEnforcedForLongerIsGated: the gate judges the scopes that a call enforces at a time at which
// they would not be enforced without it, and no others. It refuses the call without evidence, a dry run says
// so, and the audit trail has the numbers of these scopes.
func TestB15_WhatIsEnforcedForLongerIsGated(t *testing.T) {
	c := newCounted(t)
	hours := func(n int) time.Time { return time.Now().Add(time.Duration(n) * time.Hour).Truncate(time.Millisecond) }
	first, second, third, over := hours(1), hours(2), hours(3), hours(-1)
	never := time.Time{}
	on := func(scopes ...pb.Scope) []pb.Scope { return scopes }
	for _, before := range []struct {
		name   string
		scopes []pb.Scope
		end    time.Time
		after  []pb.Scope
		calls  []longerCall
	}{
		{"nothing is enforced", nil, never, nil, []longerCall{
			{"for good", on(events, sessions), never, on(events, sessions)},
			{"for a trial", on(events), first, on(events)},
			{"nothing for a trial", nil, first, nil},
		}},
		{"two scopes for good", on(events, sessions), never, nil, []longerCall{
			{"the same", on(events, sessions), never, nil},
			{"fewer", on(events), never, nil},
			{"the same for a trial", on(events, sessions), first, nil},
			{"fewer for a trial, at whose end the other comes back", on(events), first, nil},
			{"nothing for a trial", nil, first, nil},
			{"another one for a trial", on(events, revenue), first, on(revenue)},
		}},
		{"a trial from off", on(events), second, nil, []longerCall{
			{"shorter", on(events), first, nil},
			{"the same end", on(events), second, nil},
			{"longer", on(events), third, on(events)},
			{"for good", on(events), never, on(events)},
			{"another scope for good", on(sessions), never, on(sessions)},
			{"another scope too, shorter", on(events, sessions), first, on(sessions)},
			{"nothing for a trial", nil, third, nil},
			{"off", nil, never, nil},
		}},
		{"a trial of one scope more", on(events, sessions), second, on(sessions), []longerCall{
			{"both for good", on(events, sessions), never, on(events)},
			{"the one that was on before", on(sessions), never, nil},
			{"both for longer", on(events, sessions), third, on(events)},
			{"both, shorter", on(events, sessions), first, nil},
			{"a third one, at whose end the one that was on comes back", on(revenue), first, on(revenue)},
		}},
		{"a trial of less", on(events), second, on(events, sessions), []longerCall{
			{"shorter, so that the rest comes back sooner", on(events), first, on(sessions)},
			{"the same end", on(events), second, nil},
			{"longer", on(events), third, nil},
			{"all of it for good from now on", on(events, sessions), never, on(sessions)},
			{"off for longer", nil, third, nil},
			{"off, shorter", nil, first, on(sessions)},
		}},
		{"a trial that is over", on(events), over, on(sessions), []longerCall{
			{"the scope after it", on(sessions), never, nil},
			{"the scope after it for a trial", on(sessions), first, nil},
			{"the scope of the trial", on(events), never, on(events)},
			{"the scope of the trial for a trial", on(events), first, on(events)},
		}},
	} {
		for _, call := range before.calls {
			t.Run(before.name+"/"+call.name, func(t *testing.T) {
				app := newApp()
				id := c.create(t, app, "a", events, sessions, revenue).GetToken().GetTokenId()
				c.write(t, app, func(d *record.Document) {
					d.Enforcement = policy.Enforcement{Scopes: setOf(before.scopes), After: setOf(before.after)}
					if !before.end.IsZero() {
						d.Enforcement.TrialEndMillis = before.end.UnixMilli()
					}
				})
				c.expectGate(t, app, id, call)
			})
		}
	}
}

// longerCall is a call of SetEnforcement, and the scopes that the gate must judge.
type longerCall struct {
	name   string
	scopes []pb.Scope
	end    time.Time
	judged []pb.Scope
}

// expectGate makes a call without evidence, as a dry run and in earnest, and then with allow_rejections and
// counts of all scopes.
func (c *counted) expectGate(t *testing.T, app, id string, call longerCall) {
	t.Helper()
	request := &pb.SetEnforcementRequest{AppId: app, Scopes: call.scopes}
	if !call.end.IsZero() {
		request.TrialEndTime = timestamppb.New(call.end)
	}
	dry := proto.CloneOf(request)
	dry.ValidateOnly = true
	names := contract.ScopeNames(setOf(call.judged))
	says := func(text string) bool { return strings.Contains(text, "what enforcing "+names+" would reject") }
	c.away = true
	tried := check.Must(c.service.SetEnforcement(t.Context(), dry))(t)
	if warned := says(strings.Join(tried.GetWarnings(), "\n")); warned != (call.judged != nil) {
		t.Errorf("the dry run says %q, want a refusal about %q", tried.GetWarnings(), names)
	}
	if call.judged == nil {
		check.Must(c.service.SetEnforcement(t.Context(), request))(t)
		return
	}
	_, err := c.service.SetEnforcement(t.Context(), request)
	wantFailure(t, err, precondition("NOT_READY", "apps/"+app))
	if !says(status.Convert(err).Message()) {
		t.Errorf("got %v, want an error about %s", err, names)
	}
	c.away = false
	c.count(app, sum(id, events, policy.TokenValid, 1), sum(id, sessions, policy.TokenValid, 1),
		sum(id, revenue, policy.TokenValid, 1))
	request.AllowRejections = true
	check.Must(c.service.SetEnforcement(t.Context(), request))(t)
	rows := c.audited(t, partitionOf(app))
	var got []pb.Scope
	for _, row := range rows[len(rows)-1].GetRejectedScopes() {
		got = append(got, row.GetScope())
	}
	if !slices.Equal(got, call.judged) {
		t.Errorf("the audit trail has the numbers of %v, want %v", got, call.judged)
	}
}

func setOf(scopes []pb.Scope) (set policy.ScopeSet) {
	for _, s := range scopes {
		set |= policy.ScopesOf(policy.Scope(s))
	}
	return set
}

// TestB15_TrialThatRejectsIsNotProlonged: the requests that a trial rejects are in the report, and refuse a
// longer trial, with words that are true of a scope that is enforced already.
func TestB15_TrialThatRejectsIsNotProlonged(t *testing.T) {
	c := newCounted(t)
	app := newApp()
	id := c.create(t, app, "a", events).GetToken().GetTokenId()
	c.count(app, sum(id, events, policy.TokenValid, 1))
	request := &pb.SetEnforcementRequest{AppId: app, Scopes: []pb.Scope{events}, TrialEndTime: in(time.Hour)}
	check.Must(c.service.SetEnforcement(t.Context(), request))(t)
	rejected := sum("", events, policy.TokenMissing, 5)
	rejected.Enforced = true
	c.count(app, sum(id, events, policy.TokenValid, 1), rejected)
	request.TrialEndTime = nil
	_, err := c.service.SetEnforcement(t.Context(), request)
	wantFailure(t, err, precondition("NOT_READY", "apps/"+app))
	if text := status.Convert(err).Message(); !strings.Contains(text, "5 of 6 requests") ||
		strings.Contains(text, "accepted now") {
		t.Errorf("message %q", text)
	}
}

// TestB15_EvidenceIsReadBeforeTheChange: while the counts of an app are read for the gate, other changes of
// the app go on, also when the call only changes the end of a trial.
func TestB15_EvidenceIsReadBeforeTheChange(t *testing.T) {
	c := newCounted(t)
	inAnHour, one := time.Now().Add(time.Hour).UnixMilli(), setOf([]pb.Scope{events})
	for _, tt := range []struct {
		name   string
		before policy.Enforcement
		scopes []pb.Scope
		end    *timestamppb.Timestamp
	}{
		{"switched on", policy.Enforcement{}, []pb.Scope{events}, nil},
		{"a trial becomes permanent", policy.Enforcement{Scopes: one, TrialEndMillis: inAnHour}, []pb.Scope{events}, nil},
		{"a trial of nothing ends sooner", policy.Enforcement{TrialEndMillis: inAnHour, After: one}, nil, in(time.Minute)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			app := newApp()
			id := c.create(t, app, "a", events).GetToken().GetTokenId()
			c.write(t, app, func(d *record.Document) { d.Enforcement = tt.before })
			c.count(app, sum(id, events, policy.TokenValid, 1))
			reads := 0
			c.reading = func(ctx context.Context) {
				reads++
				_, err := c.service.CreateToken(ctx, &pb.CreateTokenRequest{AppId: app, Name: "b", Scopes: []pb.Scope{events}})
				if err != nil {
					t.Errorf("a change while the counts are read: %v", err)
				}
			}
			defer func() { c.reading = nil }()
			check.Must(c.service.SetEnforcement(t.Context(),
				&pb.SetEnforcementRequest{AppId: app, Scopes: tt.scopes, TrialEndTime: tt.end}))(t)
			if reads != 1 {
				t.Errorf("the counts were read %d times, want once", reads)
			}
		})
	}
}

// TestB15_RepetitionIsNotGated: a call that was made gets its answer again, whatever the counts say by now.
func TestB15_RepetitionIsNotGated(t *testing.T) {
	c := newCounted(t)
	app := newApp()
	id := c.create(t, app, "a", events).GetToken().GetTokenId()
	c.count(app, sum(id, events, policy.TokenValid, 1))
	request := &pb.SetEnforcementRequest{AppId: app, Scopes: []pb.Scope{events}, RequestId: "r1"}
	first := check.Must(c.service.SetEnforcement(t.Context(), request))(t)
	check.Must(c.service.SetEnforcement(t.Context(), &pb.SetEnforcementRequest{AppId: app}))(t)
	c.away = true
	again := check.Must(c.service.SetEnforcement(t.Context(), request))(t)
	if !proto.Equal(again, first) {
		t.Errorf("repeated: %v, want %v", again, first)
	}
}

// TestB15_AuditSaysWhatWasAllowed: with allow_rejections the row has the numbers of each scope that was
// switched on, and of no other.
func TestB15_AuditSaysWhatWasAllowed(t *testing.T) {
	c := newCounted(t)
	app := newApp()
	id := c.create(t, app, "a", events, sessions).GetToken().GetTokenId()
	c.enforce(t, app, sessions)
	c.count(app, sum(id, events, policy.TokenValid, 10), sum("", events, policy.TokenMissing, 7),
		sum("", sessions, policy.TokenMissing, 9))
	check.Must(c.service.SetEnforcement(t.Context(), &pb.SetEnforcementRequest{
		AppId: app, Scopes: []pb.Scope{events, sessions, gdpr}, AllowRejections: true,
	}))(t)
	rows := c.audited(t, partitionOf(app))
	got := rows[len(rows)-1].GetRejectedScopes()
	want := []*pb.ScopeReadiness{{Scope: events, Requests: 17, Rejected: 7}, {Scope: gdpr}}
	if !slices.EqualFunc(got, want, func(a, b *pb.ScopeReadiness) bool { return proto.Equal(a, b) }) {
		t.Errorf("got %v, want %v", got, want)
	}
	check.Must(c.service.SetEnforcement(t.Context(), &pb.SetEnforcementRequest{AppId: app}))(t)
	rows = c.audited(t, partitionOf(app))
	if got := rows[len(rows)-1].GetRejectedScopes(); got != nil {
		t.Errorf("switching off: %v", got)
	}
}

// TestB21_GetReadiness: the report of one app; and what it answers without an app, and without counts.
func TestB21_GetReadiness(t *testing.T) {
	c := newCounted(t)
	app := newApp()
	id := c.create(t, app, "a", events).GetToken().GetTokenId()
	c.count(app, sum(id, events, policy.TokenValid, 98), sum("", events, policy.TokenMissing, 2))
	ask := func(ratio *float64) *pb.Readiness {
		return check.Must(c.service.GetReadiness(t.Context(),
			&pb.GetReadinessRequest{AppId: app, MaxRejectedRatio: ratio, Window: durationpb.New(time.Hour)}))(t).GetReadiness()
	}
	got := ask(nil)
	if got.GetVerdict() != pb.ReadinessVerdict_READINESS_VERDICT_NOT_READY || len(got.GetTokens()) != 1 ||
		got.GetTokens()[0].GetRequests() != 98 || got.GetScopes()[0].GetRejected() != 2 {
		t.Errorf("got %v", got)
	}
	if got := ask(proto.Float64(0.02)); got.GetVerdict() != pb.ReadinessVerdict_READINESS_VERDICT_READY {
		t.Errorf("with a larger ratio: %v", got)
	}
	_, err := c.service.GetReadiness(t.Context(), &pb.GetReadinessRequest{AppId: newApp()})
	wantFailure(t, err, noApp)
	c.away = true
	_, err = c.service.GetReadiness(t.Context(), &pb.GetReadinessRequest{AppId: app})
	wantFailure(t, err, failure{codes.Unavailable, "USAGE_UNAVAILABLE", ""})
}

// TestB22_LastUses: tokens show their last uses; without counts they show none, and the call works.
func TestB22_LastUses(t *testing.T) {
	c := newCounted(t)
	app := newApp()
	id := c.create(t, app, "a", events).GetToken().GetTokenId()
	c.create(t, app, "b", events)
	minute := time.Now().Add(-time.Hour).Truncate(time.Minute)
	c.apps[app] = &history{uses: []ledger.LastUse{
		{TokenID: id, Scope: policy.Scope(revenue), Minute: minute}, {TokenID: id, Scope: policy.Scope(events), Minute: minute},
	}}
	for _, away := range []bool{false, true} {
		c.away = away
		got := check.Must(c.service.GetToken(t.Context(), &pb.GetTokenRequest{AppId: app, TokenId: id}))(t).GetToken()
		all := check.Must(c.service.ListTokens(t.Context(), &pb.ListTokensRequest{AppId: app}))(t).GetTokens()
		if len(all) != 2 || !proto.Equal(all[0], got) || len(all[1].GetLastUses()) != 0 {
			t.Errorf("get %v, list %v", got, all)
		}
		if away {
			if len(got.GetLastUses()) != 0 {
				t.Errorf("without counts: %v", got)
			}
		} else if uses := got.GetLastUses(); len(uses) != 2 || uses[0].GetScope() != events ||
			!uses[0].GetUseTime().AsTime().Equal(minute) {
			t.Errorf("last uses %v", uses)
		}
	}
}
