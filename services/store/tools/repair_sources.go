package tools

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/snapshot"
)

// codecOf returns the codec of the first file's store, for a Redis whose meta is missing.
func (t *Tools) codecOf(files []string, why error) (*record.Codec, error) {
	if len(files) == 0 && errors.Is(why, errNoMeta) {
		return nil, why
	}
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

// sources reads the files, by partition.
func (t *Tools) sources(ctx context.Context, codec *record.Codec, files []string) ([]*evidence, error) {
	all := make([]*evidence, codec.Partitions())
	for i := range all {
		all[i] = &evidence{codec: codec, partition: i}
	}
	for _, path := range files {
		if err := t.addSource(ctx, codec, path, all); err != nil {
			return nil, aboutFile(path, err)
		}
	}
	return all, nil
}

func (t *Tools) addSource(ctx context.Context, codec *record.Codec, path string, to []*evidence) error {
	file, err := snapshot.Open(path, t.ring)
	if err != nil {
		return err
	}
	defer file.Close()
	if of := file.Meta(); of.StoreID != codec.StoreID() || of.Partitions != codec.Partitions() {
		return errors.New("the file is of another store")
	}
	if file.Kind() == snapshot.Backup {
		g := &collector{codec: codec, to: func(h *holdings) {
			to[h.proof.partition].files = append(to[h.proof.partition].files,
				h)
		}}
		c := &checker{codec: codec, next: g, onlyGood: true}
		return errors.Join(file.Backup(interruptible{ctx, c}), c.finish())
	}
	return file.Replicas(func(c replica.Contents) error {
		for _, raw := range append(slices.Clone(c.Links), c.Orphans...) {
			if e, err := codec.OpenUnlabelled(c.Partition, raw); err == nil {
				to[c.Partition].found = append(to[c.Partition].found, logEntry{e, e.Raw(raw)})
			}
		}
		return ctx.Err()
	})
}

// collector is a target that collects the holdings of each partition.
type collector struct {
	codec *record.Codec
	to    func(*holdings)
	*holdings
}

// Partition implements snapshot.Sink.
func (g *collector) Partition(number int, _ []byte) error {
	g.holdings = newHoldings(g.codec)
	g.proof.partition = number
	return nil
}

func (g *collector) done(p proof) error {
	g.to(g.holdings)
	return g.holdings.done(p)
}
