package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/record"
)

// spoiling is one way to damage a key unnoticed, like an attacker or an operator's mistake.
type spoiling struct {
	name string
	// kinds are the types of Redis values that this way can damage.
	kinds []string
	// do damages the key. It returns errNotNow when there is nothing to damage.
	do func(ctx context.Context, c *redis.Client, key string, r *rand.Rand) error
}

// The families of spoilings, named after the fault that inflicts them.
var (
	wrongTypes = []spoiling{
		{"a string", []string{"hash", "stream"}, replace(func(ctx context.Context, c redis.Cmdable,
			key string,
		) {
			c.Set(ctx, key, "garbage", 0)
		})},
		{
			"a list",
			[]string{"string", "hash", "stream"},
			replace(func(ctx context.Context, c redis.Cmdable, key string) { c.RPush(ctx, key, "garbage") }),
		},
		{
			"a set",
			[]string{"string", "hash", "stream"},
			replace(func(ctx context.Context, c redis.Cmdable, key string) { c.SAdd(ctx, key, "garbage") }),
		},
		{"a hash", []string{"string", "stream"}, replace(func(ctx context.Context, c redis.Cmdable,
			key string,
		) {
			c.HSet(ctx, key, "garbage", "garbage")
		})},
		{"a stream", []string{"string", "hash"}, replace(func(ctx context.Context, c redis.Cmdable, key string) {
			c.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: []string{"garbage", "garbage"}})
		})},
	}
	garbage = []spoiling{
		{"garbage", []string{"string"}, func(ctx context.Context, c *redis.Client, key string, r *rand.Rand) error {
			return c.Set(ctx, key, noise(r), 0).Err()
		}},
		{"a flipped bit", []string{"string"}, func(ctx context.Context, c *redis.Client, key string, r *rand.Rand) error {
			raw, err := c.Get(ctx, key).Bytes()
			if err != nil {
				return err
			}
			return c.Set(ctx, key, flip(raw, r), 0).Err()
		}},
		{"garbage in a field", []string{"hash"}, onField(func(raw string, r *rand.Rand) string { return noise(r) })},
		{
			"a flipped bit in a field",
			[]string{"hash"},
			onField(func(raw string, r *rand.Rand) string { return flip([]byte(raw), r) }),
		},
		{"an empty field", []string{"hash"}, onField(func(string, *rand.Rand) string { return "" })},
		{"an entry after the last", []string{"stream"}, entry("*")},
		{"an entry with the greatest id", []string{"stream"}, entry("18446744073709551615-18446744073709551615")},
		{"an entry less", []string{"stream"}, func(ctx context.Context, c *redis.Client, key string, r *rand.Rand) error {
			entries, err := c.XRevRangeN(ctx, key, "+", "-", 10).Result()
			if err != nil || len(entries) == 0 {
				return errors.Join(err, errNotNow)
			}
			return c.XDel(ctx, key, oneOf(r, entries).ID).Err()
		}},
	}
	added = []spoiling{
		{"a field that is garbage", []string{"hash"}, func(ctx context.Context, c *redis.Client, key string, r *rand.Rand) error {
			name := oneOf(r, []string{"", "stranger", "\xff\x00\n", strings.Repeat("x", 70_000), "app-w0-1000000"})
			return c.HSet(ctx, key, name, noise(r)).Err()
		}},
		{
			"a field that is a copy of another",
			[]string{"hash"},
			func(ctx context.Context, c *redis.Client, key string, r *rand.Rand) error {
				return onRandomField(ctx, c, key, func(_, raw string) error { return c.HSet(ctx, key, "stranger", raw).Err() })
			},
		},
	}
	removed = []spoiling{
		{
			"removed",
			[]string{"string", "hash", "stream"},
			func(ctx context.Context, c *redis.Client, key string, _ *rand.Rand) error {
				return c.Del(ctx, key).Err()
			},
		},
		{"a field less", []string{"hash"}, func(ctx context.Context, c *redis.Client, key string, _ *rand.Rand) error {
			return onRandomField(ctx, c, key, func(field, _ string) error { return c.HDel(ctx, key, field).Err() })
		}},
	}
	replayed = []spoiling{
		{"as it was before", []string{"string"}, func(ctx context.Context, c *redis.Client, key string, r *rand.Rand) error {
			was, err := c.Get(ctx, key).Result()
			if err != nil {
				return err
			}
			return untilDone(ctx, func() (bool, error) {
				is, err := c.Get(ctx, key).Result()
				if err != nil || is == was {
					return false, err
				}
				return true, c.Set(ctx, key, was, 0).Err()
			})
		}},
		{"a field as it was before", []string{"hash"}, func(ctx context.Context, c *redis.Client, key string, r *rand.Rand) error {
			was, err := c.HGetAll(ctx, key).Result()
			if err != nil {
				return err
			}
			return untilDone(ctx, func() (bool, error) {
				is, err := c.HGetAll(ctx, key).Result()
				for field, raw := range was {
					if is[field] != "" && is[field] != raw {
						return true, c.HSet(ctx, key, field, raw).Err()
					}
				}
				return false, err
			})
		}},
	}
)

// replace atomically replaces the value of a key by a value of another type.
func replace(put func(context.Context, redis.Cmdable, string)) func(context.Context, *redis.Client, string,
	*rand.Rand) error {
	return func(ctx context.Context, c *redis.Client, key string, _ *rand.Rand) error {
		_, err := c.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Del(ctx, key)
			put(ctx, pipe, key)
			return nil
		})
		return err
	}
}

// entry adds an entry to a stream.
func entry(id string) func(context.Context, *redis.Client, string, *rand.Rand) error {
	return func(ctx context.Context, c *redis.Client, key string, r *rand.Rand) error {
		if id == "*" {
			info, err := c.XInfoStream(ctx, key).Result()
			if err != nil {
				return err
			}
			var last uint64
			if _, err := fmt.Sscanf(info.LastGeneratedID, "%d-", &last); err != nil {
				return err
			}
			id := fmt.Sprintf("%d-0", last+1)
			return c.XAdd(ctx, &redis.XAddArgs{
				Stream: key, ID: id,
				Values: []string{oneOf(r, []string{"l", "s", "e", "garbage"}), noise(r)},
			}).Err()
		}
		return c.XAdd(ctx, &redis.XAddArgs{
			Stream: key, ID: id,
			Values: []string{oneOf(r, []string{"l", "s", "e", "garbage"}), noise(r)},
		}).Err()
	}
}

// onField changes one field of a hash.
func onField(change func(string, *rand.Rand) string) func(context.Context, *redis.Client, string, *rand.Rand) error {
	return func(ctx context.Context, c *redis.Client, key string, r *rand.Rand) error {
		return onRandomField(ctx, c, key, func(field, raw string) error { return c.HSet(ctx, key, field, change(raw, r)).Err() })
	}
}

func onRandomField(ctx context.Context, c *redis.Client, key string, do func(field, raw string) error) error {
	found, err := c.HRandFieldWithValues(ctx, key, 1).Result()
	if err != nil || len(found) == 0 {
		return errors.Join(err, errNotNow)
	}
	return do(found[0].Key, found[0].Value)
}

// untilDone repeats an attempt for some seconds, until it succeeds.
func untilDone(ctx context.Context, try func() (done bool, err error)) error {
	for until := time.Now().Add(4 * time.Second); time.Now().Before(until) && ctx.Err() == nil; pause(ctx, 5*time.Millisecond) {
		if done, err := try(); done || err != nil {
			return err
		}
	}
	return errNotNow
}

func noise(r *rand.Rand) string {
	raw := make([]byte, 1+r.IntN(300))
	for i := range raw {
		raw[i] = byte(r.Uint32())
	}
	return string(raw)
}

func flip(raw []byte, r *rand.Rand) string {
	if len(raw) == 0 {
		return noise(r)
	}
	raw[r.IntN(len(raw))] ^= 1 << r.IntN(8)
	return string(raw)
}

// target is an existing key, which a spoiling can damage.
type target struct {
	name string
	// partition is the partition of the key; everyPartition for a key of the whole store.
	partition int
	node      *node
	kind      string
}

// everyPartition is the partition of keys of the whole store.
const everyPartition = -1

// target returns a random existing key.
func (c *campaign) target(ctx context.Context, r *rand.Rand) (t target, err error) {
	t.partition = r.IntN(c.codec.Partitions())
	keys := record.KeysOf(t.partition)
	switch r.IntN(14) {
	case 0, 1, 2:
		t.name = keys.Head
	case 3, 4, 5:
		t.name = keys.Policies
	case 6, 7:
		t.name = keys.Log
	case 8, 9:
		t.name = keys.Audit
	case 10:
		t.name, t.partition = record.MetaKey, everyPartition
	case 11, 12:
		t.name, t.partition = record.FleetKey, everyPartition
	default:
		return c.requestKey(ctx)
	}
	return c.find(ctx, t)
}

// find finds the master that has a key, and the type of the key.
func (c *campaign) find(ctx context.Context, t target) (target, error) {
	var errs []error
	for _, g := range c.topology.groups {
		n := g.current()
		kind, err := n.direct.Type(ctx, t.name).Result()
		if err == nil && kind != "none" {
			t.node, t.kind = n, kind
			return t, nil
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil && !strings.Contains(err.Error(), "MOVED") {
		return t, err
	}
	return t, errNotNow
}

// requestKey returns a key that holds the stored result of a request.
func (c *campaign) requestKey(ctx context.Context) (target, error) {
	for _, g := range c.topology.groups {
		for cursor := uint64(0); ; {
			keys, next, err := g.current().direct.Scan(ctx, cursor, "cs:{*}:request:*", 1000).Result()
			if err != nil {
				return target{}, err
			}
			if len(keys) > 0 {
				var partition int
				if _, err := fmt.Sscanf(keys[0], "cs:{cs%d}", &partition); err != nil {
					return target{}, err
				}
				return c.find(ctx, target{name: keys[0], partition: partition})
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	return target{}, errNotNow
}
