package readiness_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/ledger"
	"github.com/countersign/countersign/services/authority/internal/readiness"
)

const (
	expires  = pb.NoticeKind_NOTICE_KIND_TOKEN_EXPIRES
	unscoped = pb.NoticeKind_NOTICE_KIND_UNSCOPED_TOKEN
	rotation = pb.NoticeKind_NOTICE_KIND_ROTATION_ENDS
	trial    = pb.NoticeKind_NOTICE_KIND_TRIAL_ENDS
	rejects  = pb.NoticeKind_NOTICE_KIND_OWN_TOKENS_REJECTED
)

// onTrial is a document in a trial that ends some time from now.
func onTrial(in time.Duration, scopes, after policy.ScopeSet) *record.Document {
	d := document(scopes)
	d.Enforcement.TrialEndMillis, d.Enforcement.After = now.Add(in).UnixMilli(), after
	return d
}

// TestB29_Notices has the edges of each kind of notice.
func TestB29_Notices(t *testing.T) {
	lately := used("a", events, time.Hour)
	wrong := enforced(sum("a", revenue, policy.ScopeNotGranted, 4))
	for _, tt := range []struct {
		name     string
		document *record.Document
		uses     []ledger.LastUse
		sums     []ledger.Sum
		want     pb.NoticeKind // 0 for none
		words    string
	}{
		{"expires in 6 days", document(0, ending(token("a", events), 6*day)), []ledger.LastUse{lately}, nil, expires, "rotate it"},
		{"expires in 8 days", document(0, ending(token("a", events), 8*day)), []ledger.LastUse{lately}, nil, 0, ""},
		{"expires, not used", document(0, ending(token("a", events), day)), nil, nil, 0, ""},
		{
			"expires, used 8 days ago", document(0, ending(token("a", events), day)),
			[]ledger.LastUse{used("a", events, 8*day)},
			nil, 0, "",
		},
		{"expired", document(0, ending(token("a", events), -day)), []ledger.LastUse{lately}, nil, 0, ""},
		{
			"disabled and expires", document(0, inState(ending(token("a", events), day), policy.Disabled)),
			[]ledger.LastUse{lately},
			nil, 0, "",
		},
		{
			"rotation ends in 23 h", document(0, rotated(token("a", events), 23*time.Hour, "b")),
			[]ledger.LastUse{lately},
			nil, rotation, "successor tok_b",
		},
		{
			"rotation ends in 25 h", document(0, rotated(token("a", events), 25*time.Hour, "b")),
			[]ledger.LastUse{lately},
			nil, 0, "",
		},
		{
			"rotation ends, used 2 days ago", document(0, rotated(token("a", events), time.Hour, "b")),
			[]ledger.LastUse{used("a", events, 2*day)},
			nil, 0, "",
		},
		{
			"unscoped, enforced, used", document(set(events), token("a")),
			[]ledger.LastUse{lately},
			nil, unscoped,
			"EVENTS is enforced",
		},
		{"unscoped, not enforced", document(0, token("a")), []ledger.LastUse{lately}, nil, 0, ""},
		{"unscoped, not used", document(set(events), token("a")), []ledger.LastUse{used("a", events, 2*day)}, nil, 0, ""},
		{"trial ends in 59 min", onTrial(59*time.Minute, set(events), 0), nil, nil, trial, "nothing is enforced"},
		{"trial ends in 61 min", onTrial(61*time.Minute, set(events), 0), nil, nil, 0, ""},
		{"trial ended", onTrial(-time.Minute, set(events), 0), nil, nil, 0, ""},
		{"trial that changes nothing", onTrial(time.Minute, set(events), set(events)), nil, nil, 0, ""},
		{
			"own token rejected", document(set(revenue), token("a", events)), nil,
			[]ledger.Sum{wrong},
			rejects,
			"4 requests with token `a`",
		},
		{"fixed meanwhile", document(set(revenue), token("a", events, revenue)), nil, []ledger.Sum{wrong}, 0, ""},
		{"not enforced any more", document(0, token("a", events)), nil, []ledger.Sum{wrong}, 0, ""},
		{
			"not enforced then", document(set(revenue), token("a", events)), nil,
			[]ledger.Sum{sum("a", revenue, policy.ScopeNotGranted, 4)},
			0, "",
		},
		{
			"own token revoked", document(set(events), inState(token("a", events), policy.Revoked)), nil,
			[]ledger.Sum{enforced(sum("a", events, policy.TokenRevoked, 4))},
			0, "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := readiness.Notices(tt.document, tt.sums, tt.uses, now)
			again := readiness.Notices(tt.document, append(tt.sums, tt.sums...), tt.uses, now.Add(time.Second))
			p, err := tt.document.Policy()
			if err != nil {
				t.Fatal(err)
			}
			if len(got) > 0 && !readiness.MayNotice(p, tt.sums, tt.uses, now) {
				t.Error("MayNotice rules the notice out")
			}
			if tt.want == 0 {
				if len(got) != 0 {
					t.Errorf("got %v", got)
				}
				return
			}
			if len(got) != 1 || got[0].GetKind() != tt.want || got[0].GetAppId() != "shop" {
				t.Fatalf("got %v, want %v", got, tt.want)
			}
			wantSentences(t, "text", []string{got[0].GetText()}, []string{tt.words})
			if len(again) != 1 || again[0].GetNoticeId() != got[0].GetNoticeId() {
				t.Errorf("a second later the id is another: %v", again)
			}
			if due := got[0].GetDueTime() != nil; due != (tt.want != unscoped && tt.want != rejects) {
				t.Errorf("due: %v", got[0].GetDueTime())
			}
		})
	}
}

// TestB29_AnotherEndIsAnotherNotice: a notice is new when what it warns of has changed.
func TestB29_AnotherEndIsAnotherNotice(t *testing.T) {
	uses := []ledger.LastUse{used("a", events, time.Hour)}
	id := func(in time.Duration) string {
		return readiness.Notices(document(0, ending(token("a", events), in)), nil, uses, now)[0].GetNoticeId()
	}
	if id(day) == id(2*day) {
		t.Error("the expiry was moved, and the notice has the same id")
	}
}
