package record

import (
	"fmt"
	"slices"

	"github.com/countersign/countersign/pkg/policy"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Link is one change of a partition. It holds the change and not the resulting document, since an app may
// have 1,000 tokens.
type Link struct {
	AppID string
	Cursor
	// PreviousTag is the tag of the entry before this one in the log.
	PreviousTag Tag
	// PreviousAppRevision is the revision of the app's previous document; 0 for a new app.
	PreviousAppRevision uint64
	// Upserts are new and changed tokens, each complete, so that a lost change can be restored from its link.
	// Removed are the ids of tokens that left the document.
	Upserts []Token
	Removed []string
	// Remembered is what the change adds to the app's memory of revoked tokens.
	Remembered policy.Memory
	// Enforcement and Deleted are the app's settings after the change.
	Enforcement policy.Enforcement
	Deleted     bool
	// SettingsKept says that the change left Enforcement and Deleted as they were. It is false for the change
	// that creates an app.
	SettingsKept bool
	// CommitMillis is the time of the change in milliseconds since the Unix epoch.
	CommitMillis int64
	// Authors are the identities that made the change.
	Authors []string
}

// LinkBetween returns the change from one document of an app to the next; before is nil for a new app.
// Previous is the tag of the entry before in the log.
func LinkBetween(previous Tag, before, after *Document) *Link {
	l := &Link{
		AppID: after.AppID, Cursor: after.Cursor, PreviousTag: previous,
		Enforcement: after.Enforcement, Deleted: after.Deleted, CommitMillis: after.UpdateMillis,
	}
	created := before == nil
	if created {
		before = &Document{}
	}
	l.SettingsKept = !created && before.Enforcement == after.Enforcement && before.Deleted == after.Deleted
	l.PreviousAppRevision, l.Remembered = before.Revision, after.Memory.Without(before.Memory)
	for _, c := range TokenChanges(before, after) {
		if c.After != nil {
			l.Upserts = append(l.Upserts, *c.After)
		} else {
			l.Removed = append(l.Removed, c.Before.ID)
		}
	}
	slices.Sort(l.Removed)
	return l
}

// Apply returns the policy after the change. P is the policy before it, nil for a new app.
func (l *Link) Apply(p *policy.Policy) (*policy.Policy, error) {
	var before []policy.Token
	memory := l.Remembered
	if p != nil {
		before, memory = p.Tokens(), p.Memory().Union(l.Remembered)
	}
	return policy.NewWithMemory(l.Enforcement, merge(before, l.Removed, l.Upserts, func(t *policy.Token) string { return t.ID },
		func(t *Token) policy.Token { return t.Token }), l.Deleted, memory)
}

// ApplyTo returns the document after the change, with the cursor of the change. D is the document before it,
// nil for a new app.
func (l *Link) ApplyTo(d *Document) *Document {
	after := &Document{
		AppID: l.AppID, Cursor: l.Cursor, Enforcement: l.Enforcement, Deleted: l.Deleted,
		CreateMillis: l.CommitMillis, UpdateMillis: l.CommitMillis, Memory: l.Remembered,
	}
	var before []Token
	if d != nil {
		before, after.CreateMillis, after.Memory = d.Tokens, d.CreateMillis, d.Memory.Union(l.Remembered)
	}
	after.Tokens = merge(before, l.Removed, l.Upserts, func(t *Token) string { return t.ID },
		func(t *Token) Token { return *t })
	return after
}

// merge removes some tokens, replaces changed ones in place, and appends new ones.
func merge[T any](before []T, removed []string, upserts []Token, id func(*T) string, convert func(*Token) T) []T {
	changed := make(map[string]*Token, len(upserts))
	for i := range upserts {
		changed[upserts[i].ID] = &upserts[i]
	}
	gone := make(map[string]bool, len(removed))
	for _, id := range removed {
		gone[id] = true
	}
	after := make([]T, 0, len(before)+len(upserts))
	for i := range before {
		if gone[id(&before[i])] {
			continue
		}
		if t, ok := changed[id(&before[i])]; ok {
			delete(changed, t.ID)
			after = append(after, convert(t))
			continue
		}
		after = append(after, before[i])
	}
	for i := range upserts {
		if _, isNew := changed[upserts[i].ID]; isNew {
			after = append(after, convert(&upserts[i]))
		}
	}
	return after
}

// LastTurn returns the latest time, in milliseconds since the Unix epoch, at which time alone alters the
// effect of the change: a token expires, or a trial ends. It returns 0 when there is no such time.
func (l *Link) LastTurn() (latest int64) {
	if l.Enforcement.Scopes != l.Enforcement.After {
		latest = l.Enforcement.TrialEndMillis
	}
	for i := range l.Upserts {
		if t := &l.Upserts[i]; t.State == policy.Active {
			latest = max(latest, t.ExpireMillis)
		}
	}
	return latest
}

// Previous returns the cursor of the entry that the link continues.
func (l *Link) Previous() Cursor {
	return Cursor{Epoch: l.Epoch, Revision: l.Revision - 1, Tag: l.PreviousTag}
}

// SealLink signs a link. Like SealDocument it opens the result as a check, so callers need not open it again.
func (c *Codec) SealLink(l *Link) ([]byte, error) {
	raw, err := c.sealLink(l)
	if err != nil {
		return nil, err
	}
	if _, err := c.OpenLink(c.PartitionOf(l.AppID), raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLimit, err)
	}
	return raw, nil
}

func (c *Codec) sealLink(l *Link) ([]byte, error) {
	m := &countersignv1.Link{
		AppId: l.AppID, Epoch: l.Epoch, Revision: l.Revision, Tag: l.Tag[:], PreviousTag: l.PreviousTag[:],
		PreviousAppRevision: l.PreviousAppRevision, RemovedTokenIds: l.Removed,
		Enforcement: enforcementToProto(l.Enforcement), Deleted: l.Deleted, CommitMillis: l.CommitMillis,
		SettingsKept: l.SettingsKept, Authors: l.Authors,
		Remembered: l.Remembered.Bytes(), RememberedImported: l.Remembered.Imported,
	}
	for i := range l.Upserts {
		m.Upserts = append(m.Upserts, tokenToProto(&l.Upserts[i].Token))
		m.Details = append(m.Details, detailsToProto(&l.Upserts[i]))
	}
	return c.seal(kindLink, c.PartitionOf(l.AppID), m)
}

// OpenLink verifies a link of a partition.
func (c *Codec) OpenLink(partition int, raw []byte) (*Link, error) {
	var m countersignv1.Link
	if err := c.open(kindLink, partition, raw, &m); err != nil {
		return nil, err
	}
	cursor, err := cursorOf(m.GetEpoch(), m.GetRevision(), m.GetTag())
	if err != nil {
		return nil, err
	}
	l := &Link{
		AppID: m.GetAppId(), Cursor: cursor, PreviousAppRevision: m.GetPreviousAppRevision(),
		Removed: m.GetRemovedTokenIds(), Enforcement: enforcementFromProto(m.GetEnforcement()), Deleted: m.GetDeleted(),
		SettingsKept: m.GetSettingsKept(), CommitMillis: m.GetCommitMillis(), Authors: m.GetAuthors(),
	}
	if copy(l.PreviousTag[:], m.GetPreviousTag()) != len(l.PreviousTag) || c.PartitionOf(l.AppID) != partition {
		return nil, fmt.Errorf("%w link", ErrMalformed)
	}
	if l.Remembered, err = memoryFromProto(&m); err != nil {
		return nil, fmt.Errorf("%w link: %w", ErrMalformed, err)
	}
	if len(m.GetDetails()) != len(m.GetUpserts()) {
		return nil, fmt.Errorf("%w link: %d tokens, details of %d", ErrMalformed, len(m.GetUpserts()), len(m.GetDetails()))
	}
	l.Upserts = make([]Token, len(m.GetUpserts()))
	for i, detail := range m.GetDetails() {
		l.Upserts[i] = detailsFromProto(detail)
		if l.Upserts[i].Token, err = tokenFromProto(m.GetUpserts()[i]); err != nil {
			return nil, fmt.Errorf("link: %w", err)
		}
	}
	return l, nil
}
