package storetools

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
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/snapshot"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/store"
)

// Repair is what mending a store means.
type Repair struct {
	StoreID string `json:"storeId"`
	// Partitions are those that something is wrong with.
	Partitions []*Mending `json:"partitions"`
	// Removed are keys beside those of partitions that hold something of another type, and are removed.
	Removed []Finding `json:"removed"`
	// Meta says that the store's meta is written again.
	Meta bool `json:"meta"`
	// Epochs are the lowest and the highest that were begun; 0 before it is done, and when no partition needs one.
	Epochs [2]uint64 `json:"epochs"`

	codec *record.Codec
	files []string
}

// Mending is what mending a partition means.
type Mending struct {
	Partition int       `json:"partition"`
	Findings  []Finding `json:"findings"`
	// Apps are those whose policies are made again from signed changes, or from a backup.
	Apps []string `json:"apps"`
	// Fields are those among the policies that are none, and are removed.
	Fields []string `json:"fields"`
	// Undecided are apps whose policy cannot be made again. They stay without a decision (POLICY_UNVERIFIED), never open.
	Undecided []string `json:"undecided"`
	// From and To are the revision of the head before, 0 for none, and of the state that is proven.
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
	// Refused is why nothing can be done; empty when something can, or nothing is to be done.
	Refused string `json:"refused,omitempty"`
	// Changes says that the partition is written anew.
	Changes bool `json:"changes"`

	expected  []byte
	head      record.Head
	documents map[string][]byte
	entries   []replica.RawLink
	highest   record.Cursor
}

// errRestoring says that a restoration was begun and not ended.
var errRestoring = errors.New("a restoration of this store was cut off: give it again (countersign store restore)")

// PlanRepair finds out what is wrong with a store, and what can be made of it: from what verifies in it, and from files, which
// are backups or validators' snapshots. It changes nothing.
func (t *Tools) PlanRepair(ctx context.Context, files []string) (*Repair, error) {
	plan := &Repair{files: files}
	codec, err := t.codec(ctx)
	if errors.Is(err, record.ErrMalformed) || redisfeed.IsWrongType(err) || errors.Is(err, redisfeed.ErrNotInitialised) {
		codec, err = t.codecOf(files, err)
		plan.Meta = true
	}
	if err != nil {
		return nil, err
	}
	plan.codec, plan.StoreID = codec, codec.StoreID()
	if kind, err := t.client.Type(ctx, restoreKey).Result(); err != nil {
		return nil, err
	} else if kind == typeOf(restoreKey) {
		return nil, errRestoring
	}
	sources, err := t.sources(ctx, codec, files)
	if err != nil {
		return nil, err
	}
	for i := range codec.Partitions() {
		m, err := t.planMending(ctx, sources[i])
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", i, err)
		}
		if len(m.Findings) > 0 {
			plan.Partitions = append(plan.Partitions, m)
		}
	}
	err = t.keys(ctx, func(key, kind string) {
		if want := typeOf(key); want != "" && key != record.MetaKey && !partitionKey(key) && kind != "" && kind != want {
			plan.Removed = append(plan.Removed, misfit(key, kind))
		}
	})
	plan.Partitions, plan.Removed = listed(plan.Partitions), listed(plan.Removed)
	return plan, err
}

// partitionKey tells whether a key is a head, or holds policies, log or trail of a partition.
func partitionKey(key string) bool {
	parts := ofPartition.FindStringSubmatch(key)
	return parts != nil && len(parts[2]) < len("request:")
}

// codecOf returns the codec of the store that the first file is of, for a store that does not say which it is.
func (t *Tools) codecOf(files []string, why error) (*record.Codec, error) {
	if len(files) == 0 {
		return nil, fmt.Errorf("%w; to write it again, give --from with a backup or a validator's snapshot of the store", why)
	}
	file, err := snapshot.Open(files[0], t.ring)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return record.NewCodec(t.ring, file.Meta()), nil
}

// sources reads what files hold of each partition.
func (t *Tools) sources(ctx context.Context, codec *record.Codec, files []string) ([]*remains, error) {
	all := make([]*remains, codec.Partitions())
	for i := range all {
		all[i] = &remains{codec: codec, partition: i}
	}
	for _, path := range files {
		if err := t.addSource(ctx, codec, path, all); err != nil {
			return nil, aboutFile(path, err)
		}
	}
	return all, nil
}

func (t *Tools) addSource(ctx context.Context, codec *record.Codec, path string, to []*remains) error {
	file, err := snapshot.Open(path, t.ring)
	if err != nil {
		return err
	}
	defer file.Close()
	if of := file.Meta(); of.StoreID != codec.StoreID() || of.Partitions != codec.Partitions() {
		return errors.New("it is of another store")
	}
	if file.Kind() == snapshot.Backup {
		g := &gatherer{codec: codec, to: func(h *holdings) { to[h.proof.partition].files = append(to[h.proof.partition].files, h) }}
		c := &checker{codec: codec, next: g, onlyGood: true}
		return errors.Join(file.Backup(interruptible{ctx, c}), c.finish())
	}
	return file.Replicas(func(c replica.Contents) error {
		for _, raw := range append(slices.Clone(c.Links), c.Orphans...) {
			if e, err := openLogEntry(codec, c.Partition, entryOf(codec, c.Partition, raw)); err == nil {
				to[c.Partition].found = append(to[c.Partition].found, e)
			}
		}
		return ctx.Err()
	})
}

// gatherer is a target that makes holdings of each partition.
type gatherer struct {
	codec *record.Codec
	to    func(*holdings)
	*holdings
}

// Partition implements snapshot.Sink.
func (g *gatherer) Partition(number int, _ []byte) error {
	g.holdings = newHoldings(g.codec)
	g.proof.partition = number
	return nil
}

func (g *gatherer) done(p proof) error {
	g.to(g.holdings)
	return g.holdings.done(p)
}

// planMending reads a partition and finds out what can be made of it, again when it was changed meanwhile.
func (t *Tools) planMending(ctx context.Context, r *remains) (*Mending, error) {
	for range maxReads {
		m, err := t.planOnce(ctx, r)
		if err != nil {
			return nil, err
		}
		if now, err := t.headNow(ctx, r.partition); err != nil || bytes.Equal(now.raw, m.expected) {
			return m, err
		}
	}
	return nil, errChanged
}

func (t *Tools) planOnce(ctx context.Context, r *remains) (*Mending, error) {
	m := &Mending{Partition: r.partition}
	g := &gatherer{codec: r.codec, to: func(h *holdings) { r.own = h }}
	c := &checker{codec: r.codec, next: g, onlyGood: true}
	source := t.live(r.codec)
	source.find, source.beyond = c.find, true
	fields := map[string][]byte{}
	err := source.pourPartition(ctx, r.partition, claimed{c, func(appID string, raw []byte) { fields[appID] = bytes.Clone(raw) }, &m.expected})
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
		err = m.compute(r, fields)
	}
	m.Apps, m.Fields, m.Undecided = listed(m.Apps), listed(m.Fields), listed(m.Undecided)
	return m, err
}

// claimed shows what is poured to a checker, before that leaves out what does not verify.
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

// compute makes the partition of what is left of it.
func (m *Mending) compute(r *remains, fields map[string][]byte) error {
	state, err := r.whole()
	if err != nil {
		m.Refused = err.Error()
		return nil //nolint:nilerr // the plan says it, and the other partitions are planned all the same
	}
	m.documents, m.To = map[string][]byte{}, state.Revision
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
	m.entries, m.highest = state.log(store.LogLength), r.own.proof.highest
	m.highest = record.Cursor{Epoch: max(m.highest.Epoch, state.Epoch), Revision: max(m.highest.Revision, state.Revision)}
	var empty record.Sum
	if r.own.head != nil {
		empty = r.own.head.State.EmptySum()
	}
	m.head = record.Head{
		Cursor: state.Cursor, Policies: uint64(len(state.apps)), State: r.codec.SealSum(r.partition, sumOf(r.codec, r.partition, empty, state.apps)),
		Audit: r.own.trail, Forks: state.forks[max(len(state.forks)-record.MaxForks, 0):],
	}
	m.Changes = !m.stands(r.own.head, fields)
	return nil
}

// stands tells whether the partition is already as it would be made: all that is wrong are policies that cannot be made again.
func (m *Mending) stands(head *record.Head, fields map[string][]byte) bool {
	policies := record.KeysOf(m.Partition).Policies
	return head != nil && head.Cursor == m.head.Cursor && head.Policies == m.head.Policies && head.State == m.head.State &&
		maps.EqualFunc(m.documents, fields, bytes.Equal) &&
		!slices.ContainsFunc(m.Findings, func(f Finding) bool { key, _, _ := strings.Cut(f.Where, " "); return key != policies })
}

// Repair mends a store as it was planned. Each partition takes its place at once, as a new epoch above all that is known, so
// that validators cross to it and report what they know beyond it.
func (t *Tools) Repair(ctx context.Context, plan *Repair, aboveEpoch uint64) error {
	for _, f := range plan.Removed {
		if err := t.client.Unlink(ctx, f.Where).Err(); err != nil {
			return err
		}
	}
	reports, err := t.fleet(ctx, plan.codec)
	if err != nil {
		return err
	}
	r := &restorer{
		Tools: t, ctx: ctx, codec: plan.codec, options: RestoreOptions{AboveEpoch: aboveEpoch}, run: "restore-" + newRun(),
		validators: reports, method: "Repair",
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

// mend puts a partition in its place, and returns what it did. What was changed since it was planned is planned again.
func (t *Tools) mend(ctx context.Context, r *restorer, plan *Repair, m *Mending) (*Mending, error) {
	for try := 0; ; try++ {
		if !m.Changes {
			return m, nil
		}
		err := r.mended(m)
		if !errors.Is(err, errChanged) || try == mendTries {
			return m, err
		}
		r.discard()
		sources, err := t.sources(ctx, r.codec, plan.files)
		if err != nil {
			return m, err
		}
		if m, err = t.planMending(ctx, sources[m.Partition]); err != nil {
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
