package cli

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/cmdline"
)

func TestB21_Readiness(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	f := &scripted{readiness: func(*countersignv1.GetReadinessRequest) (*countersignv1.GetReadinessResponse, error) {
		return &countersignv1.GetReadinessResponse{Readiness: aReport(blocked)}, nil
	}}
	f.serve(t, f)
	got := run(t, "app", "readiness", "--app=shop", "--window=7d")
	text := strings.Join(strings.Fields(got.out), " ")
	for _, part := range []string{
		"App shop Verdict NOT_READY: enforcement would reject requests",
		"Window 1d, from 2025-11-29 21:00Z to 2025-11-30 21:00Z",
		"Requests 178,246, of which 4,223 (2.4 %) would be rejected",
		"SCOPE ENFORCED ACCEPTED REJECTED", "events yes 174,023 12 (< 0.01 %) ####", "###x ad_revenue no 0 4,211 (100 %) xxxx",
		"REJECTED SCOPE REASON TOKEN 12 events TOKEN_MISSING - 4,211 ad_revenue SCOPE_NOT_GRANTED tok_1 ios-backend",
		"tok_1 ios-backend ACTIVE 178,000 4,211 3 min ago", "tok_2 spare (unscoped) ACTIVE 0 0 never",
		"Blockers - " + blocker, "Warnings - 12 requests carried no token: below the limit of 1 %",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in %s", part, got.out)
		}
	}
	for line := range strings.Lines(got.out) {
		if len(line) > 101 || strings.ContainsAny(line, "\x1b█") {
			t.Errorf("%q", line)
		}
	}
	r := f.requests()[0].(*countersignv1.GetReadinessRequest)
	if r.GetWindow().AsDuration() != 7*day || r.MaxRejectedRatio != nil {
		t.Errorf("%v", r)
	}
	if got := run(t, "app", "readiness", "--app=shop", "-o=json"); !strings.Contains(got.out, `"READINESS_VERDICT_NOT_READY"`) {
		t.Errorf("%+v", got)
	}
}

// TestB21_NoTraffic: an app without any requests is told from one of which a scope had none.
func TestB21_NoTraffic(t *testing.T) {
	const verdict = countersignv1.ReadinessVerdict_READINESS_VERDICT_NO_TRAFFIC
	for _, tt := range []struct {
		name   string
		scopes []*countersignv1.ScopeReadiness
		want   string
	}{
		{"no requests", nil, "NO_TRAFFIC: no requests were seen, so nothing is known"},
		{
			"a scope without", aReport(ready).GetScopes(),
			"NO_TRAFFIC: a scope saw no requests that can carry a token; the warnings name it",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &scripted{readiness: func(*countersignv1.GetReadinessRequest) (*countersignv1.GetReadinessResponse, error) {
				report := aReport(verdict)
				report.Scopes = tt.scopes
				return &countersignv1.GetReadinessResponse{Readiness: report}, nil
			}}
			f.serve(t, f)
			if got := run(t, "app", "readiness", "--app=shop"); !strings.Contains(got.out, tt.want) {
				t.Errorf("no %q in %s", tt.want, got.out)
			}
		})
	}
}

// The summary has the apps of all pages, in the order of the authority, and says what is missing.
func TestB21_ReadinessOfAllApps(t *testing.T) {
	other := proto.Clone(aReport(ready)).(*countersignv1.Readiness)
	other.AppId = "other"
	f := &scripted{all: map[string]*countersignv1.ListReadinessResponse{
		"":  {Apps: []*countersignv1.Readiness{aReport(blocked)}, NextPageToken: "2", Unreachable: []string{"partition 17"}},
		"2": {Apps: []*countersignv1.Readiness{other}, Unreachable: []string{"partition 17"}},
	}}
	f.serve(t, f)
	got := run(t, "app", "readiness")
	text := strings.Join(strings.Fields(got.out), " ")
	const want = "APP VERDICT REQUESTS REJECTED SHARE BLOCKERS NOTICES shop NOT_READY 178,246 4,223 2.4 % 1 0 other READY"
	if got.code != cmdline.ExitFailed || !strings.HasPrefix(text, want) || !strings.Contains(got.errors, "partition 17") {
		t.Errorf("%q, %+v", text, got)
	}
	if got := run(t, "app", "readiness", "-o=json"); strings.Index(got.out, `"shop"`) > strings.Index(got.out, `"other"`) {
		t.Errorf("%+v", got)
	}
}

// --watch goes on while the authority is away, and ends when it is interrupted.
func TestReadinessWatch(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	var calls atomic.Int32
	f := &scripted{readiness: func(*countersignv1.GetReadinessRequest) (*countersignv1.GetReadinessResponse, error) {
		switch calls.Add(1) {
		case 2:
			return nil, apierr.Unavailable("USAGE_UNAVAILABLE", "the counts cannot be read")
		case 3:
			defer interrupt()
		}
		return &countersignv1.GetReadinessResponse{Readiness: aReport(ready)}, nil
	}}
	f.serve(t, f)
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	var out strings.Builder
	root := newRoot(nil)
	root.SetContext(ctx)
	root.SetArgs([]string{"app", "readiness", "--app=shop", "--watch"})
	root.SetOut(&out)
	root.SetErr(io.Discard)
	if code := execute(root); code != cmdline.ExitDone || strings.Count(out.String(), "Verdict") < 1 ||
		!strings.Contains(out.String(), "UNAVAILABLE: the counts cannot be read (USAGE_UNAVAILABLE)") {
		t.Errorf("%d, %s", code, &out)
	}
	f.readiness = func(*countersignv1.GetReadinessRequest) (*countersignv1.GetReadinessResponse, error) {
		return nil, apierr.NotFound("APP_NOT_FOUND", "there is no such app")
	}
	if got := run(t, "app", "readiness", "--app=shop", "--watch"); got.code != cmdline.ExitFailed ||
		!strings.Contains(got.errors, "there is no such app") {
		t.Errorf("%+v", got)
	}
}

// A report that is redrawn fits into the terminal, and leaves nothing of the one before.
func TestRedrawn(t *testing.T) {
	if got, want := redrawn("a\nb\n", 24, true), "\x1b[2J\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := redrawn("a\nb\nc\nd\n", 3, false), "\x1b[Ha\x1b[K\nb\x1b[K\n...\x1b[J"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// app watch shows a first line at once, and then what came.
func TestAppWatch(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	var calls atomic.Int32
	f := &scripted{readiness: func(*countersignv1.GetReadinessRequest) (*countersignv1.GetReadinessResponse, error) {
		report := aReport(blocked)
		switch calls.Add(1) {
		case 2:
			report.Scopes[0].Requests, report.Scopes[0].Rejected = 174135, 32 // 80 accepted, 20 rejected
			report.Scopes[0].Rejections[0].Count = 32
			report.Scopes[1].Requests, report.Scopes[1].Rejected = 4221, 4221 // 10 that enforcement would reject
			report.Scopes[1].Rejections[0].Count = 4221
		case 3:
			interrupt()
		}
		return &countersignv1.GetReadinessResponse{Readiness: report}, nil
	}}
	f.serve(t, f)
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	var out strings.Builder
	root := newRoot(nil)
	root.SetContext(ctx)
	root.SetArgs([]string{"app", "watch", "--app=shop"})
	root.SetOut(&out)
	root.SetErr(io.Discard)
	code := execute(root)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i := range lines {
		lines[i] = strings.Join(strings.Fields(lines[i]), " ")
		if i > 0 {
			_, lines[i], _ = strings.Cut(lines[i], " ") // the time
		}
	}
	want := []string{
		"TIME REASON DECISIONS REJECTED TOKEN", "178,246 decisions in the last 1 to 2 hours; new ones follow.",
		"TOKEN_MISSING 20 20", "accepted 80 0", "SCOPE_NOT_GRANTED 10 0 ios-backend",
	}
	if code != cmdline.ExitDone || strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("%d, %q, want %q", code, lines, want)
	}
}
