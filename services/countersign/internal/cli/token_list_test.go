package cli

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/cmdline"
)

const (
	active   = countersignv1.TokenState_TOKEN_STATE_ACTIVE
	disabled = countersignv1.TokenState_TOKEN_STATE_DISABLED
	events   = countersignv1.Scope_SCOPE_EVENTS
	sessions = countersignv1.Scope_SCOPE_SESSIONS
	day      = 24 * time.Hour
)

// aToken returns a token that was created 100 days ago and used before some time; 0 is never.
func aToken(id, name string, used time.Duration, change func(*countersignv1.Token)) *countersignv1.Token {
	t := &countersignv1.Token{
		TokenId: "tok_" + id, Name: name, State: active, Scopes: []countersignv1.Scope{events},
		CreateTime: timestamppb.New(time.Now().Add(-100 * day)),
	}
	if used != 0 {
		t.LastUses = []*countersignv1.LastUse{
			{Scope: events, UseTime: timestamppb.New(time.Now().Add(-used - 50*day))},
			{Scope: sessions, UseTime: timestamppb.New(time.Now().Add(-used))},
		}
	}
	if change != nil {
		change(t)
	}
	return t
}

// twoPages are tokens in two pages, with a rotation across them.
func twoPages() map[string]*countersignv1.ListTokensResponse {
	return map[string]*countersignv1.ListTokensResponse{
		"": {NextPageToken: "2", Tokens: []*countersignv1.Token{
			aToken("a", "turned", 3*time.Minute, func(t *countersignv1.Token) { t.SuccessorId = "tok_d" }),
			aToken("b", "idle", 40*day, func(t *countersignv1.Token) { t.State, t.Scopes = disabled, nil }),
		}},
		"2": {Tokens: []*countersignv1.Token{
			aToken("c", "ending", 5*time.Hour, func(t *countersignv1.Token) {
				t.ExpireTime = timestamppb.New(time.Now().Add(3 * day))
			}),
			aToken("d", "turned", 0, func(t *countersignv1.Token) { t.PredecessorId = "tok_a" }),
			aToken("e", "new", 0, func(t *countersignv1.Token) { t.CreateTime = timestamppb.Now() }),
		}},
	}
}

var listedID = regexp.MustCompile(`(?m)^tok_(\w)`)

// TestB06_TokenList: conditions hold together, over all pages, and each order is what its name says.
func TestB06_TokenList(t *testing.T) {
	f := &scripted{
		tokens: twoPages(),
		readiness: func(*countersignv1.GetReadinessRequest) (*countersignv1.GetReadinessResponse, error) {
			return &countersignv1.GetReadinessResponse{}, nil
		},
	}
	f.serve(t, f)
	for args, want := range map[string]string{
		"":                                     "adbce", // d replaces a
		"--unused-for=30d":                     "bd",
		"--unused-for=4h":                      "bcd",
		"--expiring-within=7d":                 "c",
		"--expiring-within=1d":                 "",
		"--state=disabled":                     "b",
		"--state=active,disabled":              "adbce",
		"--unscoped":                           "b",
		"--unscoped --state=active":            "",
		"--unused-for=4h --state=active":       "cd",
		"--sort=name":                          "cbead",
		"--sort=last-use":                      "debca",
		"--sort=last-use --state=active":       "deca",
		"--sort=expires":                       "cadbe",
		"--unused-for=4h --expiring-within=5d": "c",
	} {
		got := run(t, append([]string{"token", "list", "--app=a"}, strings.Fields(args)...)...)
		ids := ""
		for _, id := range listedID.FindAllStringSubmatch(got.out, -1) {
			ids += id[1]
		}
		// The successor is pulled up to its predecessor, so last-use shows it there.
		if args == "--sort=last-use" || args == "--sort=last-use --state=active" {
			want = strings.ReplaceAll(strings.TrimPrefix(want, "d"), "a", "ad")
		}
		if got.code != cmdline.ExitDone || ids != want {
			t.Errorf("%q: %q, want %q: %+v", args, ids, want, got)
		}
	}
	t.Setenv("LC_ALL", "C")
	table := strings.Join(strings.Fields(run(t, "token", "list", "--app=a").out), " ")
	for _, part := range []string{
		"TOKEN NAME SCOPES STATE HINT LAST USE EXPIRES", "- 3 min ago never", "- 40 d ago never",
		"- 5 h ago in 3d", "tok_d -> turned events ACTIVE - never never",
	} {
		if !strings.Contains(table, part) {
			t.Errorf("no %q in %s", part, table)
		}
	}
	if got := run(t, "token", "list", "--app=a", "--sort=last-use", "-o=json"); strings.Index(got.out, `"tok_d"`) >
		strings.Index(got.out, `"tok_a"`) || !strings.Contains(got.out, `"lastUses"`) {
		t.Errorf("JSON is in the order that was asked for, with all scopes: %s", got.out)
	}
}

// TestB22_UnknownLastUses: when the counts cannot be read, no token looks unused.
func TestB22_UnknownLastUses(t *testing.T) {
	f := &scripted{
		tokens: map[string]*countersignv1.ListTokensResponse{"": {Tokens: []*countersignv1.Token{aToken("a", "a", 0, nil)}}},
		readiness: func(*countersignv1.GetReadinessRequest) (*countersignv1.GetReadinessResponse, error) {
			return nil, apierr.Unavailable("USAGE_UNAVAILABLE", "the usage counts cannot be read")
		},
	}
	f.serve(t, f)
	if got := run(t, "token", "list", "--app=a", "--unused-for=30d"); got.code != cmdline.ExitFailed || got.out != "" ||
		!strings.Contains(got.errors, "the usage counts cannot be read") {
		t.Errorf("%+v", got)
	}
	got := run(t, "token", "list", "--app=a")
	if got.code != cmdline.ExitDone || strings.Contains(got.out, "never  never") || !strings.Contains(got.out, "?") ||
		!strings.Contains(got.errors, "the last uses are unknown") {
		t.Errorf("%+v", got)
	}
}

// TestB22_MissingUsesAreTold: who looks for unused tokens is told which uses may not be counted.
func TestB22_MissingUsesAreTold(t *testing.T) {
	const missing = "the counts begin at 2026-12-01 10:00:00 UTC"
	f := &scripted{
		tokens: map[string]*countersignv1.ListTokensResponse{"": {Tokens: []*countersignv1.Token{aToken("a", "a", 0, nil)}}},
		readiness: func(r *countersignv1.GetReadinessRequest) (*countersignv1.GetReadinessResponse, error) {
			if window := r.GetWindow(); window != nil && window.AsDuration() != 35*day && window.AsDuration() != time.Minute {
				t.Errorf("the window is %v", window.AsDuration())
			}
			return &countersignv1.GetReadinessResponse{Readiness: &countersignv1.Readiness{Missing: []string{missing}}}, nil
		},
	}
	f.serve(t, f)
	for args, want := range map[string]bool{"--unused-for=90d": true, "--unused-for=5s": true, "--sort=name": false} {
		got := run(t, "token", "list", "--app=a", args)
		if told := strings.Contains(got.errors, "may look unused and be in use: "+missing); got.code != cmdline.ExitDone ||
			told != want {
			t.Errorf("%s: %+v", args, got)
		}
	}
}

// A name addresses a token where it is unique. Otherwise the error lists the candidates.
func TestTokenByName(t *testing.T) {
	f := &scripted{tokens: twoPages()}
	f.revoke = func(r *countersignv1.RevokeTokenRequest) (*countersignv1.RevokeTokenResponse, error) {
		return &countersignv1.RevokeTokenResponse{Token: &countersignv1.Token{TokenId: r.GetTokenId()}}, nil
	}
	f.serve(t, f)
	if got := run(t, "token", "revoke", "--app=a", "--name= idle "); got.code != cmdline.ExitDone ||
		f.requests()[0].(*countersignv1.RevokeTokenRequest).GetTokenId() != "tok_b" {
		t.Errorf("%+v, %v", got, f.requests())
	}
	if got := run(t, "token", "revoke", "--app=a", "--name=turned"); got.code != cmdline.ExitFailed || got.errors !=
		"countersign: --name: 2 tokens have this name; choose one with --token: "+
			"tok_a is ACTIVE, replaced by tok_d; tok_d is ACTIVE\n" {
		t.Errorf("%+v", got)
	}
	if got := run(t, "token", "revoke", "--app=a", "--name=nobody"); got.code != cmdline.ExitFailed ||
		!strings.Contains(got.errors, "no active or disabled token with this name") {
		t.Errorf("%+v", got)
	}
	if n := len(f.requests()); n != 1 {
		t.Errorf("%d revocations", n)
	}
}

// TestB09_RotateUntilUnused: the request asks for it, and an authority that ignores it is noticed.
func TestB09_RotateUntilUnused(t *testing.T) {
	f := &scripted{rotate: &countersignv1.RotateTokenResponse{
		Token: &countersignv1.Token{TokenId: "tok_new"}, Secret: "cs_1",
		Previous: &countersignv1.Token{
			TokenId: "tok_old", UntilUnused: durationpb.New(day), ExpireTime: timestamppb.New(time.Now().Add(90 * day)),
		},
	}}
	f.serve(t, f)
	args := []string{"token", "rotate", "--app=a", "--token=tok_old", "--until-unused=24h"}
	got := run(t, args...)
	if r := f.requests()[0].(*countersignv1.RotateTokenRequest); got.code != cmdline.ExitDone || r.GetOverlap() != nil ||
		r.GetUntilUnused().AsDuration() != day ||
		!strings.Contains(got.out, "tok_old stops working in 90d, or earlier, once it has not been used for 1d.\n") {
		t.Errorf("%+v, %v", got, r)
	}
	f.rotate.Previous.UntilUnused = nil
	if got := run(t, args...); got.code != cmdline.ExitFailed || !strings.Contains(got.errors, "ignored --until-unused") ||
		!strings.Contains(got.out, "cs_1") {
		t.Errorf("%+v", got)
	}
}

// Every token is listed once, whatever the links between them are.
func TestTokenTableShowsAll(t *testing.T) {
	tokens := []*countersignv1.Token{
		{TokenId: "1", SuccessorId: "2", PredecessorId: "2"},
		{TokenId: "2", SuccessorId: "1", PredecessorId: "1"}, // a ring
		{TokenId: "3", SuccessorId: "4"},
		{TokenId: "5", PredecessorId: "4"},
		{TokenId: "4", PredecessorId: "3", SuccessorId: "5"},
		{TokenId: "6", PredecessorId: "gone", SuccessorId: "gone"},
		{TokenId: "7", SuccessorId: "3"},
	}
	var ids []string
	for _, row := range tokenTable(tokens, false, styleOf(nil)) {
		ids = append(ids, row[0])
	}
	slices.Sort(ids)
	if fmt.Sprint(ids) != "[1 2 3 4 5 6 7]" {
		t.Errorf("%v", ids)
	}
}
