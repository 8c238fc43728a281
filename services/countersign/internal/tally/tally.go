// Package tally turns a series of readiness reports into the decisions that came between one report and the
// next. This package is not part of the public API and may change in any release.
package tally

import (
	"cmp"
	"slices"
	"time"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/words"
)

// Accepted is the reason of decisions that enforcement accepts, or would accept. A report has no more than
// their number.
const Accepted = "accepted"

// longest bounds the window. Reports of more than 48 h have whole days.
const longest = 47 * time.Hour

// News is a number of decisions with the same reason.
type News struct {
	// Reason is the name of the reason, or Accepted.
	Reason string
	// Token is the id of the recognised token, and Name its name or else its id; empty when none was
	// recognised.
	Token, Name string
	// Decisions is the number of decisions, Rejected the number of those that were rejected. The others were
	// accepted because their scope is not enforced.
	Decisions, Rejected uint64
}

// Tally has the counts of the last report. The zero value has none. It is not safe for concurrent use.
type Tally struct {
	since  time.Time // in the first hour of the window
	start  time.Time // start of the last report
	counts map[kind]uint64
	total  uint64
}

type kind struct {
	scope         countersignv1.Scope
	reason, token string
}

// Window returns the window of the next report to ask for. All reports begin at the same full hour, so that
// counts only grow. It is in the middle of the hour: then the clocks of client and authority may differ by
// almost half an hour.
func (t *Tally) Window(now time.Time) time.Duration {
	if now.Sub(t.since) > longest || now.Before(t.since) {
		t.since = now.Truncate(time.Hour).Add(-time.Hour / 2)
	}
	return now.Sub(t.since)
}

// Next takes the next report, and returns the decisions that came since the last one, rejections first. After
// the first report, and after one with another start, it returns none.
func (t *Tally) Next(r *countersignv1.Readiness) []News {
	names := map[string]string{}
	for _, token := range r.GetTokens() {
		names[token.GetTokenId()] = token.GetName()
	}
	counts, enforced := map[kind]uint64{}, map[countersignv1.Scope]bool{}
	t.total = 0
	for _, s := range r.GetScopes() {
		enforced[s.GetScope()] = s.GetEnforced()
		t.total += s.GetRequests()
		counts[kind{s.GetScope(), Accepted, ""}] = s.GetRequests() - min(s.GetRejected(), s.GetRequests())
		for _, c := range s.GetRejections() {
			counts[kind{s.GetScope(), words.Enum(c.GetReason()), c.GetTokenId()}] += c.GetCount()
		}
	}
	same := t.start.Equal(r.GetStartTime().AsTime()) && t.counts != nil
	before := t.counts
	t.start, t.counts = r.GetStartTime().AsTime(), counts
	if !same {
		return nil
	}
	sums := map[kind]*News{}
	for k, count := range counts {
		// A count falls when a change of a token makes its earlier requests count as accepted.
		if count <= before[k] {
			continue
		}
		of := kind{reason: k.reason, token: k.token}
		if sums[of] == nil {
			sums[of] = &News{Reason: k.reason, Token: k.token, Name: cmp.Or(names[k.token], k.token)}
		}
		sums[of].Decisions += count - before[k]
		if enforced[k.scope] && k.reason != Accepted {
			sums[of].Rejected += count - before[k]
		}
	}
	var news []News
	for _, n := range sums {
		news = append(news, *n)
	}
	slices.SortFunc(news, func(a, b News) int {
		return cmp.Or(cmp.Compare(b.Rejected, a.Rejected), cmp.Compare(b.Decisions, a.Decisions), cmp.Compare(a.Reason, b.Reason),
			cmp.Compare(a.Token, b.Token))
	})
	return news
}

// Total returns the number of decisions in the last report.
func (t *Tally) Total() uint64 { return t.total }
