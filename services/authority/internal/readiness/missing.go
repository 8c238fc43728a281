package readiness

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/countersign/countersign/services/authority/internal/ledger"
)

const (
	// maxLag is the age of the counts of a live validator from which on its newest requests count as missing.
	// Validators hand their counts up every 15 s.
	maxLag = 30 * time.Second
	// maxSkew is how wrong a validator's clock may be before the times of its counts prove nothing.
	maxSkew = time.Minute
)

// Fleet is the validators, and how far their counts are complete.
type Fleet struct {
	// Coverage is in order of validators and starts. Since is when its records begin: what ended before is
	// unknown.
	Coverage   []ledger.Coverage
	Since      time.Time
	Validators []Validator
}

// covered returns the coverage by instance.
func (f *Fleet) covered() map[string]ledger.Coverage {
	byInstance := make(map[string]ledger.Coverage, len(f.Coverage))
	for _, c := range f.Coverage {
		byInstance[c.InstanceID] = c
	}
	return byInstance
}

// Validator is one validator of the fleet, or one that was a member.
type Validator struct {
	ID, InstanceID string
	// Start is when the instance was started, by its own clock.
	Start time.Time
	// Ahead is how far its clock is ahead of the authority's; negative when it is behind. ClockKnown says
	// whether this is known.
	Ahead      time.Duration
	ClockKnown bool
	// Heard is when its latest report arrived. Live says that it reports.
	Heard time.Time
	Live  bool
	// Contested says that another process decides under the same id. Nobody counts what it decides.
	Contested bool
	// Gone says that it is no member any more: at Heard it left, or an operator said that it is gone.
	Gone bool
	// FencedAfter is the age of its data from which on it answers nothing; 0 when it has no such bound.
	FencedAfter time.Duration
}

// fenced returns whether a validator that does not report had stopped answering before a time.
func (v *Validator) fenced(before time.Time) bool {
	return v.FencedAfter > 0 && v.Heard.Add(v.FencedAfter+maxLag).Before(before)
}

// Missing returns a sentence for each validator of whose requests since a time some are not counted, by name.
// It is empty when the counts are complete, apart from the requests of the last seconds. MissingOf says what
// is missing of one app besides.
func Missing(fleet Fleet, from, now time.Time) (sentences []string) {
	type named struct{ name, sentence string }
	var all []named
	add := func(name, format string, args ...any) {
		all = append(all, named{name, fmt.Sprintf("validator %s "+format, append([]any{name}, args...)...)})
	}
	covered := fleet.covered()
	members := make(map[string]bool, len(fleet.Validators))
	for _, v := range fleet.Validators {
		if v.Gone {
			continue
		}
		members[v.InstanceID] = true
		if v.Contested {
			add(v.ID, "is the id of another process too, whose requests are missing: give each its own --validator-id")
		}
		c := covered[v.InstanceID]
		own := now.Add(v.Ahead)
		switch {
		case c.Final:
		case !v.Live && v.fenced(from):
		case !v.Live:
			add(v.ID, "has not reported since %s and may still decide: its requests since %s are missing; see that it reports, "+
				"or forget it when it is gone", clock(v.Heard), clock(lastCounted(c, v.Start)))
		case c.Until.IsZero() && own.Sub(v.Start) > maxLag:
			add(v.ID, "has handed no counts up since it was started at %s: see its log, or update it if its release is older",
				clock(v.Start))
		case !c.Until.IsZero() && own.Sub(c.Until) > maxLag:
			add(v.ID, "has handed counts up only to %s: wait until it reaches an authority, or see its log", clock(c.Until))
		}
	}
	for i := range fleet.Coverage {
		c, end := fleet.Coverage[i], now
		if !members[c.InstanceID] {
			end = endOf(fleet, i)
		}
		if end.Before(from) {
			continue // it ended before the window
		}
		if c.Dropped > 0 && (c.DroppedUntil.IsZero() || !c.DroppedUntil.Before(from)) {
			add(c.ValidatorID, "dropped the counts of %s, because no authority took them in time", requests(c.Dropped))
		}
		if !members[c.InstanceID] && !c.Final {
			last := lastCounted(c, c.Start)
			add(c.ValidatorID, "ended without its last counts, as when it is killed: its requests from %s to %s at the latest are "+
				"missing", clock(last), clock(end))
		}
	}
	slices.SortStableFunc(all, func(a, b named) int { return cmp.Compare(a.name, b.name) })
	for _, one := range all {
		sentences = append(sentences, one.sentence)
	}
	sentences = limited(sentences, "validators")
	if fleet.Since.After(from) {
		sentences = append([]string{begin(fleet.Since)}, sentences...)
	}
	return sentences
}

// lastCounted returns the time before which the requests of an instance are counted.
func lastCounted(c ledger.Coverage, start time.Time) time.Time {
	if c.Until.IsZero() {
		return start
	}
	return c.Until
}

// endOf returns when an instance that is no member any more made its last decision at the latest: when it was
// heard last, or when the same validator was started again. An operator who forgets a validator says that it
// is gone.
func endOf(fleet Fleet, i int) time.Time {
	c := fleet.Coverage[i]
	end := later(c.Heard, later(c.Start, c.Until))
	for _, next := range fleet.Coverage[i+1:] {
		if next.ValidatorID == c.ValidatorID && next.Start.After(c.Start) {
			return later(end, next.Start)
		}
	}
	for _, v := range fleet.Validators {
		switch {
		case v.Gone && v.InstanceID == c.InstanceID:
			return later(end, v.Heard)
		case v.ID == c.ValidatorID && v.Start.After(c.Start):
			return later(end, v.Start)
		}
	}
	return end
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// MissingOf says what is missing of one app's counts since a time besides what Missing says of the fleet.
func MissingOf(counted ledger.Counted, fleet Fleet, from time.Time) (sentences []string) {
	if counted.Since.After(from) && counted.Since.After(fleet.Since) {
		sentences = append(sentences, begin(counted.Since))
	}
	if counted.Damaged {
		sentences = append(sentences, "stored counts of the app are damaged: requests that were counted in them are missing")
	}
	return sentences
}

// begin is the sentence about counts that do not reach back far enough.
func begin(since time.Time) string {
	return fmt.Sprintf("the counts begin at %s, because they were not kept before or because Redis lost some: earlier "+
		"requests are missing", clock(since))
}

// CompleteUntil returns a time before which the counts of all validators are complete. It is right whether it
// is read by the authority's clock or by the clock that the times of the counts come from. It returns false
// when this cannot be known, because a clock is wrong or unknown. It is now without validators.
func CompleteUntil(fleet Fleet, now time.Time) (until time.Time, known bool) {
	covered := fleet.covered()
	until = now
	for _, v := range fleet.Validators {
		c := covered[v.InstanceID]
		if v.Gone || c.Final || !v.Live && v.fenced(now) {
			continue
		}
		if !v.ClockKnown || v.Ahead > maxSkew || v.Ahead < -maxSkew {
			return time.Time{}, false
		}
		own := lastCounted(c, v.Start)
		for _, at := range []time.Time{own, own.Add(-v.Ahead)} {
			if at.Before(until) {
				until = at
			}
		}
	}
	return until, true
}
