package faults

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/services/store/tools"
)

// operator acts like an operator with docs/operations.md: takes backups, and restores the latest one when
// nobody can supply what the store has lost.
type operator struct {
	tools *tools.Tools
	path  string
	// acting is locked during a backup or a restoration.
	acting sync.Mutex
	// taken is a moment before everything that the latest backup may lack; 0 when there is no backup.
	taken moment
	// heads are the heads of the store when the backup began.
	heads map[int]record.Head
	// restored is when the store was last restored; 0 is never.
	restored moment
}

const (
	// operatorBackup is the pause between two backups.
	operatorBackup = 5 * time.Second
	// operatorPatience is how long an operator waits for the store to heal by itself.
	operatorPatience = 8 * time.Second
	// operatorTimeout bounds a backup or a restoration.
	operatorTimeout = time.Minute
)

const notRestored = "the latest backup could not be restored"

// keepBackups takes a backup now and then, while the store lacks nothing.
func (o *operator) keepBackups(ctx context.Context, c *campaign) {
	for ; ctx.Err() == nil; pause(ctx, operatorBackup) {
		o.backup(ctx, c)
	}
}

func (o *operator) backup(ctx context.Context, c *campaign) {
	o.acting.Lock()
	defer o.acting.Unlock()
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	if c.oracle.lacking() {
		return
	}
	at := c.oracle.now()
	before, err := c.lookNow(ctx)
	if err != nil {
		return
	}
	// A backup fails when Redis is out of reach, and is worthless when the store has just lost something.
	next := o.path + ".next"
	if _, err := o.tools.Backup(ctx, next, false); err == nil && !c.oracle.lacking() {
		if os.Rename(next, o.path) == nil {
			o.taken, o.heads = at, before.heads
		}
	}
}

// prepared reports whether there is a backup.
func (o *operator) prepared() bool { o.acting.Lock(); defer o.acting.Unlock(); return o.taken != 0 }

// restoredLoss and mendedLoss name the losses that a restoration and a repair cause.
const (
	restoredLoss = "restored by the operator"
	mendedLoss   = "mended by the operator"
)

// restore replaces the store by the latest backup, unless that was done since a moment. Changes after the
// backup that nobody holds are lost.
func (o *operator) restore(ctx context.Context, c *campaign, since moment) error {
	o.acting.Lock()
	defer o.acting.Unlock()
	if o.restored > since {
		return nil
	}
	defer func() { o.restored = c.oracle.now() }()
	if o.taken == 0 {
		return errors.New("there is no backup yet")
	}
	return o.replaceStore(ctx, c, restoredLoss, func(ctx context.Context, above uint64) error {
		_, err := again(func() (tools.Restored, error) {
			return o.tools.Restore(ctx, o.path, tools.RestoreOptions{Replace: true, AboveEpoch: above})
		})
		return err
	})
}

// mend repairs the store: it keeps what can be proven and takes the rest from the latest backup. It also
// repairs a store that has lost changes: running processes bring them back.
func (o *operator) mend(ctx context.Context, c *campaign) error {
	o.acting.Lock()
	defer o.acting.Unlock()
	return o.replaceStore(ctx, c, mendedLoss, func(ctx context.Context, above uint64) error {
		_, err := again(func() (*tools.RepairPlan, error) {
			plan, err := o.tools.PlanRepair(ctx, tools.RepairOptions{Files: []string{o.path}, AboveEpoch: above, AcceptLoss: true})
			if err == nil {
				err = o.tools.Repair(ctx, plan)
			}
			return plan, err
		})
		return err
	})
}

// replaceStore replaces the content of the store, in an epoch above the highest that a validator has seen.
// The new content may lack what came after the latest backup.
func (o *operator) replaceStore(ctx context.Context, c *campaign, what string,
	do func(ctx context.Context, above uint64) error,
) error {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	l := &loss{What: what, Floor: o.taken, From: c.oracle.now(), Whole: true, Restored: true, held: c.holders(o.heads)}
	c.oracle.open(l)
	defer c.healings.Go(func() { c.awaitHealed(context.WithoutCancel(ctx), l) })
	highest := uint64(0)
	for _, s := range c.seats {
		if e := s.now.Load(); e != nil && e.Replica() != nil {
			for _, at := range e.Replica().Cursors() {
				highest = max(highest, at.Epoch)
			}
		}
	}
	return do(ctx, highest)
}

// verify proves the whole store.
func (o *operator) verify(ctx context.Context) (tools.Verified, error) {
	return again(func() (tools.Verified, error) { return o.tools.Verify(ctx) })
}

// again tries a command up to three times, like an operator: right after a failover, the first try may use a
// connection to the old master.
func again[T any](command func() (T, error)) (result T, err error) {
	for range 3 {
		if result, err = command(); err == nil {
			break
		}
	}
	return result, err
}

// notAsked reports whether a command failed because it did not reach Redis. Such a failure says nothing about
// the store.
func notAsked(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || redisfeed.NotRun(err)
}

func newOperator(tools *tools.Tools, folder string) *operator {
	return &operator{tools: tools, path: filepath.Join(folder, "store.backup")}
}
