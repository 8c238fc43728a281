package ledger

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// covered is a Coverage as stored. Times are in milliseconds since the Unix epoch, 0 for none.
type covered struct {
	Validator string `json:"validator"`
	Start     int64  `json:"start"`
	Until     int64  `json:"until,omitempty"`
	Final     bool   `json:"final,omitempty"`
	Dropped   uint64 `json:"dropped,omitempty"`
}

// isFinal is a part of every stored coverage with Final, and of no other: in a name, JSON writes \" for ".
const isFinal = `,"final":true`

// Cover stores how far the counts of an instance are complete. It replaces what was stored for the instance,
// unless that is final and c is not.
func (l *Ledger) Cover(ctx context.Context, c Coverage) error {
	raw, err := json.Marshal(covered{c.ValidatorID, millisOf(c.Start), millisOf(c.Until), c.Final, c.Dropped})
	if err != nil {
		return err
	}
	return l.config.Storage.Cover(ctx, c.InstanceID, raw, isFinal)
}

// Coverage returns how far the counts of each instance are complete, in order of validators and starts. It
// leaves out instances that ended before the counts that are kept.
func (l *Ledger) Coverage(ctx context.Context) ([]Coverage, error) {
	all, _, err := l.coverage(ctx)
	return all, err
}

// coverage returns the coverage, and the instances whose entries are too old or damaged.
func (l *Ledger) coverage(ctx context.Context) (all []Coverage, old []string, err error) {
	found, err := l.config.Storage.Covered(ctx)
	if err != nil {
		return nil, nil, err
	}
	now := l.config.Now()
	for instance, raw := range found {
		var c covered
		if json.Unmarshal([]byte(raw), &c) != nil {
			old = append(old, instance)
			continue
		}
		one := Coverage{c.Validator, instance, timeOf(c.Start), timeOf(c.Until), c.Final, c.Dropped}
		latest := one.Start
		if one.Until.After(latest) {
			latest = one.Until
		}
		if now.Sub(latest) > coverageLife {
			old = append(old, instance)
			continue
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Coverage) int {
		return cmp.Or(strings.Compare(a.ValidatorID, b.ValidatorID), a.Start.Compare(b.Start),
			strings.Compare(a.InstanceID, b.InstanceID))
	})
	return all, old, nil
}

// tidy removes old coverage until ctx ends.
func (l *Ledger) tidy(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pauseOf(tidyInterval)):
		}
		if _, old, err := l.coverage(ctx); err == nil {
			_ = l.config.Storage.Uncover(ctx, old) // the next time removes what is left
		}
	}
}

func millisOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func timeOf(millis int64) time.Time {
	if millis == 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis).UTC()
}
