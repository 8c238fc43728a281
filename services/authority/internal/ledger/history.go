// Package ledger keeps the counts of all validators: how many requests each app got, by token, scope, verdict
// and time (B21), and when each token was last used (B22). It adds each batch exactly once. This package is
// not part of the public API and may change in any release.
package ledger

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/usage"
)

const (
	// Hours is for how many hours before the running one the counts are kept by hour.
	Hours = 48
	// Days is for how many days before the present one, in UTC, the counts are kept by day.
	Days = 35
)

// Kind is everything by which requests of one app are counted.
type Kind struct {
	// TokenID is a token of the app. It is empty when the request carried none that the app has.
	TokenID  string
	Scope    policy.Scope
	Reason   policy.Reason
	Enforced bool
}

// Sum is a number of requests of one kind.
type Sum struct {
	Kind
	N uint64
}

// LastUse is when a token was last used for a scope, whatever the verdict was.
type LastUse struct {
	TokenID string
	Scope   policy.Scope
	// Minute is when the minute of the last use began.
	Minute time.Time
}

// Coverage says how far the counts of one start of a validator are complete.
type Coverage struct {
	ValidatorID, InstanceID string
	// Start is when the instance was started, by its own clock.
	Start time.Time
	// Until is the time before which every decision of the instance is counted, by its own clock. It is zero
	// when nothing was counted yet.
	Until time.Time
	// Final says that the instance stopped deciding at Until.
	Final bool
	// Dropped is how many decisions were lost because no authority took their counts in time, and
	// DroppedUntil when the last of them was made, by the instance's clock: zero when it does not say.
	Dropped      uint64
	DroppedUntil time.Time
	// Heard is when an authority was told this.
	Heard time.Time
}

// Counted says from when on stored counts are whole.
type Counted struct {
	// Since is the time from which on nothing was lost.
	Since time.Time
	// Damaged says that some counts could not be read.
	Damaged bool
}

// History has the counts of one app. The zero value has none. It is immutable, and safe for concurrent use.
type History struct {
	account
	now     time.Time
	counted Counted
}

// Counted says from when on the counts are whole.
func (h History) Counted() Counted { return h.counted }

// Sums returns the sums of the requests since a time, in order of their kinds, and from when on it has
// counted. Counts are kept by hour for Hours, and by day in UTC beyond that. So from is the start of the hour
// or the day that contains since. The running hour is included. Kinds without requests are left out.
func (h History) Sums(since time.Time) (sums []Sum, from time.Time) {
	if h.now.Sub(since) <= Hours*time.Hour {
		from = since.UTC().Truncate(time.Hour)
		first := hourOf(from)
		return h.hours.plus(h.running).sums(first), from
	}
	from = since.UTC().Truncate(hoursOfDay * time.Hour)
	return h.days.plus(h.running.byDay()).sums(dayOf(from)), from
}

// sums adds up the periods from one on.
func (b block) sums(first int64) (sums []Sum) {
	for _, s := range b {
		sum := Sum{Kind: s.Kind}
		for _, p := range s.points {
			if p.period >= first {
				sum.N = usage.AddUp(sum.N, p.n)
			}
		}
		if sum.N > 0 {
			sums = append(sums, sum)
		}
	}
	return sums
}

// LastUses returns when each token was last used, by scope, in order of token and scope. A use is remembered
// as long as the app has the token, unless nobody uses the app for 36 days.
func (h History) LastUses() (uses []LastUse) {
	type use struct {
		token string
		scope policy.Scope
	}
	latest := map[use]int64{}
	for _, b := range []block{h.days, h.running} {
		for _, s := range b {
			if s.TokenID == "" {
				continue
			}
			u := use{s.TokenID, s.Scope}
			if last, has := latest[u]; !has || s.last > last {
				latest[u] = s.last
			}
		}
	}
	for u, minute := range latest {
		uses = append(uses, LastUse{u.token, u.scope, time.Unix(minute*60, 0).UTC()})
	}
	slices.SortFunc(uses, func(a, b LastUse) int {
		return cmp.Or(strings.Compare(a.TokenID, b.TokenID), cmp.Compare(a.Scope, b.Scope))
	})
	return uses
}
