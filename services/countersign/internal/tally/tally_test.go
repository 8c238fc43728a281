package tally

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	events   = countersignv1.Scope_SCOPE_EVENTS
	sessions = countersignv1.Scope_SCOPE_SESSIONS
	missing  = countersignv1.Reason_REASON_TOKEN_MISSING
	expired  = countersignv1.Reason_REASON_TOKEN_EXPIRED
)

// scope returns a scope of a report with accepted requests, requests without a token, and requests with the
// token tok_1, which has expired.
func scope(of countersignv1.Scope, enforced bool, accepted, none, old uint64) *countersignv1.ScopeReadiness {
	return &countersignv1.ScopeReadiness{
		Scope: of, Enforced: enforced, Requests: accepted + none + old, Rejected: none + old,
		Rejections: []*countersignv1.UsageCount{
			{Scope: of, Reason: missing, Count: none}, {Scope: of, Reason: expired, TokenId: "tok_1", Count: old},
		},
	}
}

func report(hour int64, scopes ...*countersignv1.ScopeReadiness) *countersignv1.Readiness {
	return &countersignv1.Readiness{
		StartTime: timestamppb.New(time.Unix(hour*3600, 0)), Scopes: scopes,
		Tokens: []*countersignv1.TokenUsage{{TokenId: "tok_1", Name: "old one"}},
	}
}

func TestNext(t *testing.T) {
	var tally Tally
	want := func(r *countersignv1.Readiness, news ...News) {
		t.Helper()
		if got := tally.Next(r); !slices.Equal(got, news) {
			t.Errorf("got %+v, want %+v", got, news)
		}
	}
	want(report(1, scope(events, true, 100, 5, 0), scope(sessions, false, 0, 7, 0)))
	if tally.Total() != 112 {
		t.Errorf("%d in all", tally.Total())
	}
	want(report(1, scope(events, true, 100, 5, 0), scope(sessions, false, 0, 7, 0)))
	want(report(1, scope(events, true, 110, 7, 1), scope(sessions, false, 0, 17, 2)),
		News{Reason: "TOKEN_MISSING", Decisions: 12, Rejected: 2},
		News{Reason: "TOKEN_EXPIRED", Token: "tok_1", Name: "old one", Decisions: 3, Rejected: 1},
		News{Reason: Accepted, Decisions: 10})
	// A token got the missing scope: its earlier requests count as accepted. No number wraps around.
	want(report(1, scope(events, true, 111, 7, 0), scope(sessions, false, 2, 17, 0)), News{Reason: Accepted, Decisions: 3})
	// Another start: nothing can be compared.
	want(report(2, scope(events, true, 1, 0, 0)))
	want(report(2, scope(events, true, 2, 0, 0)), News{Reason: Accepted, Decisions: 1})
}

// All windows of two days begin in the same hour, also when the clock of the authority differs.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tally Tally
		begun := time.Unix(rapid.Int64Range(1e9, 2e9).Draw(t, "begun"), 0)
		skew := time.Duration(rapid.Int64Range(-29, 29).Draw(t, "skew")) * time.Minute
		start := func(after time.Duration) time.Time {
			now := begun.Add(after)
			window := tally.Window(now)
			if window < time.Minute || window > 48*time.Hour {
				t.Fatalf("window %v", window)
			}
			return now.Add(skew).Add(-window).Truncate(time.Hour)
		}
		first := start(0)
		for range 10 {
			if got := start(time.Duration(rapid.Int64Range(0, 40*3600).Draw(t, "after")) * time.Second); !got.Equal(first) {
				t.Fatalf("a report begins at %v, the first at %v", got, first)
			}
		}
	})
}
