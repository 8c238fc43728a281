package faults

import (
	"context"
	"math/rand/v2"
)

// restoreWhileWriting restores the latest backup, some seconds old, into a store that is being changed.
// Validators must bring back the changes that they hold beyond it (B30).
func restoreWhileWriting(ctx context.Context, c *trouble, _ *rand.Rand) error {
	if c.oracle.lacking() || !c.operator.prepared() {
		return errNotNow
	}
	// an interrupted restoration is another fault
	return c.operator.restore(context.WithoutCancel(ctx), c.campaign, c.oracle.now())
}

// wipeAfterRestore empties a store right after a restoration: no link that anybody holds contains what was
// restored.
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
