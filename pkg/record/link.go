package record

import (
	"fmt"
	"slices"

	"github.com/countersign/countersign/pkg/policy"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Link is one change of a partition: the change itself, not the document that it made, since an app may have 1,000
// tokens.
type Link struct {
	AppID string
	Cursor
	// PreviousTag is the tag of the link before.
	PreviousTag Tag
	// PreviousAppRevision is the revision of the app's document before; 0 for a new app.
	PreviousAppRevision uint64
	// Upserts are tokens that are new or changed; Removed are ids of those that left.
	Upserts []policy.Token
	Removed []string
	// Enforcement and Deleted are the app's after the change.
	Enforcement policy.Enforcement
	Deleted     bool
}

// LinkBetween returns the change that made one document of another; before is nil for a new app.
func LinkBetween(previous Tag, before, after *Document) *Link {
	l := &Link{
		AppID: after.AppID, Cursor: after.Cursor, PreviousTag: previous,
		Enforcement: after.Enforcement, Deleted: after.Deleted,
	}
	old := map[string]policy.Token{}
	if before != nil {
		l.PreviousAppRevision = before.Revision
		for i := range before.Tokens {
			old[before.Tokens[i].ID] = before.Tokens[i].Token
		}
	}
	for i := range after.Tokens {
		t := after.Tokens[i].Token
		if was, ok := old[t.ID]; !ok || was != t {
			l.Upserts = append(l.Upserts, t)
		}
		delete(old, t.ID)
	}
	for id := range old {
		l.Removed = append(l.Removed, id)
	}
	slices.Sort(l.Removed)
	return l
}

// Apply returns the policy after the change; p is the one before, nil for a new app.
func (l *Link) Apply(p *policy.Policy) (*policy.Policy, error) {
	var before []policy.Token
	if p != nil {
		before = p.Tokens()
	}
	changed := make(map[string]policy.Token, len(l.Upserts))
	for _, t := range l.Upserts {
		changed[t.ID] = t
	}
	tokens := make([]policy.Token, 0, len(before)+len(l.Upserts))
	for _, t := range before {
		if slices.Contains(l.Removed, t.ID) {
			continue
		}
		if c, ok := changed[t.ID]; ok {
			delete(changed, t.ID)
			t = c
		}
		tokens = append(tokens, t)
	}
	for _, t := range l.Upserts {
		if _, isNew := changed[t.ID]; isNew {
			tokens = append(tokens, t)
		}
	}
	return policy.New(l.Enforcement, tokens, l.Deleted)
}

// SealLink signs a link.
func (c *Codec) SealLink(l *Link) ([]byte, error) {
	m := &countersignv1.Link{
		AppId: l.AppID, Epoch: l.Epoch, Revision: l.Revision, Tag: l.Tag[:], PreviousTag: l.PreviousTag[:],
		PreviousAppRevision: l.PreviousAppRevision, RemovedTokenIds: l.Removed,
		Enforcement: enforcementToProto(l.Enforcement), Deleted: l.Deleted,
	}
	for i := range l.Upserts {
		m.Upserts = append(m.Upserts, tokenToProto(&l.Upserts[i]))
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
	}
	if copy(l.PreviousTag[:], m.GetPreviousTag()) != len(l.PreviousTag) || c.PartitionOf(l.AppID) != partition {
		return nil, fmt.Errorf("%w link", ErrMalformed)
	}
	if l.Upserts, err = tokensFromProto(m.GetUpserts()); err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	return l, nil
}
