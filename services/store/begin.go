package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store/internal/merge"
)

// healer is the identity of changes that the store makes by itself.
const healer = "countersign"

// methods are the audit methods of the starts of epochs.
var methods = map[countersignv1.EpochCause]string{
	countersignv1.EpochCause_EPOCH_CAUSE_HEALED:   "Heal",
	countersignv1.EpochCause_EPOCH_CAUSE_RESTORED: "Restore",
	countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED:  "Adopt",
}

// epoch describes an epoch that is about to begin.
type epoch struct {
	// top is the epoch's number and the revision of its start. Its tag is unused.
	top   record.Cursor
	cause countersignv1.EpochCause
	// settled are the tags of the orphans that the epoch settles.
	settled []record.Tag
	// changes are what the epoch does to each app. A changed document gets a link right after the start. Sum
	// is the partition's sum before these changes.
	changes []change
	sum     record.Sum
	// last is the partition's last known cursor. It is used only when nothing is left of the partition.
	last record.Cursor
	// whole is set by a healing that has considered everything that the fleet holds. Only such a healing
	// heals an operator's epoch.
	whole bool
}

// begin commits the start of an epoch and the changes that follow it.
func (s *Store) begin(ctx context.Context, partition int, from origin, e epoch) (Healed, outcome, error) {
	b, healed, err := s.compose(partition, from, e, time.Now())
	if err != nil {
		return Healed{}, refused, err
	}
	if from.head == nil {
		if s.options.Meta == nil {
			return Healed{}, refused, errors.New("store: nothing is left of the partition, and there is no meta to put back")
		}
		if err := s.redis.PutMeta(ctx, s.options.Meta); err != nil {
			return Healed{}, refused, err
		}
	}
	done, durability, err := s.pursue(ctx, sending{
		partition: partition, expected: b.Expected, head: b.Head, cursor: healed.Start, entry: b.Entries[0].Data,
		send: func(ctx context.Context) (Reply, error) { return s.redis.Begin(ctx, b) },
	})
	healed.Durability = durability
	return healed, done, err
}

// compose computes everything that begin writes. The start itself changes no document. Each changed app has
// its own link after the start, so that a later healing can bring it back like any other change.
func (s *Store) compose(partition int, from origin, e epoch, now time.Time) (*Beginning, Healed, error) {
	head := record.Head{Cursor: e.last, State: s.codec.SealSum(partition, e.sum)}
	if from.head != nil {
		head = *from.head
	}
	var previous record.Cursor
	if from.head != nil {
		previous = from.head.Cursor
	}
	start := e.top
	start.Tag = record.NewTag()
	healed := Healed{Start: start, Lost: len(e.settled), Conflicts: map[string][]merge.GivenUp{}}
	if head.Cursor == (record.Cursor{}) {
		head.Cursor = start // nothing is left of the partition, and no last cursor is known
	} else {
		head = head.Begin(start)
	}
	head.Unhealed = !e.whole && (head.Unhealed || e.cause != countersignv1.EpochCause_EPOCH_CAUSE_HEALED)
	b := &Beginning{Partition: partition, Expected: from.raw}
	raw, err := s.codec.SealEpoch(partition, record.EpochStart{
		Cursor: start, Previous: previous, Cause: e.cause, Settled: e.settled, CommitMillis: now.UnixMilli(),
	})
	b.Entries = append(b.Entries, record.RawEntry{Revision: start.Revision, Data: raw, EpochStart: true})
	errs := []error{err}
	audit := func(c change) {
		event := &countersignv1.AuditEvent{
			EventTime: timestamppb.New(now), Identity: healer, Method: methods[e.cause], AppId: c.appID, Revision: head.Revision,
			HealedChanges: c.healed, GivenUp: givenUpToProto(c.givenUp),
		}
		if c.after != nil {
			s.audit(event, c.before, c.after)
		}
		raw, tail, err := s.codec.SealAudit(partition, head.Audit, event)
		head.Audit, errs = tail, append(errs, err)
		b.Audit = append(b.Audit, AuditRow{Sequence: tail.Sequence, Data: raw})
	}
	if len(e.changes) == 0 {
		audit(change{})
	}
	for _, c := range e.changes {
		healed.Apps = append(healed.Apps, c.appID)
		if len(c.givenUp) > 0 {
			healed.Conflicts[c.appID] = c.givenUp
		}
		if c.after == c.before {
			audit(c) // the healing gives up all lost changes of the app
			continue
		}
		previous := head.Tag
		head.Cursor = record.Cursor{Epoch: start.Epoch, Revision: head.Revision + 1, Tag: record.NewTag()}
		c.after.Cursor = head.Cursor
		for i := range c.after.Tokens {
			if c.after.Tokens[i].TouchedRevision == merge.TouchedNow {
				c.after.Tokens[i].TouchedRevision = head.Revision
			}
		}
		if c.before == nil {
			head.Policies++
		} else {
			e.sum = s.codec.Remove(e.sum, partition, c.after.AppID, c.before.Revision)
		}
		e.sum = s.codec.Add(e.sum, partition, c.after.AppID, c.after.Revision)
		head.State = s.codec.SealSum(partition, e.sum)

		link := record.LinkBetween(previous, c.before, c.after)
		link.Authors = c.authors()
		raw, err := s.codec.SealLink(link)
		b.Entries, errs = append(b.Entries, record.RawEntry{Revision: head.Revision, Data: raw}), append(errs, err)
		document, err := s.codec.SealDocument(c.after)
		b.Documents, errs = append(b.Documents, RawDocument{c.after.AppID, document}), append(errs, err)
		audit(c)
	}
	healed.End = head.Cursor
	b.Head, err = s.codec.SealHead(partition, head)
	return b, healed, errors.Join(append(errs, err)...)
}

// maxAuthors bounds the authors of one change.
const maxAuthors = 16

// authors returns the authors of the lost changes that a healing brings back, or the healer itself when there
// are none.
func (c *change) authors() (names []string) {
	for _, lost := range c.healed {
		for _, name := range lost.GetIdentities() {
			if !slices.Contains(names, name) && len(names) < maxAuthors {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return []string{healer}
	}
	return names
}

func givenUpToProto(all []merge.GivenUp) (ms []*countersignv1.GivenUp) {
	for _, g := range all {
		ms = append(ms, &countersignv1.GivenUp{TokenId: g.TokenID, Field: g.Field, Kept: g.Kept, GivenUp: g.Lost})
	}
	return ms
}
