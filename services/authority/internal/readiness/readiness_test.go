package readiness_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/ledger"
	"github.com/countersign/countersign/services/authority/internal/readiness"
)

// TestB21_Findings has one row for each rule about blockers, warnings and the verdict.
func TestB21_Findings(t *testing.T) {
	backend := token("backend", events)
	for _, tt := range []struct {
		name     string
		document *record.Document
		sums     []ledger.Sum
		scopes   policy.ScopeSet
		verdict  pb.ReadinessVerdict
		blockers [][]string
		warnings [][]string
		rejected uint64
	}{
		{
			name: "all valid", document: document(0, backend),
			sums: []ledger.Sum{sum("backend", events, policy.TokenValid, 10)}, verdict: ready,
		},
		{
			name: "no requests", document: document(0, backend), verdict: noTraffic,
			warnings: [][]string{{"1 active token was not used"}},
		},
		{
			name: "a scope that is not granted", document: document(0, backend),
			sums: []ledger.Sum{sum("backend", revenue, policy.ScopeNotGranted, 4211)}, verdict: notReady,
			blockers: [][]string{{
				"token `backend` (tok_backend) was used 4,211 times for AD_REVENUE, which it is not granted: add the scope or " +
					"stop the caller",
			}}, rejected: 4211,
		},
		{
			name: "two scopes that are not granted are one sentence", document: document(0, backend),
			sums: []ledger.Sum{
				sum("backend", revenue, policy.ScopeNotGranted, 1), sum("backend", sessions, policy.ScopeNotGranted, 1),
			},
			verdict:  notReady,
			blockers: [][]string{{"used 2 times for SESSIONS, AD_REVENUE, which it is not granted: add the scopes"}}, rejected: 2,
		},
		{
			name: "disabled", document: document(0, inState(backend, policy.Disabled)),
			sums: []ledger.Sum{sum("backend", events, policy.TokenDisabled, 1)}, verdict: notReady,
			blockers: [][]string{{"used once for EVENTS", "it is disabled: enable it"}}, rejected: 1,
		},
		{
			name: "expired", document: document(0, ending(backend, -time.Hour)),
			sums: []ledger.Sum{sum("backend", events, policy.TokenExpired, 3)}, verdict: notReady,
			blockers: [][]string{{"used 3 times for EVENTS", "it expired at "}}, rejected: 3,
		},
		{
			name: "revoked is a warning: it is wanted", document: document(0, inState(backend, policy.Revoked)),
			sums: []ledger.Sum{sum("backend", events, policy.TokenRevoked, 3)}, verdict: ready,
			warnings: [][]string{{
				"token `backend` (tok_backend) was used 3 times for EVENTS, but it is revoked: requests with it are rejected, " +
					"as intended",
			}}, rejected: 3,
		},
		{
			name: "the scope was granted meanwhile", document: document(0, token("backend", events, revenue)),
			sums: []ledger.Sum{sum("backend", revenue, policy.ScopeNotGranted, 4211)}, verdict: ready,
		},
		{
			name: "enabled meanwhile", document: document(0, backend),
			sums: []ledger.Sum{sum("backend", events, policy.TokenDisabled, 5)}, verdict: ready,
		},
		{
			name: "narrowed meanwhile", document: document(0, token("backend", sessions)),
			sums: []ledger.Sum{sum("backend", events, policy.TokenValid, 5)}, verdict: notReady,
			blockers: [][]string{{"EVENTS, which it is not granted"}}, rejected: 5,
		},
		{
			name: "disabled meanwhile", document: document(0, inState(backend, policy.Disabled)),
			sums: []ledger.Sum{sum("backend", events, policy.TokenValid, 5)}, verdict: notReady,
			blockers: [][]string{{"disabled"}}, rejected: 5,
		},
		{
			name: "revoked meanwhile", document: document(0, inState(backend, policy.Revoked)),
			sums: []ledger.Sum{sum("backend", events, policy.TokenValid, 5)}, verdict: ready,
			warnings: [][]string{{"revoked"}}, rejected: 5,
		},
		{
			name: "0.5 % of forgeries do not block", document: document(0, backend),
			sums: []ledger.Sum{
				sum("backend", events, policy.TokenValid, 9950), sum("", events, policy.TokenMissing, 20),
				sum("", events, policy.TokenMalformed, 20), sum("", events, policy.TokenUnknown, 10),
			},
			verdict:  ready,
			warnings: [][]string{{"EVENTS: 50 of 10,000 requests (0.5 %)", "20 without a token, 20 malformed, 10 unknown"}},
			rejected: 50,
		},
		{
			name: "exactly the ratio does not block", document: document(0, backend),
			sums:    []ledger.Sum{sum("backend", events, policy.TokenValid, 99), sum("", events, policy.TokenUnknown, 1)},
			verdict: ready, warnings: [][]string{{"(1 %)"}}, rejected: 1,
		},
		{
			name: "above the ratio", document: document(0, backend),
			sums:    []ledger.Sum{sum("backend", events, policy.TokenValid, 98), sum("", events, policy.TokenMissing, 2)},
			verdict: notReady, blockers: [][]string{{"EVENTS: 2 of 100 requests (2 %)", "more than the 1 %"}}, rejected: 2,
		},
		{
			name: "the ratio is of each scope", document: document(0, token("backend", events, sessions)),
			sums: []ledger.Sum{
				sum("backend", events, policy.TokenValid, 1_000_000), sum("", sessions, policy.TokenMissing, 100),
			},
			verdict: notReady, blockers: [][]string{{"SESSIONS: 100 of 100 requests (100 %)"}}, rejected: 100,
		},
		{
			name: "B18 a tag manager is a warning", document: document(0, backend),
			sums: []ledger.Sum{
				sum("backend", events, policy.TokenValid, 1), sum("", events, policy.SourceNotSupported, 1234),
			},
			verdict: ready, warnings: [][]string{{"EVENTS: 1,234 requests came from Google Tag Manager"}}, rejected: 1234,
		},
		{
			name: "B05 an unscoped token in use", document: document(0, token("wide")),
			sums:    []ledger.Sum{sum("wide", events, policy.TokenValidUnscoped, 7)},
			verdict: ready, warnings: [][]string{{"`wide`", "no scopes", "used 7 times for EVENTS"}},
		},
		{
			name: "B14 any token authenticates GDPR", document: document(0, backend),
			sums: []ledger.Sum{sum("backend", gdpr, policy.TokenValid, 7)}, verdict: ready,
		},
		{
			name: "a token in use that expires soon", document: document(0, ending(backend, 6*day)),
			sums: []ledger.Sum{sum("backend", events, policy.TokenValid, 7)}, verdict: ready,
			warnings: [][]string{{"`backend`", "used 7 times and expires at "}},
		},
		{
			name: "only the scopes that are switched on block", document: document(0, backend), scopes: set(events),
			sums: []ledger.Sum{
				sum("backend", events, policy.TokenValid, 7), sum("backend", revenue, policy.ScopeNotGranted, 7),
				sum("", sessions, policy.TokenMissing, 7),
			},
			verdict: ready, rejected: 14,
		},
		{
			name: "no requests for the scope that is switched on", document: document(0, backend), scopes: set(revenue),
			sums: []ledger.Sum{sum("backend", events, policy.TokenValid, 7)}, verdict: noTraffic,
			warnings: [][]string{{"no requests for AD_REVENUE were seen"}},
		},
		{
			name: "no requests for one of the scopes", document: document(0, backend), scopes: set(events, revenue),
			sums: []ledger.Sum{sum("backend", events, policy.TokenValid, 7)}, verdict: noTraffic,
			warnings: [][]string{{"no requests for AD_REVENUE were seen: what enforcement would reject there is unknown"}},
		},
		{
			name: "no requests for two of the scopes, and a blocker", document: document(0, backend),
			scopes: set(events, sessions, revenue),
			sums:   []ledger.Sum{sum("", events, policy.TokenMissing, 7)}, verdict: notReady, rejected: 7,
			blockers: [][]string{{"EVENTS: 7 of 7 requests"}},
			warnings: [][]string{{"no requests for SESSIONS, AD_REVENUE were seen"}, {"not used"}},
		},
		{
			name: "B18 nothing but a tag manager", document: document(0, backend),
			sums:    []ledger.Sum{sum("", events, policy.SourceNotSupported, 1234)},
			verdict: noTraffic, rejected: 1234,
			warnings: [][]string{
				{"EVENTS: 1,234 requests came from Google Tag Manager", "no other requests were seen"}, {"not used"},
			},
		},
		{
			name: "B18 nothing but a tag manager, with tokens, in one of the scopes", document: document(0, backend),
			scopes: set(events, sessions),
			sums: []ledger.Sum{
				sum("backend", events, policy.TokenValid, 7), sum("backend", sessions, policy.SourceNotSupported, 2),
				sum("", sessions, policy.SourceNotSupported, 3),
			},
			verdict: noTraffic, rejected: 5,
			warnings: [][]string{{"SESSIONS: 5 requests came from Google Tag Manager", "no other requests were seen"}},
		},
		{
			name: "B18 nothing but a tag manager in a scope that is not switched on", document: document(0, backend),
			scopes: set(events),
			sums: []ledger.Sum{
				sum("backend", events, policy.TokenValid, 7), sum("", sessions, policy.SourceNotSupported, 3),
			},
			verdict: ready, rejected: 3,
		},
		{
			name: "B18 a tag manager and one request without a token", document: document(0, backend),
			sums: []ledger.Sum{
				sum("", events, policy.SourceNotSupported, 99), sum("", events, policy.TokenMissing, 1),
			},
			verdict: ready, rejected: 100,
			warnings: [][]string{
				{"EVENTS: 1 of 100 requests (1 %)"}, {"EVENTS: 99 requests came from Google Tag Manager"}, {"not used"},
			},
		},
		{
			name: "a token that is not listed any more is unknown", document: document(0, backend),
			sums: []ledger.Sum{
				sum("backend", events, policy.TokenValid, 999), sum("gone", events, policy.TokenValid, 1),
			},
			verdict: ready, warnings: [][]string{{"1 unknown"}}, rejected: 1,
		},
		{
			name: "a token without an id that is rejected is unknown", document: document(0, backend),
			sums: []ledger.Sum{
				sum("backend", events, policy.TokenValid, 94), sum("", events, policy.ScopeNotGranted, 1),
				sum("", events, policy.TokenExpired, 2), sum("", events, policy.TokenDisabled, 3),
			},
			verdict: notReady, blockers: [][]string{{"EVENTS: 6 of 100 requests (6 %) carried no token of the app (6 unknown)"}},
			rejected: 6,
		},
		{
			name: "a few tokens without an id do not block", document: document(0, backend),
			sums: []ledger.Sum{
				sum("backend", events, policy.TokenValid, 99), sum("", events, policy.ScopeNotGranted, 1),
			},
			verdict: ready, warnings: [][]string{{"EVENTS: 1 of 100 requests (1 %)", "1 unknown"}}, rejected: 1,
		},
		{
			name: "tokens that are not listed any more are unknown, unless they were revoked", document: document(0, backend),
			sums: []ledger.Sum{
				sum("backend", events, policy.TokenValid, 90), sum("gone", events, policy.ScopeNotGranted, 4),
				sum("gone", events, policy.TokenExpired, 6), sum("gone", events, policy.TokenRevoked, 5),
			},
			verdict: notReady, blockers: [][]string{{"EVENTS: 10 of 105 requests", "(10 unknown)"}},
			warnings: [][]string{{"5 requests carried tokens that were revoked long ago"}}, rejected: 15,
		},
		{
			name: "a remembered revoked token", document: document(0, backend),
			sums: []ledger.Sum{sum("backend", events, policy.TokenValid, 1), sum("", events, policy.TokenRevoked, 5)}, verdict: ready,
			warnings: [][]string{{"5 requests carried tokens that were revoked long ago"}}, rejected: 5,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := input(tt.document, tt.sums...)
			in.Scopes = tt.scopes
			r := readiness.Report(in)
			if r.GetVerdict() != tt.verdict {
				t.Errorf("got %v, want %v", r.GetVerdict(), tt.verdict)
			}
			wantSentences(t, "blockers", r.GetBlockers(), tt.blockers...)
			wantSentences(t, "warnings", r.GetWarnings(), tt.warnings...)
			var rejected uint64
			for _, s := range r.GetScopes() {
				rejected += s.GetRejected()
			}
			if rejected != tt.rejected {
				t.Errorf("%d rejected, want %d", rejected, tt.rejected)
			}
		})
	}
}

// TestB21_Numbers: the report lists scopes, rejections by reason and token, and every token that is not
// revoked, also those never used.
func TestB21_Numbers(t *testing.T) {
	d := document(set(events), token("a", events), token("b", events), inState(token("c", events), policy.Revoked))
	in := input(d, sum("a", events, policy.TokenValid, 5), sum("a", revenue, policy.ScopeNotGranted, 3),
		enforced(sum("a", revenue, policy.ScopeNotGranted, 4)), sum("", revenue, policy.TokenMissing, 9))
	in.LastUses = []ledger.LastUse{used("a", revenue, time.Hour), used("a", events, 0), used("c", events, 0)}
	r := readiness.Report(in)
	var got []string
	for _, s := range r.GetScopes() {
		got = append(got, fmt.Sprint(s.GetScope(), s.GetRequests(), s.GetRejected(), s.GetEnforced()))
		for _, n := range s.GetRejections() {
			got = append(got, fmt.Sprint(n.GetReason(), n.GetTokenId(), n.GetCount(), n.GetScope(), n.GetEnforced()))
		}
	}
	for _, token := range r.GetTokens() {
		got = append(got, fmt.Sprint(token.GetTokenId(), token.GetName(), token.GetState(), token.GetRequests(),
			token.GetRejected(), len(token.GetLastUses())))
	}
	want := []string{
		"SCOPE_EVENTS5 0 true",
		"SCOPE_AD_REVENUE16 16 false",
		"REASON_TOKEN_MISSING9 SCOPE_AD_REVENUE false",
		"REASON_SCOPE_NOT_GRANTEDtok_a7 SCOPE_AD_REVENUE false",
		"tok_aaTOKEN_STATE_ACTIVE 12 7 2", "tok_bbTOKEN_STATE_ACTIVE 0 0 0",
	}
	clean := func(rows []string) string { return strings.ReplaceAll(strings.Join(rows, "\n"), " ", "") }
	if clean(got) != clean(want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if uses := r.GetTokens()[0].GetLastUses(); uses[0].GetScope() != pb.Scope_SCOPE_EVENTS ||
		!uses[0].GetUseTime().AsTime().Equal(now.Truncate(time.Minute)) {
		t.Errorf("last uses: %v", uses)
	}
	if !r.GetStartTime().AsTime().Equal(now.Add(-day)) || !r.GetEndTime().AsTime().Equal(now) || r.GetAppId() != "shop" {
		t.Errorf("got %v", r)
	}
}

// TestB21_SentencesAreBounded: an app with very many findings gets a report that can be read.
func TestB21_SentencesAreBounded(t *testing.T) {
	d := document(0)
	var sums []ledger.Sum
	for i := range 1000 {
		id := fmt.Sprintf("t%03d", i)
		d.Tokens = append(d.Tokens, token(id, events))
		sums = append(sums, sum(id, revenue, policy.ScopeNotGranted, uint64(i+1)))
	}
	r := readiness.Report(input(d, sums...))
	if n := len(r.GetBlockers()); n != 20 || !strings.Contains(r.GetBlockers()[0], "`t999`") ||
		!strings.Contains(r.GetBlockers()[19], "and 981 more") {
		t.Errorf("%d blockers: %q", n, r.GetBlockers())
	}
}

// TestB21_Property: whatever was counted, the numbers add up, and the verdict follows from the findings.
func TestB21_Property(t *testing.T) {
	ids := []string{"", "a", "b", "c", "gone"}
	rapid.Check(t, func(t *rapid.T) {
		d := document(policy.ScopeSet(rapid.Uint64Range(0, 15).Draw(t, "enforced")) << 1)
		for _, id := range ids[1:4] {
			one := token(id)
			one.Scopes = policy.ScopeSet(rapid.Uint64Range(0, 7).Draw(t, "scopes")) << 1
			one.State = rapid.SampledFrom([]policy.State{policy.Active, policy.Disabled, policy.Revoked}).Draw(t, "state")
			if rapid.Bool().Draw(t, "ends") {
				one = ending(one, time.Duration(rapid.IntRange(-100, 100).Draw(t, "hours"))*time.Hour)
			}
			d.Tokens = append(d.Tokens, one)
		}
		var sums []ledger.Sum
		var total uint64
		for range rapid.IntRange(0, 30).Draw(t, "sums") {
			s := sum(rapid.SampledFrom(ids).Draw(t, "token"), policy.Scope(rapid.IntRange(1, 4).Draw(t, "scope")),
				policy.Reason(rapid.IntRange(2, 11).Draw(t, "reason")), rapid.Uint64Range(0, 1000).Draw(t, "n"))
			total += s.N
			sums = append(sums, s)
		}
		in := input(d, sums...)
		if rapid.Bool().Draw(t, "some scopes") {
			in.Scopes = set(events, revenue)
		}
		if rapid.Bool().Draw(t, "a silent validator") {
			in.Missing = []string{"validator v has handed no counts up"}
		}
		r := readiness.Report(in)
		var requests, ofTokens uint64
		tested := map[policy.Scope]bool{}
		for _, s := range r.GetScopes() {
			var rejections uint64
			for _, n := range s.GetRejections() {
				rejections += n.GetCount()
			}
			if s.GetRejected() > s.GetRequests() || rejections != s.GetRejected() {
				t.Fatalf("%d of %d rejected, the rejections add up to %d", s.GetRejected(), s.GetRequests(), rejections)
			}
			requests += s.GetRequests()
			scope := policy.Scope(s.GetScope())
			if in.Scopes == 0 || in.Scopes.Has(scope) {
				wantFindings(t, d, r, s)
				tested[scope] = slices.ContainsFunc(sums, func(one ledger.Sum) bool {
					return one.Scope == scope && one.N > 0 && one.Reason != policy.SourceNotSupported
				})
			}
		}
		for scope := range in.Scopes.All() {
			if _, seen := tested[scope]; !seen {
				tested[scope] = false
			}
		}
		for _, token := range r.GetTokens() {
			if token.GetRejected() > token.GetRequests() {
				t.Fatalf("%v", token)
			}
			ofTokens += token.GetRequests()
		}
		if requests != total || ofTokens > total {
			t.Fatalf("%d requests in the scopes, %d with tokens, %d counted", requests, ofTokens, total)
		}
		want := ready
		switch {
		case len(r.GetBlockers()) > 0:
			want = notReady
		case len(r.GetMissing()) > 0:
			want = incomplete
		case len(tested) == 0 || slices.Contains(slices.Collect(maps.Values(tested)), false):
			want = noTraffic
		}
		if r.GetVerdict() != want {
			t.Fatalf("verdict %v, want %v: %v", r.GetVerdict(), want, r)
		}
	})
}

// wantFindings checks that every kind of rejected requests of a judged scope is in a blocker or a warning.
func wantFindings(t *rapid.T, d *record.Document, r *pb.Readiness, s *pb.ScopeReadiness) {
	for _, n := range s.GetRejections() {
		about, words := strings.TrimPrefix(s.GetScope().String(), "SCOPE_")+": ", "carried no token of the app"
		switch {
		case policy.Reason(n.GetReason()) == policy.SourceNotSupported:
			words = "came from Google Tag Manager"
		case slices.ContainsFunc(d.Tokens, func(t record.Token) bool { return t.ID == n.GetTokenId() }):
			about, words = "token ", n.GetTokenId()+") was used"
		case policy.Reason(n.GetReason()) == policy.TokenRevoked:
			about, words = "", "revoked long ago"
		}
		if !slices.ContainsFunc(slices.Concat(r.GetBlockers(), r.GetWarnings()), func(finding string) bool {
			return strings.HasPrefix(finding, about) && strings.Contains(finding, words)
		}) {
			t.Fatalf("no finding has %q and %q, for %v: blockers %q, warnings %q", about, words, n, r.GetBlockers(), r.GetWarnings())
		}
	}
}

// BenchmarkReport makes the report on an app with 1,000 tokens, each used for three scopes.
func BenchmarkReport(b *testing.B) {
	d := document(0)
	in := input(d)
	for i := range 1000 {
		id := fmt.Sprintf("t%03d", i)
		d.Tokens = append(d.Tokens, token(id, events, sessions))
		for _, scope := range []policy.Scope{events, sessions, revenue} {
			in.Sums = append(in.Sums, sum(id, scope, policy.TokenValid, 1000))
			in.LastUses = append(in.LastUses, used(id, scope, time.Hour))
		}
	}
	for b.Loop() {
		readiness.Report(in)
	}
}
