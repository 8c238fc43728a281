package tools

import (
	"context"
	"errors"

	"github.com/countersign/countersign/pkg/snapshot"
)

// ErrDamaged says that a store or a file does not verify. The findings are in the result beside it.
var ErrDamaged = errors.New("not everything verifies")

// BackedUp is the result of a backup.
type BackedUp struct {
	StoreID string `json:"storeId"`
	File    string `json:"file"`
	Totals  Totals `json:"totals"`
	// Findings are the records that do not verify. The file has them as they are in Redis.
	Findings []Finding `json:"findings"`
}

// Backup writes a whole store to a file, and replaces an existing file. Each partition is saved in one
// consistent state. When a record does not verify, Backup fails with ErrDamaged and writes nothing, unless
// damage is allowed.
func (t *Tools) Backup(ctx context.Context, path string, allowDamaged bool) (BackedUp, error) {
	codec, err := t.codec(ctx)
	if err != nil {
		return BackedUp{}, err
	}
	file, err := snapshot.Create(path, t.ring, codec.Meta(), snapshot.Backup)
	if err != nil {
		return BackedUp{}, err
	}
	defer file.Discard()
	c := &checker{codec: codec, next: fileTarget{file}}
	source := t.reader(codec)
	source.find = c.find
	if err := errors.Join(source.export(ctx, c), c.finish()); err != nil {
		return BackedUp{}, err
	}
	done := BackedUp{StoreID: codec.StoreID(), File: path, Totals: c.totals, Findings: listed(c.findings)}
	if len(c.findings) > 0 && !allowDamaged {
		return done, ErrDamaged
	}
	return done, file.Commit()
}

// fileTarget is a sink that ignores the end of a partition.
type fileTarget struct{ snapshot.Sink }

func (fileTarget) done(proof) error { return nil }
