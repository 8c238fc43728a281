package faults

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
)

// tearLog kills a master and cuts the end off its append-only file. Its last acknowledged changes are lost,
// also for its replicas, which copy it. The file may end within a transaction; Redis then replays half of it.
func tearLog(ctx context.Context, c *trouble, r *rand.Rand) error {
	if !c.operator.prepared() { // half of a transaction may need a backup to repair
		return errNotNow
	}
	d := &damage{what: "torn append-only file", partition: everyPartition}
	how := oneOf(r, []tear{tearAnywhere, tearHalf})
	err := c.killAndLose(ctx, "append-only file torn", tornLost, r, func(n *node) (func() error, error) {
		path, err := n.appendOnlyFile()
		if err != nil {
			return nil, err
		}
		kept, err := os.Stat(path) // everything that is acknowledged now is in the file
		if err != nil {
			return nil, err
		}
		return func() error {
			full, err := os.ReadFile(path)
			if err != nil || int64(len(full)) <= kept.Size() {
				return errors.Join(err, errNotNow)
			}
			torn, what := how(full, int(kept.Size()), r)
			c.note("%s", what)
			// Record the damage before any client can reach the server.
			d.from = c.oracle.now()
			c.oracle.damage(d)
			return os.WriteFile(path, torn, 0o600)
		}, nil
	})
	defer c.oracle.repaired(d)
	if err != nil {
		return err
	}
	// Redis may have replayed half of a transaction: then documents and head of the partition differ.
	used := c.makeGood(context.WithoutCancel(ctx), d.what, r, func() bool { return false })
	if used == byMending || used == byRestoring {
		c.stats.reach(tornMended)
	}
	return nil
}
