package readiness_test

import (
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/ledger"
	"github.com/countersign/countersign/services/authority/internal/readiness"
)

const (
	events   policy.Scope = 1
	sessions policy.Scope = 2
	revenue  policy.Scope = 3
	gdpr                  = policy.ScopeGDPR

	day = 24 * time.Hour

	ready      = pb.ReadinessVerdict_READINESS_VERDICT_READY
	notReady   = pb.ReadinessVerdict_READINESS_VERDICT_NOT_READY
	noTraffic  = pb.ReadinessVerdict_READINESS_VERDICT_NO_TRAFFIC
	incomplete = pb.ReadinessVerdict_READINESS_VERDICT_INCOMPLETE
)

// now is the time of most reports.
var now = time.UnixMilli(1_800_000_000_000).UTC()

func set(scopes ...policy.Scope) policy.ScopeSet { return policy.ScopesOf(scopes...) }

// token is an ACTIVE token that is named after its id.
func token(id string, scopes ...policy.Scope) record.Token {
	return record.Token{
		Token: policy.Token{ID: "tok_" + id, Digest: secret.DigestOf(id), Scopes: set(scopes...), State: policy.Active},
		Name:  id, CreateMillis: now.Add(-40 * day).UnixMilli(),
	}
}

func with(t record.Token, change func(*record.Token)) record.Token {
	change(&t)
	return t
}

func inState(t record.Token, state policy.State) record.Token {
	return with(t, func(t *record.Token) { t.State = state })
}

// ending is a token whose own expiry is at a time from now.
func ending(t record.Token, in time.Duration) record.Token {
	return with(t, func(t *record.Token) { t.SetEnd(now.Add(in).UnixMilli(), 0, now.UnixMilli()) })
}

// rotated is a token whose overlap ends at a time from now.
func rotated(t record.Token, in time.Duration, successor string) record.Token {
	return with(t, func(t *record.Token) {
		t.SuccessorID = "tok_" + successor
		t.SetEnd(0, now.Add(in).UnixMilli(), now.UnixMilli())
	})
}

func document(enforced policy.ScopeSet, tokens ...record.Token) *record.Document {
	return &record.Document{AppID: "shop", Enforcement: policy.Enforcement{Scopes: enforced}, Tokens: tokens}
}

// sum is a number of requests with a token; without one the id is empty.
func sum(id string, scope policy.Scope, reason policy.Reason, n uint64) ledger.Sum {
	if id != "" {
		id = "tok_" + id
	}
	return ledger.Sum{Kind: ledger.Kind{TokenID: id, Scope: scope, Reason: reason}, N: n}
}

// enforced says that the scope was enforced when the requests came.
func enforced(s ledger.Sum) ledger.Sum {
	s.Enforced = true
	return s
}

// used is a use of a token some time ago.
func used(id string, scope policy.Scope, ago time.Duration) ledger.LastUse {
	return ledger.LastUse{TokenID: "tok_" + id, Scope: scope, Minute: now.Add(-ago).Truncate(time.Minute)}
}

// input is a report on a day with the default ratio.
func input(d *record.Document, sums ...ledger.Sum) readiness.Input {
	return readiness.Input{
		Document: d, Sums: sums, From: now.Add(-day), MaxRejectedRatio: readiness.DefaultMaxRejectedRatio, Now: now,
	}
}

// wantSentences checks that there is one sentence for each group of words, with all of them, in order.
func wantSentences(t *testing.T, what string, got []string, want ...[]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: got %q, want %d", what, got, len(want))
		return
	}
	for i, words := range want {
		for _, word := range words {
			if !strings.Contains(got[i], word) {
				t.Errorf("%s: %q lacks %q", what, got[i], word)
			}
		}
	}
}
