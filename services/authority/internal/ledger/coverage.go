package ledger

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/countersign/countersign/services/store"
)

// covered is a Coverage as stored. Times are in milliseconds since the Unix epoch, 0 for none.
type covered struct {
	Validator    string `json:"validator"`
	Start        int64  `json:"start"`
	Until        int64  `json:"until,omitempty"`
	Final        bool   `json:"final,omitempty"`
	Dropped      uint64 `json:"dropped,omitempty"`
	DroppedUntil int64  `json:"dropped_until,omitempty"`
	Heard        int64  `json:"heard"`
}

// rank is the first byte of a stored coverage: one that says less never replaces one that says more, in
// whatever order they arrive.
func (c *covered) rank() byte {
	switch {
	case c.Final:
		return '2'
	case c.Until != 0:
		return '1'
	}
	return '0'
}

// Cover stores how far the counts of an instance are complete. It replaces what was stored for the instance,
// unless that says more: c is not final, or has no Until, and what was stored is or has. It sets Heard.
func (l *Ledger) Cover(ctx context.Context, c Coverage) error {
	stored := covered{
		c.ValidatorID, millisOf(c.Start), millisOf(c.Until), c.Final, c.Dropped, millisOf(c.DroppedUntil),
		millisOf(l.config.Now()),
	}
	raw, err := json.Marshal(stored)
	if err != nil {
		return err
	}
	return l.config.Storage.Cover(ctx, c.InstanceID, append([]byte{stored.rank()}, raw...))
}

// Coverage returns how far the counts of each instance are complete, in order of validators and starts, and
// since when nothing of this was lost. It leaves out instances that ended before the counts that are kept.
func (l *Ledger) Coverage(ctx context.Context) (all []Coverage, since time.Time, err error) {
	all, _, since, err = l.coverage(ctx)
	return all, since, err
}

// coverage returns the coverage, and the instances whose entries are of no use any more.
func (l *Ledger) coverage(ctx context.Context) (all []Coverage, old []string, since time.Time, err error) {
	found, since, err := l.config.Storage.Covered(ctx)
	if err != nil {
		return nil, nil, since, err
	}
	now := l.config.Now()
	for instance, raw := range found {
		var c covered
		if raw == "" || json.Unmarshal([]byte(raw[1:]), &c) != nil {
			// What it said is unknown, so nothing before now is known to be complete. Without its begin, the
			// coverage begins anew.
			old, since = append(old, instance, store.CoverageSince), now
			continue
		}
		one := Coverage{
			c.Validator, instance, timeOf(c.Start), timeOf(c.Until), c.Final, c.Dropped, timeOf(c.DroppedUntil), timeOf(c.Heard),
		}
		if now.Sub(one.latest()) > coverageLife {
			old = append(old, instance)
			continue
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Coverage) int {
		return cmp.Or(strings.Compare(a.ValidatorID, b.ValidatorID), a.Start.Compare(b.Start),
			strings.Compare(a.InstanceID, b.InstanceID))
	})
	if since.IsZero() {
		since = now
	}
	return all, append(old, ended(all, now)...), since, nil
}

// latest is the latest time at which the instance is known to have run.
func (c *Coverage) latest() time.Time {
	latest := c.Start
	for _, at := range []time.Time{c.Until, c.Heard} {
		if at.After(latest) {
			latest = at
		}
	}
	return latest
}

// ended returns the instances that reports need no more. All is in order.
//
// Of the starts of one validator, the latest whose counts lack something stands for the earlier ones: a
// window that one of them spoils, it spoils too. The start after it stays as well, since it says when that
// one ended at the latest.
func ended(all []Coverage, now time.Time) (ids []string) {
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].ValidatorID == all[0].ValidatorID {
			n++
		}
		starts := all[:n]
		all = all[n:]
		lacking := -2 // none
		for i := range starts {
			if starts[i].Dropped > 0 || !starts[i].Final && i+1 < n {
				lacking = i
			}
		}
		for i := range starts {
			c := &starts[i]
			whole := c.Final && c.Dropped == 0
			if now.Sub(c.latest()) > endedLife && i != lacking && i != lacking+1 && (i < lacking || whole) {
				ids = append(ids, c.InstanceID)
			}
		}
	}
	return ids
}

// tidy removes coverage that is of no use, and keeps the numbers of the last batches, until ctx ends.
func (l *Ledger) tidy(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pauseOf(tidyInterval)):
		}
		all, old, _, err := l.coverage(ctx)
		if err != nil {
			continue
		}
		_ = l.config.Storage.Uncover(ctx, old) // the next time removes what is left
		var running []string
		for i := range all {
			if l.config.Now().Sub(all[i].latest()) < runningLife {
				running = append(running, all[i].InstanceID)
			}
		}
		// A partition without traffic has no batches for days. The next one must not look as if those before
		// it were lost.
		for partition := range l.queues {
			_ = l.config.Storage.Keep(ctx, partition, running)
		}
	}
}

// begin says since when counts are kept, and says it again if that is lost, until ctx ends.
func (l *Ledger) begin(ctx context.Context) {
	for {
		since := l.config.Now()
		if since.Sub(l.config.StoreCreated) < newStore {
			since = time.UnixMilli(1) // nothing was decided before
		}
		pause := beginInterval
		if err := l.config.Storage.Begin(ctx, len(l.queues), since); err != nil {
			pause = beginAgain
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pauseOf(pause)):
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
