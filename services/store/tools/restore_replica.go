package tools

import (
	"maps"
	"slices"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
)

// restorerName is the creator of restored tokens without names.
const restorerName = "countersign store restore"

// replica restores a partition from a validator's snapshot. It makes the documents anew, all with the
// revision of the epoch's start, and with ids as names. Sticky revocations become revocations in the
// documents.
func (r *restorer) replica(c replica.Contents) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if err := r.Partition(c.Partition, nil); err != nil {
		return err
	}
	expected, start, err := r.start(c.Partition, c.Cursor)
	if err != nil {
		return err
	}
	head := record.Head{Cursor: c.Cursor, Forks: c.Forks}
	var sum record.Sum
	documents, err := documentsOf(c, start)
	if err != nil {
		return err
	}
	for _, d := range documents {
		raw, err := r.codec.SealDocument(d)
		if err != nil {
			return err
		}
		if err := r.stage.document(d.AppID, raw); err != nil {
			return err
		}
		head.Policies++
		sum = r.codec.Add(sum, c.Partition, d.AppID, d.Revision)
	}
	head.State = r.codec.SealSum(c.Partition, sum)
	for _, raw := range c.Links {
		e, err := r.codec.OpenUnlabelled(c.Partition, raw)
		if err != nil {
			break // the entry does not verify, and damage is allowed
		}
		if err := r.stage.entry(e.Raw(raw)); err != nil {
			return err
		}
	}
	return r.swap(c.Partition, expected, head, start)
}

// documentsOf returns the documents of a partition. An app whose policy could not be verified has none.
func documentsOf(c replica.Contents, at record.Cursor) ([]*record.Document, error) {
	kept := map[string][]policy.Token{}
	for _, s := range c.Sticky {
		kept[s.AppID] = append(kept[s.AppID], s.Token)
	}
	var documents []*record.Document
	add := func(appID string, stored *policy.Policy) error {
		p, err := stored.WithRevoked(kept[appID])
		if err == nil {
			documents = append(documents, documentOf(appID, p, at))
		}
		delete(kept, appID)
		return err
	}
	for _, app := range c.Apps {
		if p := app.Entry.StoredPolicy(); p != nil {
			if err := add(app.ID, p); err != nil {
				return nil, err
			}
		}
	}
	// Apps that the store had lost keep only their sticky revocations.
	gone, err := policy.New(policy.Enforcement{}, nil, true)
	if err != nil {
		return nil, err
	}
	for _, appID := range slices.Sorted(maps.Keys(kept)) {
		if err := add(appID, gone); err != nil {
			return nil, err
		}
	}
	return documents, nil
}

func documentOf(appID string, p *policy.Policy, at record.Cursor) *record.Document {
	tokens := p.Tokens()
	d := &record.Document{
		AppID: appID, Cursor: at, Enforcement: p.Enforcement(), Deleted: p.Deleted(), Memory: p.Memory(),
		Tokens: make([]record.Token, len(tokens)),
	}
	for i, t := range tokens {
		d.Tokens[i] = record.Token{Token: t, Name: t.ID, CreatedBy: restorerName, TouchedRevision: at.Revision}
	}
	return d
}
