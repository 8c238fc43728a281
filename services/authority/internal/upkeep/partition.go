package upkeep

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/table"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/evidence"
	"github.com/countersign/countersign/services/authority/internal/ledger"
	"github.com/countersign/countersign/services/authority/internal/readiness"
	"github.com/countersign/countersign/services/authority/internal/rules"
	"github.com/countersign/countersign/services/store"
)

// rotations are the rotations of one app that end once the old token is unused, as of a revision.
type rotations struct {
	revision uint64
	open     []rotation
}

// rotation is one of them.
type rotation struct {
	tokenID string
	began   time.Time
	// unused is how long the old token must not have been used.
	unused time.Duration
	// failed says that the latest try to end it has failed, which was logged.
	failed bool
}

// partition looks at the apps of a partition, and returns how many it read. An app that cannot be read keeps
// its notices, and stops the work for no other app. Failed has the reason for each of them; err is a reason
// that concerns all apps.
func (k *Keeper) partition(ctx context.Context, number int, covered readiness.Fleet, now time.Time) (
	looked int, failed []error, err error,
) {
	p := k.Store.Replica().Table().Partition(number)
	if p == nil {
		return 0, nil, nil
	}
	entries := map[string]*table.Entry{}
	var ids []string
	for appID, entry := range p.All() {
		if entry.Policy != nil && !entry.Policy.Deleted() && !entry.Behind() && concerns(entry.Policy, now.UnixMilli()) {
			entries[appID] = entry
			ids = append(ids, appID)
		}
	}
	slices.Sort(ids)
	var found []*countersignv1.Notice
	for some := range slices.Chunk(ids, appsAtOnce) {
		histories, err := k.Evidence.Apps(ctx, number, some)
		if err != nil {
			return len(ids), failed, err
		}
		for _, appID := range some {
			history := histories[appID]
			if history == nil {
				history = noHistory{}
			}
			notices, err := k.app(ctx, appID, entries[appID], history, covered, now)
			if ctx.Err() != nil {
				return len(ids), failed, ctx.Err()
			}
			if err != nil {
				failed = append(failed, fmt.Errorf("app %s: %w", appID, err))
				notices = ofApp(k.found[number], appID)
			}
			found = append(found, notices...)
		}
	}
	k.found[number] = found
	for appID := range k.rotations {
		if k.Store.Replica().Codec().PartitionOf(appID) == number && entries[appID] == nil {
			delete(k.rotations, appID)
		}
	}
	return len(ids), failed, nil
}

// ofApp returns the notices of one app.
func ofApp(notices []*countersignv1.Notice, appID string) (own []*countersignv1.Notice) {
	for _, n := range notices {
		if n.GetAppId() == appID {
			own = append(own, n)
		}
	}
	return own
}

// concerns reports whether the upkeep may have something to do for a policy, whatever its usage is.
func concerns(p *policy.Policy, nowMillis int64) bool {
	return p.Enforcement().Ever(nowMillis) != 0 || slices.ContainsFunc(p.Tokens(), func(t policy.Token) bool {
		return t.State == policy.Active && t.ExpireMillis > nowMillis
	})
}

// noHistory is the history of an app without counts.
type noHistory struct{}

func (noHistory) Sums(since time.Time) ([]ledger.Sum, time.Time) { return nil, since }
func (noHistory) LastUses() []ledger.LastUse                     { return nil }
func (noHistory) Counted() ledger.Counted                        { return ledger.Counted{} }

// app does the upkeep of one app, and returns its notices. It reads the document only when it must.
func (k *Keeper) app(ctx context.Context, appID string, entry *table.Entry, history evidence.History,
	covered readiness.Fleet, now time.Time,
) ([]*countersignv1.Notice, error) {
	sums, _ := history.Sums(now.Add(-recent))
	uses := history.LastUses()
	var d *record.Document
	read := func() (err error) {
		if d == nil {
			d, _, err = k.Store.Read(ctx, appID)
		}
		return err
	}
	switch has, known := k.rotations[appID]; {
	case !rotates(entry.Policy, now.UnixMilli()):
		delete(k.rotations, appID)
	case !known || has.revision != entry.Revision:
		if err := read(); err != nil {
			return nil, err
		}
		k.rotations[appID] = rotations{entry.Revision, rotationsOf(d, now.UnixMilli())}
	}
	k.endUnused(ctx, appID, history, covered, now)
	if !readiness.MayNotice(entry.Policy, sums, uses, now) {
		return nil, nil
	}
	if err := read(); err != nil {
		return nil, err
	}
	return readiness.Notices(d, sums, uses, now), nil
}

// endUnused ends the old tokens of an app's rotations that are over.
func (k *Keeper) endUnused(ctx context.Context, appID string, history evidence.History, covered readiness.Fleet,
	now time.Time,
) {
	open := k.rotations[appID].open
	for i := range open {
		if !over(open[i], history, covered, now) {
			continue
		}
		err := k.end(ctx, appID, open[i].tokenID, now)
		if err != nil && !open[i].failed {
			k.Log.Warn("the old token of a rotation is unused, and could not be ended", "app", appID, "token", open[i].tokenID,
				"error", err)
		}
		open[i].failed = err != nil
	}
}

// rotates reports whether a policy has a token that may be the old one of a rotation.
func rotates(p *policy.Policy, nowMillis int64) bool {
	return slices.ContainsFunc(p.Tokens(), func(t policy.Token) bool {
		return t.State == policy.Active && t.ExpireMillis > nowMillis
	})
}

func rotationsOf(d *record.Document, nowMillis int64) (open []rotation) {
	if d == nil || d.Deleted {
		return nil
	}
	for i := range d.Tokens {
		t := &d.Tokens[i]
		if began, wanted := rules.UntilUnused(d, t, nowMillis); wanted {
			open = append(open, rotation{
				tokenID: t.ID, began: time.UnixMilli(began), unused: time.Duration(t.UntilUnusedMillis) * time.Millisecond,
			})
		}
	}
	return open
}

// over reports whether the old token of a rotation was not used for long enough. Counts that are missing may
// be uses, so they keep the rotation open; so does a clock that cannot be trusted.
func over(r rotation, history evidence.History, covered readiness.Fleet, now time.Time) bool {
	since := r.began
	for _, use := range history.LastUses() {
		if end := use.Minute.Add(time.Minute); use.TokenID == r.tokenID && end.After(since) {
			since = end
		}
	}
	complete, known := readiness.CompleteUntil(covered, now)
	if !known || complete.Sub(since) < r.unused {
		return false
	}
	from := complete.Add(-r.unused)
	return len(readiness.Missing(covered, from, now)) == 0 && len(readiness.MissingOf(history.Counted(), covered, from)) == 0
}

// Identity and Method are what the audit trail shows for a token that the upkeep ended.
const (
	Identity = "countersign"
	Method   = "EndUnusedToken"
)

// end ends the old token of a rotation.
func (k *Keeper) end(ctx context.Context, appID, tokenID string, now time.Time) error {
	by := rules.By{Identity: Identity, Now: now.Truncate(time.Millisecond)}
	result, err := k.Store.Update(ctx, store.Call{
		AppID:  appID,
		Change: func(before *record.Document) (*record.Document, error) { return rules.EndUnused(before, by, tokenID) },
		Event:  &countersignv1.AuditEvent{EventTime: timestamppb.New(by.Now), Identity: Identity, Method: Method},
		Answer: func(*record.Document, record.Position) proto.Message { return nil },
	})
	if err == nil && result.Before != result.After {
		k.Metrics.ended.Inc()
		k.Log.Info("the old token of a rotation was ended, since it is unused", "app", appID, "token", tokenID)
	}
	return err
}
