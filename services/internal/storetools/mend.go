package storetools

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Repair mends a store as it was planned. Each partition takes its place at once, as a new epoch above all that is known, so
// that validators cross to it and report what they know beyond it.
func (t *Tools) Repair(ctx context.Context, plan *Repair) error {
	for _, f := range plan.Removed {
		if err := t.client.Unlink(ctx, f.Where).Err(); err != nil {
			return err
		}
	}
	var err error
	if plan.seen, err = t.sightingsOf(ctx, plan.codec); err != nil {
		return err
	}
	r := &restorer{
		Tools: t, ctx: ctx, codec: plan.codec, options: RestoreOptions{AboveEpoch: plan.options.AboveEpoch}, run: "restore-" + newRun(),
		validators: plan.seen.validators, method: "Repair",
	}
	for i, m := range plan.Partitions {
		if plan.Partitions[i], err = t.mend(ctx, r, plan, m); err != nil {
			r.discard()
			return fmt.Errorf("partition %d: %w; those before it are mended: give the same command again", m.Partition, err)
		}
	}
	if plan.Epochs = epochsOf(r.starts); !plan.Meta {
		return nil
	}
	raw, err := record.SealMeta(t.ring, plan.codec.Meta())
	if err != nil {
		return err
	}
	return t.client.Set(ctx, record.MetaKey, raw, 0).Err()
}

// mendTries is how often a partition is planned again that was changed meanwhile.
const mendTries = 10

// mend puts a partition in its place, and returns what it did. It is planned again when it was changed since, or when validators
// have reported more.
func (t *Tools) mend(ctx context.Context, r *restorer, plan *Repair, m *Mending) (*Mending, error) {
	for try := 0; ; try++ {
		if !m.Changes {
			return m, nil
		}
		err := errChanged
		if m.Loss.equal(plan.seen.beyond(m.Partition, m.reach, m.highest)) {
			err = r.mended(m)
		}
		if !errors.Is(err, errChanged) || try == mendTries {
			return m, err
		}
		r.discard()
		sources, err := t.sources(ctx, r.codec, plan.options.Files)
		if err != nil {
			return m, err
		}
		// Reports are read before the partition, so that a change that is made meanwhile is not taken for lost.
		if plan.seen, err = t.sightingsOf(ctx, r.codec); err != nil {
			return m, err
		}
		r.validators = plan.seen.validators
		if m, err = t.planMending(ctx, plan, sources[m.Partition]); err != nil {
			return m, err
		}
	}
}

// mended writes a partition aside and swaps it in.
func (r *restorer) mended(m *Mending) error {
	if err := r.Partition(m.Partition, nil); err != nil {
		return err
	}
	for _, appID := range slices.Sorted(maps.Keys(m.documents)) {
		if err := r.Document(appID, m.documents[appID]); err != nil {
			return err
		}
	}
	for _, e := range m.entries {
		if err := r.Entry(e); err != nil {
			return err
		}
	}
	keys := record.KeysOf(m.Partition)
	if kind, err := r.client.Type(r.ctx, keys.Audit).Result(); err != nil {
		return err
	} else if kind == typeOf(keys.Audit) && m.head.Audit.Sequence > 0 {
		if err := r.live(r.codec).pourAudit(r.ctx, &contents{keys: keys}, m.head.Audit.Sequence, r); err != nil {
			return err
		}
	}
	expected, start, err := r.start(m.Partition, m.highest)
	if err != nil {
		return err
	}
	if !bytes.Equal(expected.raw, m.expected) {
		return errChanged
	}
	r.events = nil
	for _, appID := range m.Apps {
		r.events = append(r.events, &countersignv1.AuditEvent{AppId: appID, Revision: revisionIn(r.codec, appID, m.documents[appID])})
	}
	return r.swap(m.Partition, expected, m.head, start)
}

func revisionIn(codec *record.Codec, appID string, raw []byte) uint64 {
	d, err := codec.OpenDocument(appID, raw)
	if err != nil {
		return 0
	}
	return d.Revision
}
