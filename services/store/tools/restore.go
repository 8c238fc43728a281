package tools

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/snapshot"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store"
)

const (
	// revisionJump is how far an operator's epoch begins above all known revisions: beyond anything that an
	// unknown validator can have seen.
	revisionJump = 1_000_000_000
	// restoreKey holds the meta of a store during its restoration.
	restoreKey = "cs:restore"

	discardTimeout = 5 * time.Second
)

var (
	// ErrNotEmpty says that a Redis holds keys where a restoration needs none.
	ErrNotEmpty = errors.New("there is a store, or the rest of one, in this Redis; nothing was changed")
	// ErrNoNames says that a file is a validator's snapshot, which has no names.
	ErrNoNames = errors.New("this is a validator's snapshot: it has no names, hints, notes and times of tokens, and no audit " +
		"trail; nothing was changed")
)

// RestoreOptions say what a restoration may do.
type RestoreOptions struct {
	// Replace allows it to replace an existing store.
	Replace bool
	// WithoutNames allows it to use a validator's snapshot.
	WithoutNames bool
	// AllowDamaged allows it to leave out records that do not verify.
	AllowDamaged bool
	// AboveEpoch is an epoch that somebody has seen; 0 for none.
	AboveEpoch uint64
}

// Restored is the result of a restoration.
type Restored struct {
	StoreID string          `json:"storeId"`
	File    string          `json:"file"`
	Kind    string          `json:"kind"`
	Created time.Time       `json:"created"`
	Starts  []record.Cursor `json:"-"`
	// Epochs are the lowest and the highest epoch that were begun.
	Epochs [2]uint64 `json:"epochs"`
	Totals Totals    `json:"totals"`
	// Findings are the records that did not verify and were left out.
	Findings []Finding `json:"findings"`
	// FleetBegun says that the list of validators was missing and begins anew. Receipts do not name
	// validators that had stopped without leaving the fleet.
	FleetBegun bool `json:"fleetBegun"`
}

// Restore replaces a store with a backup, or with a validator's snapshot. Each partition is swapped in at
// once, as a new epoch above everything that is known. So running validators follow it, keep every revocation
// that they have seen, and report what they hold beyond it. An interrupted restoration may be repeated. Until
// it is complete, nobody takes the Redis for a store.
func (t *Tools) Restore(ctx context.Context, path string, options RestoreOptions) (Restored, error) {
	if err := checkAboveEpoch(options.AboveEpoch); err != nil {
		return Restored{}, err
	}
	verified, kind, err := t.VerifyFile(ctx, path)
	if err != nil {
		return Restored{}, err
	}
	done := Restored{
		StoreID: verified.StoreID, File: path, Kind: kind.String(), Totals: verified.Totals,
		Findings: verified.Findings,
	}
	if kind == snapshot.OfReplica && !options.WithoutNames {
		return done, ErrNoNames
	}
	if len(verified.Findings) > 0 && !options.AllowDamaged {
		return done, ErrDamaged
	}
	file, err := snapshot.Open(path, t.ring)
	if err != nil {
		return done, err
	}
	defer file.Close()
	done.Created = file.CreateTime()
	meta := file.Meta()
	r := &restorer{
		Tools: t, ctx: ctx, codec: record.NewCodec(t.ring, meta), options: options, run: "restore-" + newRun(), method: "Restore",
	}
	if err := r.prepare(meta); err != nil {
		return done, err
	}
	if kind == snapshot.Backup {
		c := &checker{codec: r.codec, next: r, onlyGood: true}
		err = errors.Join(file.Backup(interruptible{ctx, c}), c.finish())
	} else {
		err = file.Replicas(r.replica)
	}
	if err != nil {
		r.discard()
		return done, fmt.Errorf("%w; %d of %d partitions are restored: give the same command again", err, r.swapped,
			meta.Partitions)
	}
	done.Starts, done.Epochs = r.starts, epochsOf(r.starts)
	err = r.finish(meta)
	done.FleetBegun = r.fleetBegun
	return done, err
}

func newRun() string {
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails since Go 1.24
	return hex.EncodeToString(id[:])
}

func epochsOf(starts []record.Cursor) (epochs [2]uint64) {
	for i, at := range starts {
		if i == 0 || at.Epoch < epochs[0] {
			epochs[0] = at.Epoch
		}
		epochs[1] = max(epochs[1], at.Epoch)
	}
	return epochs
}

var _ target = (*restorer)(nil)

// restorer writes partitions and swaps them in, one after the other.
type restorer struct {
	*Tools
	ctx     context.Context
	codec   *record.Codec
	options RestoreOptions
	run     string
	// overwrite allows it to replace existing keys. Foreign says that these belong to another store.
	overwrite, foreign bool
	// validators are the reported validators of the existing store, if it is not foreign.
	validators []*record.Validator
	stage      *stage
	// method is the audit method. Events are audit rows of apps, written before the row of the epoch. Removed
	// is what that row names as removed.
	method  string
	events  []*countersignv1.AuditEvent
	removed []*countersignv1.GivenUp
	starts  []record.Cursor
	swapped int
	// fleetBegun says that there was no list of members.
	fleetBegun bool
}

// prepare finds what exists in the Redis, and whether the restoration may replace it.
func (r *restorer) prepare(meta record.Meta) error {
	there, err := r.meta(r.ctx)
	switch {
	case errors.Is(err, redisfeed.ErrNotInitialised):
	case err == nil:
		r.foreign = there.StoreID != meta.StoreID || there.Partitions != meta.Partitions
	case errors.Is(err, keyring.ErrUnknownKey), errors.Is(err, keyring.ErrMismatch):
		ours, headErr := r.hasHeads()
		if headErr != nil {
			return headErr
		}
		if !ours {
			return fmt.Errorf("there is a store that another key ring has signed; nothing was changed: %w", err)
		}
	case !errors.Is(err, record.ErrMalformed) && !redisfeed.IsWrongType(err):
		return err
	}
	// No process starts with a malformed meta, and the end of the restoration replaces it.
	begun, err := r.begun(meta)
	if err != nil {
		return err
	}
	r.overwrite = r.options.Replace || begun
	if !r.overwrite {
		used := 0
		if err := r.keys(r.ctx, func(key, kind string) {
			if key != record.FleetKey || kind != "" && kind != typeOf(key) {
				used++
			}
		}); err != nil {
			return err
		}
		if used > 0 {
			return ErrNotEmpty
		}
	}
	if !r.foreign {
		r.validators, err = r.fleet(r.ctx, r.codec)
		if redisfeed.IsWrongType(err) {
			// A key of a wrong type has no reports, and authorities cannot write any until it is removed.
			err = r.client.Unlink(r.ctx, record.FleetKey).Err()
		}
		if err != nil {
			return err
		}
	}
	raw, err := record.SealMeta(r.ring, meta)
	if err != nil {
		return err
	}
	if err := store.CheckRights(r.ctx, r.client, restoreKey, restoreCommands(r.run)...); err != nil {
		return err
	}
	if err := r.client.Set(r.ctx, restoreKey, raw, 0).Err(); err != nil {
		return err
	}
	if r.foreign {
		// A process that starts meanwhile must not take one store for the other.
		if err := r.client.Del(r.ctx, record.MetaKey).Err(); err != nil {
			return err
		}
	}
	return r.removeLeftovers()
}

// restoreCommands lists the writing commands of a restoration, with one partition as an example.
func restoreCommands(run string) []string {
	aside := asideNames(record.KeysOf(0), run)
	return []string{
		"SET " + restoreKey + " x", "DEL " + restoreKey, "SET " + record.MetaKey + " x", "DEL " + record.MetaKey, "SCAN 0",
		"UNLINK " + aside[0], "HSET " + aside[0] + " app x", "XADD " + aside[1] + " * l x", "HLEN " + aside[0], "XLEN " + aside[1],
		"HSET " + record.FleetKey + " x x", "HMGET " + record.FleetKey + " x",
	}
}

// Partition implements snapshot.Sink.
func (r *restorer) Partition(number int, _ []byte) error {
	r.stage = newStage(r.ctx, r.client, number, r.run)
	return nil
}

// Document implements snapshot.Sink.
func (r *restorer) Document(appID string, raw []byte) error { return r.stage.document(appID, raw) }

// Entry implements snapshot.Sink.
func (r *restorer) Entry(e record.RawEntry) error { return r.stage.entry(e) }

// Audit implements snapshot.Sink.
func (r *restorer) Audit(sequence uint64, raw []byte) error { return r.stage.audit(sequence, raw) }

// done swaps in a partition of a backup.
func (r *restorer) done(p proof) error {
	expected, start, err := r.start(p.partition, p.highest)
	if err != nil {
		return err
	}
	head := record.Head{Cursor: p.last}
	if p.head != nil {
		head = *p.head
	}
	head.Policies, head.State, head.Audit = p.count, r.codec.SealSum(p.partition, p.sum), p.audit
	return r.swap(p.partition, expected, head, start)
}

// hasHeads reports whether the Redis holds a head of the file's store.
func (r *restorer) hasHeads() (bool, error) {
	heads, err := r.readHeads(r.ctx, r.codec)
	for i, read := range heads {
		if _, err := r.codec.OpenHead(i, read.Raw); err == nil {
			return true, nil
		}
	}
	return false, err
}

// start returns the current key of the head, and where the new epoch begins: above it, above the file and
// above everything that is known.
func (r *restorer) start(partition int, has record.Cursor) (expected headKey, start record.Cursor, err error) {
	if expected, err = r.headNow(r.ctx, partition); err != nil {
		return expected, start, err
	}
	known := r.floorOf(r.codec)
	known[partition] = record.Highest(known[partition], has)
	if head, err := r.codec.OpenHead(partition, expected.raw); err == nil {
		known[partition] = record.Highest(known[partition], head.Cursor)
	} else if !r.foreign {
		// Processes have seen where the lost head was, and would refuse a store that comes before it.
		last, err := r.endOfLog(r.ctx, r.codec, partition)
		if err != nil {
			return expected, start, err
		}
		known[partition] = record.Highest(known[partition], last)
	}
	tops, _ := furthest(r.validators, known)
	start, err = above(known[partition], tops[partition], record.Cursor{Epoch: r.options.AboveEpoch})
	return expected, start, err
}

// swap begins the new epoch after a head and swaps the partition in.
func (r *restorer) swap(partition int, expected headKey, head record.Head, start record.Cursor) error {
	now := time.Now()
	e := record.EpochStart{
		Cursor: start, Previous: head.Cursor, Cause: countersignv1.EpochCause_EPOCH_CAUSE_RESTORED, CommitMillis: now.UnixMilli(),
	}
	if head.Epoch > 0 {
		head = head.Begin(start)
	}
	head.Cursor, head.Unhealed = start, true
	raw, err := r.codec.SealEpoch(partition, e)
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	for _, event := range append(r.events, &countersignv1.AuditEvent{Revision: start.Revision, GivenUp: r.removed}) {
		event.EventTime, event.Identity, event.Peer, event.Method = timestamppb.New(now),
			"countersign store "+strings.ToLower(r.method), host, r.method
		row, tail, err := r.codec.SealAudit(partition, head.Audit, event)
		if err != nil {
			return err
		}
		if err := r.stage.audit(tail.Sequence, row); err != nil {
			return err
		}
		head.Audit = tail
	}
	sealed, err := r.codec.SealHead(partition, head)
	if err != nil {
		return err
	}
	if err := r.stage.entry(record.RawEntry{Revision: start.Revision, Data: raw, EpochStart: true}); err != nil {
		return err
	}
	if err := r.stage.flush(); err != nil {
		return fmt.Errorf("partition %d: %w", partition, err)
	}
	if err := r.replace(partition, expected, sealed, start); err != nil {
		return fmt.Errorf("partition %d: %w", partition, err)
	}
	r.stage = nil
	r.starts = append(r.starts, start)
	r.swapped++
	return nil
}

// replace swaps the partition in. A running authority may change the existing one again and again. These
// changes are replaced too, as long as the new epoch is above them.
func (r *restorer) replace(partition int, expected headKey, head []byte, start record.Cursor) error {
	for {
		err := r.stage.swap(expected, head)
		if !errors.Is(err, errChanged) || !r.overwrite {
			return err
		}
		if expected, err = r.headNow(r.ctx, partition); err != nil {
			return err
		}
		now, err := r.codec.OpenHead(partition, expected.raw)
		if err == nil && (now.Epoch >= start.Epoch || now.Revision >= start.Revision) {
			return errChanged // another restoration, or a healing, was faster
		}
		if r.ctx.Err() != nil {
			return r.ctx.Err()
		}
	}
}

// headNow returns the current key of a head.
func (t *Tools) headNow(ctx context.Context, partition int) (headKey, error) {
	key := record.KeysOf(partition).Head
	for {
		kind, err := t.typeIn(ctx, key)
		if err != nil || kind != typeOf(key) {
			return headKey{kind: kind}, err
		}
		var raw []byte
		err = retry(ctx, func() (err error) {
			raw, err = t.client.Get(ctx, key).Bytes()
			return err
		})
		if !errors.Is(err, redis.Nil) && !redisfeed.IsWrongType(err) {
			return headKey{kind, raw}, err
		}
	}
}

// typeIn returns the type of a key in Redis's words.
func (t *Tools) typeIn(ctx context.Context, key string) (kind string, err error) {
	err = retry(ctx, func() (err error) {
		kind, err = t.client.Type(ctx, key).Result()
		return err
	})
	return kind, err
}

func (r *restorer) discard() {
	if r.stage != nil {
		r.stage.discard()
	}
}

// finish writes the meta last of all. It removes leftovers of the replaced store, because its request results
// do not apply to the restored one.
func (r *restorer) finish(meta record.Meta) error {
	raw, err := record.SealMeta(r.ring, meta)
	if err != nil {
		return err
	}
	if err := r.client.Set(r.ctx, record.MetaKey, raw, 0).Err(); err != nil {
		return err
	}
	err = r.remove(func(key string) bool {
		return !belongs(key, meta.Partitions) && ofPartition.MatchString(key) || strings.Contains(key, "}:request:") ||
			r.foreign && key == record.FleetKey
	})
	if err != nil {
		return err
	}
	if r.fleetBegun, err = store.BeginFleet(r.ctx, r.client, r.codec, time.Now(), r.foreign); err != nil {
		return err
	}
	return r.client.Del(r.ctx, restoreKey).Err()
}
