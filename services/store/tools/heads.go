package tools

import (
	"context"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
)

// meta reads the store's meta. It is the first read of every operation.
func (t *Tools) meta(ctx context.Context) (meta record.Meta, err error) {
	err = firstRead(ctx, func() (err error) {
		meta, err = t.client.Meta(ctx, t.ring)
		return err
	})
	return meta, err
}

// readHeads reads the keys of all heads. A head that Redis does not return has its own error. It fails when a
// master cannot be reached.
func (t *Tools) readHeads(ctx context.Context, codec *record.Codec) (heads []replica.HeadRead, err error) {
	feed := redisfeed.New(t.client, codec.Partitions())
	err = retry(ctx, func() (err error) {
		if heads, err = feed.Heads(ctx); err != nil {
			return err
		}
		for _, head := range heads {
			if isTransient(head.Err) {
				return head.Err
			}
		}
		return nil
	})
	return heads, err
}
