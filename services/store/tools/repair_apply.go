package tools

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store"
)

// Repair carries out a plan. Each partition is swapped in at once, as a new epoch above everything that is
// known. So running validators follow it and report what they hold beyond it.
func (t *Tools) Repair(ctx context.Context, plan *RepairPlan) error {
	run := "restore-" + newRun()
	if err := store.CheckRights(ctx, t.client, record.MetaKey, plan.commands(run)...); err != nil {
		return err
	}
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
		Tools: t, ctx: ctx, codec: plan.codec, options: RestoreOptions{AboveEpoch: plan.options.AboveEpoch}, run: run,
		validators: plan.seen.validators, method: "Repair",
	}
	for i, m := range plan.Partitions {
		if plan.Partitions[i], err = t.repairPartition(ctx, r, plan, m); err != nil {
			r.discard()
			return fmt.Errorf("partition %d: %w; the partitions before it are repaired: give the same command again", m.Partition,
				err)
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

// commands lists the writing commands of a repair.
func (plan *RepairPlan) commands(run string) []string {
	commands := []string{"SET " + record.MetaKey + " x"}
	for _, f := range plan.Removed {
		commands = append(commands, "UNLINK "+f.Where)
	}
	for _, m := range plan.Partitions {
		if !m.Changes {
			continue
		}
		keys := record.KeysOf(m.Partition)
		aside := asideNames(keys, run)
		commands = append(commands, "SET "+keys.Head+" x", "HSET "+aside[0]+" app x", "XADD "+aside[1]+" * l x",
			"XADD "+aside[2]+" * e x",
			"HLEN "+aside[0], "XLEN "+aside[1], "XLEN "+aside[2])
		for i, key := range []string{keys.Policies, keys.Log, keys.Audit} {
			commands = append(commands, "UNLINK "+key, "UNLINK "+aside[i], "EXISTS "+aside[i], "RENAME "+aside[i]+" "+key)
		}
	}
	return commands
}

// repairTries bounds how often a partition is planned again that changed meanwhile.
const repairTries = 10

// repairPartition swaps a partition in, and returns what it did. It plans the partition again when it changed
// meanwhile, or when validators have reported more.
func (t *Tools) repairPartition(ctx context.Context, r *restorer, plan *RepairPlan, m *PartitionRepair) (*PartitionRepair,
	error,
) {
	for try := 0; ; try++ {
		if !m.Changes {
			return m, nil
		}
		err := errChanged
		if m.Loss.equal(plan.seen.beyond(m.Partition, m.reach, m.highest)) {
			err = r.apply(m)
		}
		if !errors.Is(err, errChanged) || try == repairTries {
			return m, err
		}
		r.discard()
		sources, err := t.sources(ctx, r.codec, plan.options.Files)
		if err != nil {
			return m, err
		}
		// Read the reports before the partition, so that a change made in between does not count as lost.
		if plan.seen, err = t.sightingsOf(ctx, r.codec); err != nil {
			return m, err
		}
		r.validators = plan.seen.validators
		if m, err = t.planPartition(ctx, plan, sources[m.Partition]); err != nil {
			return m, err
		}
	}
}

// apply writes a partition under temporary keys and swaps it in.
func (r *restorer) apply(m *PartitionRepair) error {
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
	if kind, err := r.typeIn(r.ctx, keys.Audit); err != nil {
		return err
	} else if kind == typeOf(keys.Audit) && m.head.Audit.Sequence > 0 {
		if err := r.reader(r.codec).exportAudit(r.ctx, &contents{keys: keys}, m.head.Audit.Sequence, r); err != nil {
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
	for _, appID := range slices.Sorted(slices.Values(slices.Concat(m.Apps, m.Undecided))) {
		event := &countersignv1.AuditEvent{AppId: appID, Revision: m.revisions[appID]}
		if slices.Contains(m.Undecided, appID) {
			event.GivenUp = []*countersignv1.GivenUp{{Field: "change", GivenUp: fmt.Sprintf("revision %d", m.revisions[appID])}}
		}
		r.events = append(r.events, event)
	}
	if r.removed, err = r.removals(m); err != nil {
		return err
	}
	return r.swap(m.Partition, expected, m.head, start)
}

// maxRemovals bounds how many removed fields and keys an audit row names.
const maxRemovals = 100

// removals returns the removed fields and keys of the partition for its audit row.
func (r *restorer) removals(m *PartitionRepair) (all []*countersignv1.GivenUp, err error) {
	wrong, err := misfits(r.ctx, r.client, record.KeysOf(m.Partition))
	if err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(wrong)) {
		all = append(all, &countersignv1.GivenUp{Field: "key", GivenUp: key + ", a " + wrong[key]})
	}
	for _, name := range m.Fields {
		// An attacker who can write to Redis may have chosen the name.
		all = append(all, &countersignv1.GivenUp{Field: "field", GivenUp: fmt.Sprintf("%+q", name[:min(len(name), 100)])})
	}
	if more := len(all) - maxRemovals; more > 0 {
		all = append(all[:maxRemovals:maxRemovals], &countersignv1.GivenUp{
			Field:   "field",
			GivenUp: fmt.Sprintf("and %d more", more),
		})
	}
	return all, nil
}
