package tools

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/snapshot"
	"github.com/countersign/countersign/services/store"
)

// RepairPlan tells what a repair does to a store.
type RepairPlan struct {
	StoreID string `json:"storeId"`
	// Partitions are the partitions with findings.
	Partitions []*PartitionRepair `json:"partitions"`
	// Removed are keys outside of partitions that are useless or have a wrong type. The repair removes them.
	Removed []Finding `json:"removed"`
	// Left are keys that only an operator can decide about, and records of validators that do not verify.
	Left []Finding `json:"left"`
	// Meta says that the store's meta is written again.
	Meta bool `json:"meta"`
	// Epochs are the lowest and the highest epoch that were begun; 0 before the repair, and when no partition
	// needs one.
	Epochs [2]uint64 `json:"epochs"`

	// Validators counts the validators that have reported. What other validators have seen is unknown.
	Validators int `json:"validators"`
	// Ignored are reported positions that no store can have been at.
	Ignored []Finding `json:"ignored"`

	codec   *record.Codec
	options RepairOptions
	seen    *sightings
}

// RepairOptions say what a repair may use and do.
type RepairOptions struct {
	// Files are backups or validators' snapshots with missing records.
	Files []string
	// AboveEpoch is an epoch that somebody has seen; 0 for none.
	AboveEpoch uint64
	// AcceptLoss allows it to repair partitions that have lost changes which validators, or the authority of
	// the floor file, have seen.
	AcceptLoss bool
}

// PartitionRepair tells what a repair does to a partition.
type PartitionRepair struct {
	Partition int       `json:"partition"`
	Findings  []Finding `json:"findings"`
	// Apps are the apps whose policies are rebuilt from signed changes, or taken from a backup.
	Apps []string `json:"apps"`
	// Fields are fields of the policies hash that are no policies. The repair removes them.
	Fields []string `json:"fields"`
	// Undecided are apps whose policies cannot be rebuilt. They stay undecided (POLICY_UNVERIFIED), and are
	// never open.
	Undecided []string `json:"undecided"`
	// From is the revision of the head before the repair, 0 without one. To is the revision of the proven
	// state.
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
	// Loss is what validators, or the authority of the floor file, have seen beyond the proven state; nil for
	// nothing.
	Loss *Loss `json:"loss,omitempty"`
	// Refused says why the partition cannot be repaired; empty when it can, or needs nothing.
	Refused string `json:"refused,omitempty"`
	// Changes says that the partition is written anew.
	Changes bool `json:"changes"`

	expected  []byte
	head      record.Head
	documents map[string][]byte
	revisions map[string]uint64 // of the documents
	entries   []record.RawEntry
	highest   record.Cursor
	// reach is the cursor up to which every change is known.
	reach record.Cursor
}

// errRestoring says that a restoration was begun and not completed.
var errRestoring = errors.New("a restoration of this store was interrupted: give the same `countersign store restore` again")

// PlanRepair finds what is wrong with a store, and how its verified records and the files can repair it. It
// changes nothing.
func (t *Tools) PlanRepair(ctx context.Context, options RepairOptions) (*RepairPlan, error) {
	if err := checkAboveEpoch(options.AboveEpoch); err != nil {
		return nil, err
	}
	plan := &RepairPlan{options: options}
	codec, err := t.codec(ctx)
	if errors.Is(err, record.ErrMalformed) || redisfeed.IsWrongType(err) || errors.Is(err, redisfeed.ErrNotInitialised) ||
		errors.Is(err, errNoMeta) {
		codec, err = t.codecOf(options.Files, err)
		plan.Meta = true
	}
	if err != nil {
		return nil, err
	}
	plan.codec, plan.StoreID = codec, codec.StoreID()
	// Without a meta, a restoration of any store may be in progress.
	if begun, err := t.metaIn(ctx, restoreKey); err != nil {
		return nil, err
	} else if begun.StoreID == plan.StoreID || plan.Meta && begun.StoreID != "" {
		return nil, errRestoring
	}
	sources, err := t.sources(ctx, codec, options.Files)
	if err != nil {
		return nil, err
	}
	if plan.seen, err = t.sightingsOf(ctx, codec); err != nil {
		return nil, err
	}
	plan.Validators = len(plan.seen.validators)
	_, ignored := furthest(plan.seen.validators, plan.seen.known)
	plan.Ignored = listed(ignored)
	for i := range codec.Partitions() {
		m, err := t.planPartition(ctx, plan, sources[i])
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", i, err)
		}
		if len(m.Findings) > 0 {
			plan.Partitions = append(plan.Partitions, m)
		}
	}
	if plan.Removed, plan.Left, err = t.strays(ctx, codec); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(plan.Removed, func(f Finding) bool { return f.Where == record.FleetKey }) {
		c := &checker{codec: codec}
		err = t.verifyFleet(ctx, codec, c.find)
		plan.Left = append(plan.Left, c.findings...)
	}
	plan.Partitions, plan.Removed, plan.Left = listed(plan.Partitions), listed(plan.Removed), listed(plan.Left)
	return plan, err
}

// partitionKey reports whether a key is the head, policies, log or trail of a partition.
func partitionKey(key string) bool {
	parts := ofPartition.FindStringSubmatch(key)
	return parts != nil && len(parts[2]) < len("request:")
}

// planPartition plans the repair of a partition. It plans again when the partition changed meanwhile.
func (t *Tools) planPartition(ctx context.Context, plan *RepairPlan, r *evidence) (*PartitionRepair, error) {
	for range maxReads {
		m, err := t.planOnce(ctx, plan, r)
		if err != nil {
			return nil, err
		}
		if now, err := t.headNow(ctx, r.partition); err != nil || bytes.Equal(now.raw, m.expected) {
			return m, err
		}
	}
	return nil, errChanged
}

func (t *Tools) planOnce(ctx context.Context, plan *RepairPlan, r *evidence) (*PartitionRepair, error) {
	m := &PartitionRepair{Partition: r.partition}
	g := &collector{codec: r.codec, to: func(h *holdings) { r.own = h }}
	c := &checker{codec: r.codec, next: g, onlyGood: true}
	source := t.reader(r.codec)
	source.find, source.beyond = c.find, true
	fields := map[string][]byte{}
	err := source.exportPartition(ctx, r.partition, claimed{
		c,
		func(appID string, raw []byte) { fields[appID] = bytes.Clone(raw) }, &m.expected,
	})
	if err := errors.Join(err, c.finish()); err != nil {
		return nil, err
	}
	for appID, raw := range fields {
		if _, good := r.own.raw[appID]; !good && policy.ValidAppID(appID) && r.codec.PartitionOf(appID) == r.partition {
			r.own.claims[appID], _ = record.ClaimedRevision(raw)
		}
	}
	r.own.partial = r.own.partial || c.severed
	m.Findings = listed(c.findings)
	if r.own.head != nil {
		m.From = r.own.head.Revision
	}
	if len(m.Findings) > 0 {
		err = m.compute(plan, r, fields)
	}
	m.Apps, m.Fields, m.Undecided = listed(m.Apps), listed(m.Fields), listed(m.Undecided)
	return m, err
}

// claimed observes records on their way to a checker, which may drop those that do not verify.
type claimed struct {
	snapshot.Sink
	document func(appID string, raw []byte)
	head     *[]byte
}

// Partition implements snapshot.Sink.
func (c claimed) Partition(number int, head []byte) error {
	*c.head = bytes.Clone(head)
	return c.Sink.Partition(number, head)
}

// Document implements snapshot.Sink.
func (c claimed) Document(appID string, raw []byte) error {
	c.document(appID, raw)
	return c.Sink.Document(appID, raw)
}

// compute rebuilds the partition from its evidence.
func (m *PartitionRepair) compute(plan *RepairPlan, r *evidence, fields map[string][]byte) error {
	state, err := r.whole()
	if err != nil {
		m.Refused = err.Error()
		return nil //nolint:nilerr // the plan reports it, and the other partitions are still planned
	}
	m.reach = state.reach
	m.highest = record.Highest(r.own.proof.highest, state.Cursor)
	if m.Loss = plan.seen.beyond(m.Partition, m.reach, m.highest); m.Loss != nil && !plan.options.AcceptLoss {
		m.Refused = m.Loss.refusal(m.reach)
		return nil
	}
	m.documents, m.revisions, m.To = map[string][]byte{}, state.apps, state.Revision
	for _, appID := range slices.Sorted(maps.Keys(state.apps)) {
		revision := state.apps[appID]
		d := r.rebuild(state, appID, revision)
		switch own := r.own.documents[appID]; {
		case d != nil && own != nil && own.Cursor == d.Cursor:
			m.documents[appID] = r.own.raw[appID]
		case d != nil:
			m.Apps = append(m.Apps, appID)
			if m.documents[appID], err = r.codec.SealDocument(d); err != nil {
				return err
			}
		default:
			m.Undecided = append(m.Undecided, appID)
			if m.documents[appID] = fields[appID]; r.own.claims[appID] != revision {
				m.documents[appID] = record.UndecidedDocument(appID, revision)
			}
		}
	}
	for _, appID := range slices.Sorted(maps.Keys(fields)) {
		if _, kept := m.documents[appID]; !kept {
			m.Fields = append(m.Fields, appID)
		}
	}
	m.entries = state.log(store.LogLength)
	var empty record.Sum
	if r.own.head != nil {
		empty = r.own.head.State.EmptySum()
	}
	m.head = record.Head{
		Cursor: state.Cursor, Policies: uint64(len(state.apps)),
		State: r.codec.SealSum(r.partition, sumOf(r.codec, r.partition, empty, state.apps)),
		Audit: r.own.trail, Forks: state.forks[max(len(state.forks)-record.MaxForks, 0):],
	}
	m.Changes = !m.stands(r.own.head, fields)
	return nil
}

// stands reports whether the partition already equals the repaired one: its only findings are policies that
// cannot be rebuilt.
func (m *PartitionRepair) stands(head *record.Head, fields map[string][]byte) bool {
	policies := record.KeysOf(m.Partition).Policies
	return head != nil && head.Cursor == m.head.Cursor && head.Policies == m.head.Policies && head.State == m.head.State &&
		maps.EqualFunc(m.documents, fields, bytes.Equal) &&
		!slices.ContainsFunc(m.Findings, func(f Finding) bool { key, _, _ := strings.Cut(f.Where, " "); return key != policies })
}
