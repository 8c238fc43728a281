package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// moveSlots moves some slots with partitions to another master. Older copies are useless afterwards: they
// hold keys of slots that are elsewhere.
func moveSlots(ctx context.Context, c *trouble, r *rand.Rand) error {
	c.backups.moved()
	defer c.backups.moved()
	moved := false
	for range 1 + r.IntN(3) {
		did, err := c.moveSlot(ctx, r.IntN(c.codec.Partitions()), r)
		if err != nil {
			return err
		}
		moved = moved || did
	}
	if !moved {
		return errNotNow
	}
	return nil
}

// moveSlot moves the slot of a partition, key by key, with retries (Redis, CLUSTER SETSLOT). Moved is false
// when the slot was there before.
func (c *campaign) moveSlot(ctx context.Context, partition int, r *rand.Rand) (moved bool, _ error) {
	to := oneOf(r, c.topology.groups)
	wait := upTo(r, 300*time.Millisecond)
	ctx = context.WithoutCancel(ctx) // nobody could use a slot that is moved half-way
	var slot int64
	step := func() error {
		target := to.current()
		var err error
		if slot, err = target.direct.ClusterKeySlot(ctx, record.KeysOf(partition).Head).Result(); err != nil {
			return err
		}
		source, err := c.ownerOf(ctx, slot)
		if err != nil || source == target {
			return err
		}
		moved = true
		ids := map[*node]string{}
		for _, n := range []*node{source, target} {
			if ids[n], err = n.direct.Do(ctx, "CLUSTER", "MYID").Text(); err != nil {
				return err
			}
		}
		if err := target.direct.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source]).Err(); err != nil {
			return err
		}
		if err := source.direct.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target]).Err(); err != nil {
			return err
		}
		host, port, _ := strings.Cut(target.server.Address(), ":")
		for {
			keys, err := source.direct.ClusterGetKeysInSlot(ctx, int(slot), 10).Result()
			if err != nil {
				return err
			}
			if len(keys) == 0 {
				break
			}
			command := []any{
				"MIGRATE", host, port, "", 0, 5000, "REPLACE", "AUTH2", target.direct.Options().Username,
				target.direct.Options().Password, "KEYS",
			}
			for _, key := range keys {
				command = append(command, key)
			}
			if err := source.direct.Do(ctx, command...).Err(); err != nil {
				return err
			}
			time.Sleep(wait / 10)
		}
		time.Sleep(wait)
		for _, n := range []*node{target, source} {
			if err := n.direct.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", ids[target]).Err(); err != nil {
				return err
			}
		}
		return nil
	}
	var err error
	for range 200 {
		if err = step(); err == nil {
			return moved, nil
		}
		time.Sleep(pollInterval)
	}
	return moved, fmt.Errorf("slot %d could not be moved: %w", slot, err)
}

// ownerOf returns the master that owns a slot.
func (c *campaign) ownerOf(ctx context.Context, slot int64) (*node, error) {
	for _, g := range c.topology.groups {
		n := g.current()
		shards, err := n.direct.ClusterSlots(ctx).Result() //nolint:staticcheck // CLUSTER SHARDS shows no address behind a proxy
		if err != nil {
			return nil, err
		}
		for _, s := range shards {
			if int64(s.Start) <= slot && slot <= int64(s.End) && len(s.Nodes) > 0 && s.Nodes[0].Addr == n.server.PublicAddress() {
				return n, nil
			}
		}
	}
	return nil, errors.New("no master owns the slot")
}
