package readiness

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/countersign/countersign/services/authority/internal/ledger"
)

// maxLag is the age of the counts of a live validator from which on its newest requests count as missing.
// Validators hand their counts up every 15 s.
const maxLag = 30 * time.Second

// Fleet is the validators, and how far their counts are complete.
type Fleet struct {
	Coverage   []ledger.Coverage
	Validators []Validator
}

// Validator is one validator of the fleet.
type Validator struct {
	ID, InstanceID string
	// Start is when the instance was started, by its own clock.
	Start time.Time
	// Ahead is how far its clock is ahead of the authority's; negative when it is behind.
	Ahead time.Duration
	// Heard is when its latest report arrived. Live says that it reports.
	Heard time.Time
	Live  bool
}

// Missing returns a sentence for each validator of whose requests since a time some are not counted, by name.
// It is empty when the counts are complete, apart from the requests of the last seconds.
func Missing(fleet Fleet, from, now time.Time) (sentences []string) {
	covered := make(map[string]ledger.Coverage, len(fleet.Coverage))
	for _, c := range fleet.Coverage {
		covered[c.InstanceID] = c
	}
	type named struct{ name, sentence string }
	var all []named
	add := func(name, format string, args ...any) {
		all = append(all, named{name, fmt.Sprintf("validator %s "+format, append([]any{name}, args...)...)})
	}
	live := map[string]bool{}
	for _, v := range fleet.Validators {
		c, known := covered[v.InstanceID]
		if !v.Live {
			if !known && v.Heard.After(from) {
				add(v.ID, "has not reported since %s and has handed no counts up: its requests are missing", clock(v.Heard))
			}
			continue
		}
		live[v.InstanceID] = true
		own := now.Add(v.Ahead)
		switch {
		case c.Final:
		case c.Until.IsZero() && own.Sub(v.Start) > maxLag:
			add(v.ID, "has handed no counts up since it was started at %s: see its log, or update it if its release is older",
				clock(v.Start))
		case !c.Until.IsZero() && own.Sub(c.Until) > maxLag:
			add(v.ID, "has handed counts up only to %s: wait until it reaches an authority, or see its log", clock(c.Until))
		}
	}
	for _, c := range fleet.Coverage {
		last := c.Until
		if last.IsZero() {
			last = c.Start
		}
		if !live[c.InstanceID] && last.Before(from) {
			continue // it ended before the window
		}
		if c.Dropped > 0 {
			add(c.ValidatorID, "dropped the counts of %s requests, because no authority took them in time", count(c.Dropped))
		}
		if !live[c.InstanceID] && !c.Final {
			add(c.ValidatorID, "ended at %s without its last counts, as when it is killed: at most 15 s of its requests are missing",
				clock(last))
		}
	}
	slices.SortStableFunc(all, func(a, b named) int { return cmp.Compare(a.name, b.name) })
	for _, one := range all {
		sentences = append(sentences, one.sentence)
	}
	return limited(sentences, "validators")
}

// CompleteUntil returns the time before which the counts of all live validators are complete, by the
// authority's clock. It is now without validators.
func CompleteUntil(fleet Fleet, now time.Time) time.Time {
	until := now
	for _, v := range fleet.Validators {
		if !v.Live {
			continue
		}
		for _, c := range fleet.Coverage {
			if c.InstanceID != v.InstanceID || c.Final {
				continue
			}
			if at := c.Until.Add(-v.Ahead); at.Before(until) {
				until = at
			}
		}
	}
	return until
}
