package tools

import (
	"context"
	"errors"

	"github.com/countersign/countersign/pkg/snapshot"
)

// ErrDamaged says that a store or a file does not verify; what was found comes with it.
var ErrDamaged = errors.New("not everything verifies")

// BackedUp is what a backup has come to.
type BackedUp struct {
	StoreID string `json:"storeId"`
	File    string `json:"file"`
	Totals  Totals `json:"totals"`
	// Findings are what does not verify; it is in the file as it stands in Redis.
	Findings []Finding `json:"findings"`
}

// Backup writes all of a store to a file, which takes the place of one that is there. Each partition is
// that of one moment. When something does not verify, it fails with ErrDamaged and writes nothing, unless
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

// fileTarget is a sink that need not know where a partition ends.
type fileTarget struct{ snapshot.Sink }

func (fileTarget) done(proof) error { return nil }
