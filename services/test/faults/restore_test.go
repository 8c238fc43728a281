package faults

import (
	"context"
	"math/rand/v2"
)

// restoreWhileWriting puts the latest backup, some seconds old, in the place of a store that is being
// changed. What validators hold beyond it has to be there again (B30).
func restoreWhileWriting(ctx context.Context, c *trouble, _ *rand.Rand) error {
	if c.oracle.lacking() || !c.operator.prepared() {
		return errNotNow
	}
	return c.operator.restore(context.WithoutCancel(ctx), c.campaign, c.oracle.now()) // half of one is another fault
}

// wipeAfterRestore empties a store of which the latest loss was a restoration: what was restored is in no
// link that anybody holds.
func wipeAfterRestore(ctx context.Context, c *trouble, r *rand.Rand) error {
	last := (*loss)(nil)
	for _, l := range *c.oracle.losses.Load() {
		if l.Whole {
			last = l
		}
	}
	if last == nil || !last.Restored || c.oracle.lacking() {
		return errNotNow
	}
	return c.wipe(ctx, "wiped after a restoration", r)
}
