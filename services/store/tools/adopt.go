package tools

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store"
)

// Loss is what a partition has lost, as far as it is known.
type Loss struct {
	Partition int `json:"partition"`
	// Epoch is the epoch of the lost changes, From and To their first and last revisions. From is 0 when all
	// of the partition is lost.
	Epoch uint64 `json:"epoch"`
	From  uint64 `json:"from"`
	To    uint64 `json:"to"`

	byAuthority bool // an authority's floor shows the loss, and no report
}

// String returns it as one line.
func (l Loss) String() string {
	if l.From == 0 {
		return fmt.Sprintf("partition %d: all of it is gone; a validator was at revision %d of epoch %d", l.Partition, l.To,
			l.Epoch)
	}
	return fmt.Sprintf("partition %d: revisions %d to %d of epoch %d", l.Partition, l.From, l.To, l.Epoch)
}

// Adoption tells what an adoption gives up.
type Adoption struct {
	StoreID string `json:"storeId"`
	// Validators counts the validators that have reported. What other validators hold is unknown.
	Validators int    `json:"validators"`
	Losses     []Loss `json:"losses"`
	// Missing are partitions without a head. They begin empty.
	Missing []int `json:"missing"`
	// Epochs are the lowest and the highest epoch that were begun; 0 before Adopt.
	Epochs [2]uint64 `json:"epochs"`
	// Ignored are reported positions that no store can have been at.
	Ignored []Finding `json:"ignored"`

	codec *record.Codec
	above []record.Cursor
}

// PlanAdoption finds what is lost when a store is accepted as it is: everything that validators have reported
// beyond it. AboveEpoch is an epoch that somebody else has seen; 0 for none.
func (t *Tools) PlanAdoption(ctx context.Context, aboveEpoch uint64) (*Adoption, error) {
	if err := checkAboveEpoch(aboveEpoch); err != nil {
		return nil, err
	}
	codec, err := t.codec(ctx)
	if err != nil {
		return nil, err
	}
	if wrong, err := t.misfitsOf(ctx, codec.Partitions()); err != nil {
		return nil, err
	} else if len(wrong) > 0 {
		return nil, fmt.Errorf("%s, so the store cannot be adopted (countersign store repair)", wrong[0])
	}
	reports, err := t.fleet(ctx, codec)
	if err != nil {
		return nil, err
	}
	reads, err := t.readHeads(ctx, codec)
	if err != nil {
		return nil, err
	}
	a := &Adoption{StoreID: codec.StoreID(), Validators: len(reports), codec: codec}
	heads, known := make([]record.Cursor, len(reads)), t.floorOf(codec)
	for i, read := range reads {
		if read.Err != nil {
			return nil, read.Err
		}
		if read.Raw == nil {
			a.Missing = append(a.Missing, i)
			// Processes have seen where the lost head was, and would refuse a store that comes before it.
			end, err := t.endOfLog(ctx, codec, i)
			if err != nil {
				return nil, err
			}
			known[i] = record.Highest(known[i], end)
			continue
		}
		head, err := codec.OpenHead(i, read.Raw)
		if err != nil {
			return nil, fmt.Errorf("%s does not verify, so the store cannot be adopted (countersign store repair): %w",
				record.KeysOf(i).Head, err)
		}
		heads[i] = head.Cursor
		known[i] = record.Highest(known[i], head.Cursor)
	}
	tops, ignored := furthest(reports, known)
	a.Ignored = listed(ignored)
	for i, read := range reads {
		at, top := heads[i], tops[i]
		switch {
		case !at.Before(top):
		case top.Epoch == at.Epoch:
			a.Losses = append(a.Losses, Loss{Partition: i, Epoch: top.Epoch, From: at.Revision + 1, To: top.Revision})
		case read.Raw == nil:
			a.Losses = append(a.Losses, Loss{Partition: i, Epoch: top.Epoch, To: top.Revision})
		default:
			a.Losses = append(a.Losses, Loss{Partition: i, Epoch: top.Epoch, From: 1, To: top.Revision})
		}
		start, err := above(known[i], top, record.Cursor{Epoch: aboveEpoch})
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", i, err)
		}
		a.above = append(a.above, record.Cursor{Epoch: start.Epoch - 1, Revision: start.Revision - 1})
	}
	a.Losses, a.Missing = listed(a.Losses), listed(a.Missing)
	return a, nil
}

// Adopt accepts the store as it is. Every partition begins a new epoch above everything that is known.
func (t *Tools) Adopt(ctx context.Context, a *Adoption) error {
	meta, err := record.SealMeta(t.ring, a.codec.Meta())
	if err != nil {
		return err
	}
	var commands []string
	for i := range a.codec.Partitions() {
		keys := record.KeysOf(i)
		commands = append(commands, "XADD "+keys.Log+" * s x", "XADD "+keys.Audit+" * e x", "HSET "+keys.Policies+" app x",
			"SET "+keys.Head+" x")
	}
	if err := store.CheckRights(ctx, t.client, record.MetaKey, commands...); err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	options := store.Options{Meta: meta}
	r := replica.New(redisfeed.New(t.client, a.codec.Partitions()), a.codec, quiet)
	s := store.New(store.Over(t.client, a.codec.Partitions(), options), r, options, quiet)
	var starts []record.Cursor
	for i, above := range a.above {
		start, err := s.Adopt(ctx, i, []record.Cursor{above}, countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED)
		if err != nil {
			return fmt.Errorf("partition %d: %w; the partitions before it are adopted: give the same command again", i, err)
		}
		starts = append(starts, start)
	}
	a.Epochs = epochsOf(starts)
	return nil
}
