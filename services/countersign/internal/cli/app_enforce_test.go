package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/cmdline"
)

const (
	ready   = countersignv1.ReadinessVerdict_READINESS_VERDICT_READY
	blocked = countersignv1.ReadinessVerdict_READINESS_VERDICT_NOT_READY
)

const blocker = "token `ios-backend` (tok_1) was used 4,211 times for AD_REVENUE, which it is not granted: " +
	"add the scope or stop the caller"

// aReport returns a report on the app shop.
func aReport(verdict countersignv1.ReadinessVerdict) *countersignv1.Readiness {
	r := &countersignv1.Readiness{
		AppId: "shop", Verdict: verdict,
		StartTime: timestamppb.New(time.Unix(1764450000, 0)), EndTime: timestamppb.New(time.Unix(1764536400, 0)),
		Scopes: []*countersignv1.ScopeReadiness{
			{Scope: events, Requests: 174035, Rejected: 12, Enforced: true, Rejections: []*countersignv1.UsageCount{
				{Reason: countersignv1.Reason_REASON_TOKEN_MISSING, Count: 12},
			}},
			{Scope: countersignv1.Scope_SCOPE_AD_REVENUE, Requests: 4211, Rejected: 4211, Rejections: []*countersignv1.UsageCount{
				{Reason: countersignv1.Reason_REASON_SCOPE_NOT_GRANTED, TokenId: "tok_1", Count: 4211},
			}},
		},
		Tokens: []*countersignv1.TokenUsage{
			{
				TokenId: "tok_1", Name: "ios-backend", State: active, Requests: 178000, Rejected: 4211,
				LastUses: []*countersignv1.LastUse{
					{Scope: events, UseTime: timestamppb.New(time.Now().Add(-3 * time.Minute))},
				},
			},
			{TokenId: "tok_2", Name: "spare", State: active, Unscoped: true},
		},
		Warnings: []string{"12 requests carried no token: below the limit of 1 %"},
	}
	if verdict == blocked {
		r.Blockers = []string{blocker}
	}
	return r
}

// enforcing returns an authority that refuses to enforce without a report that is ready.
func enforcing(verdict countersignv1.ReadinessVerdict) *scripted {
	return &scripted{enforce: func(r *countersignv1.SetEnforcementRequest) (*countersignv1.SetEnforcementResponse, error) {
		report := aReport(verdict)
		if verdict != ready && !r.GetAllowRejections() && !r.GetValidateOnly() && len(r.GetScopes()) > 0 {
			return nil, apierr.Precondition("NOT_READY", "apps/shop", "the readiness report has blockers").With(report)
		}
		response := &countersignv1.SetEnforcementResponse{
			App: &countersignv1.App{AppId: "shop", EnforcedScopes: r.GetScopes()}, ConsistencyToken: "position",
		}
		if len(r.GetScopes()) > 0 {
			response.Readiness, response.Warnings = report, []string{"Only requests that are sent with a token will be accepted"}
		}
		if r.GetValidateOnly() {
			response.ConsistencyToken = ""
		}
		return response, nil
	}}
}

// TestB15_NotReady: a refusal shows the blockers as sentences, and what to do.
func TestB15_NotReady(t *testing.T) {
	f := enforcing(blocked)
	f.serve(t, f)
	got := run(t, "app", "enforce", "--app=shop", "--all", "--window=48h", "--max-rejected-ratio=0.5")
	words := strings.Join(strings.Fields(got.errors), " ")
	for _, part := range []string{
		"Verdict NOT_READY: ", "4,211 ad_revenue SCOPE_NOT_GRANTED tok_1 ios-backend", "Blockers - " + blocker,
		"countersign: FAILED_PRECONDITION: the readiness report has blockers", "--window N", "--max-rejected-ratio N",
		"--allow-rejections",
	} {
		if !strings.Contains(words, part) {
			t.Errorf("no %q in %q", part, words)
		}
	}
	if got.code != cmdline.ExitFailed || got.out != "" {
		t.Errorf("%+v", got)
	}
	r := f.requests()[0].(*countersignv1.SetEnforcementRequest)
	if len(f.requests()) != 1 || r.GetReadinessWindow().AsDuration() != 48*time.Hour || r.GetMaxRejectedRatio() != 0.5 {
		t.Errorf("%v", f.requests())
	}
	if got := run(t, "app", "enforce", "--app=shop", "--all", "--allow-rejections"); got.code != cmdline.ExitDone ||
		!strings.Contains(got.out, "Enforced") {
		t.Errorf("%+v", got)
	}
}

// TestB15_DryRun: it shows the report and the warning, and no request that changes something is sent.
func TestB15_DryRun(t *testing.T) {
	f := enforcing(blocked)
	f.serve(t, f)
	got := run(t, "app", "enforce", "--app=shop", "--all", "--dry-run", "--wait")
	if got.code != cmdline.ExitDone || !strings.Contains(got.out, "Enforced") {
		t.Errorf("%+v", got)
	}
	for _, part := range []string{"NOT_READY", "4,211 times", "Warning: Only requests", "Dry run: nothing was changed."} {
		if !strings.Contains(got.errors, part) {
			t.Errorf("no %q in %q", part, got.errors)
		}
	}
	for _, r := range f.requests() {
		if !r.(*countersignv1.SetEnforcementRequest).GetValidateOnly() {
			t.Errorf("%v", r)
		}
	}
}

// TestB15_Question: on a terminal the report comes before the question. Without a yes nothing is changed.
func TestB15_Question(t *testing.T) {
	for _, tt := range []struct {
		name    string
		verdict countersignv1.ReadinessVerdict
		args    []string
		types   string
		code    int
		changes int
		says    []string
	}{
		{"no", ready, []string{"--all"}, "n\n", cmdline.ExitFailed, 0, []string{"Verdict", "Turn on? [y/N]"}},
		{"only Enter", ready, []string{"--all"}, "\n", cmdline.ExitFailed, 0, []string{"Turn on? [y/N]"}},
		{"yes", ready, []string{"--all"}, "y\n", cmdline.ExitDone, 1, []string{"178,246", "Only requests", "Turn on? [y/N]"}},
		{"--yes", ready, []string{"--all", "--yes"}, "", cmdline.ExitDone, 1, []string{"Verdict"}},
		{"off", ready, []string{"--off"}, "", cmdline.ExitDone, 1, nil},
		{
			"blocked", blocked,
			[]string{"--all"},
			"", cmdline.ExitFailed, 0,
			[]string{"4,211 times", "nothing was changed: the app is NOT_READY", "--allow-rejections"},
		},
		{
			"allowed", blocked,
			[]string{"--all", "--allow-rejections"},
			"y\n", cmdline.ExitDone, 1,
			[]string{"4,211 times", "even if that rejects requests", "Turn on? [y/N]"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := enforcing(tt.verdict)
			f.serve(t, f)
			code, said := atTerminal(t, tt.types, append([]string{"app", "enforce", "--app=shop"}, tt.args...)...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, part := range tt.says {
				if !strings.Contains(said, part) {
					t.Errorf("no %q in %q", part, said)
				}
			}
			if asked := strings.Contains(said, "Turn on?"); asked != (tt.types != "") {
				t.Errorf("asked: %v", asked)
			}
			if strings.Count(said, "Verdict") > 1 {
				t.Errorf("the report is shown twice: %q", said)
			}
			changes := 0
			var last proto.Message
			for _, last = range f.requests() {
				if !last.(*countersignv1.SetEnforcementRequest).GetValidateOnly() {
					changes++
				}
			}
			if changes != tt.changes {
				t.Errorf("%d changes, want %d", changes, tt.changes)
			}
		})
	}
}

// atTerminal runs a command line in this process whose input and errors are a terminal. Its output is not.
func atTerminal(t *testing.T, types string, args ...string) (code int, said string) {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("NO_COLOR", "1")
	person, inside, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := person.WriteString(types); err != nil {
		t.Fatal(err)
	}
	seen := make(chan string)
	go func() {
		var all bytes.Buffer
		part := make([]byte, 4096)
		for {
			n, err := person.Read(part)
			all.Write(part[:n])
			if err != nil {
				seen <- all.String()
				return
			}
		}
	}()
	root := newRoot(nil)
	root.SetArgs(args)
	root.SetIn(inside)
	root.SetOut(&bytes.Buffer{})
	root.SetErr(inside)
	code = execute(root)
	if err := inside.Close(); err != nil {
		t.Error(err)
	}
	said = <-seen
	if err := person.Close(); err != nil {
		t.Error(err)
	}
	return code, strings.ReplaceAll(said, "\r\n", "\n")
}
