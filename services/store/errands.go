package store

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/redisfeed"
)

const (
	// errandTimeout bounds each call to Redis of an Errands, except for the read of the outbox.
	errandTimeout = 2 * time.Second
	// noticesTimeout bounds the read of the outbox, which takes many calls.
	noticesTimeout = 10 * time.Second
	// noticesAtOnce is how many entries of the outbox one call reads or writes. Redis serves nobody else
	// during a call: with 500 entries for a millisecond or two, with 100,000 entries for 100 ms.
	noticesAtOnce = 500
)

// Errands lets authorities share the work that one of them does for all: who does it, and the outbox of
// notices. It is safe for concurrent use.
type Errands struct {
	client *redisfeed.Client
	// upkeepKey names the authority that does the upkeep at present. noticesKey is a hash with the notices
	// that were found, by id.
	upkeepKey, noticesKey string
}

// NewErrands returns the shared work for a store in a Redis, which need not be the one of the store. The
// caller closes the client.
func NewErrands(client *redisfeed.Client, storeID string) *Errands {
	prefix := countsPrefix(storeID)
	return &Errands{client: client, upkeepKey: prefix + "upkeep", noticesKey: prefix + "notices"}
}

// lease takes or renews a lease. KEYS: the lease. ARGV: 1 owner, 2 milliseconds.
const lease = `
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
`

// Lease takes the lease on the shared work for a time, or renews it. It is false while another owner has it.
func (e *Errands) Lease(ctx context.Context, owner string, life time.Duration) (held bool, err error) {
	err = e.onMaster(ctx, e.upkeepKey, "string", func(ctx context.Context, c *redis.Conn) error {
		done, err := c.Eval(ctx, lease, []string{e.upkeepKey}, owner, life.Milliseconds()).Int()
		held = done == 1
		return err
	})
	return held, err
}

// addNotices adds the fields that are new, and returns their names. KEYS: the outbox. ARGV: ids and entries.
const addNotices = `
local added = {}
for i = 1, #ARGV, 2 do
  if not redis.call('HGET', KEYS[1], ARGV[i]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    added[#added + 1] = ARGV[i]
  end
end
return added
`

// AddNotices adds entries to the outbox, by notice id, and returns the ids that are new there. An entry that
// is there stays as it is.
func (e *Errands) AddNotices(ctx context.Context, entries map[string]string) (added []string, err error) {
	for some := range slices.Chunk(slices.Sorted(maps.Keys(entries)), noticesAtOnce) {
		args := make([]any, 0, 2*len(some))
		for _, id := range some {
			args = append(args, id, entries[id])
		}
		err := e.onMaster(ctx, e.noticesKey, "hash", func(ctx context.Context, c *redis.Conn) error {
			ids, err := c.Eval(ctx, addNotices, []string{e.noticesKey}, args...).StringSlice()
			added = append(added, ids...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return added, nil
}

// Notices returns the outbox, by notice id. The scan stays on one connection: another server would accept the
// scan's cursor and silently leave entries out (Redis, SCAN: guarantees). An entry that is added meanwhile
// may be missing.
func (e *Errands) Notices(ctx context.Context) (map[string]string, error) {
	entries := map[string]string{}
	err := e.within(ctx, noticesTimeout, e.noticesKey, "hash", func(ctx context.Context, c *redis.Conn) error {
		for cursor, begun := uint64(0), false; !begun || cursor != 0; begun = true {
			page, next, err := c.HScan(ctx, e.noticesKey, cursor, "", noticesAtOnce).Result()
			if err != nil {
				return err
			}
			for i := 0; i+1 < len(page); i += 2 {
				entries[page[i]] = page[i+1]
			}
			cursor = next
		}
		return nil
	})
	return entries, err
}

// PutNotice replaces an entry of the outbox, whatever it is now.
func (e *Errands) PutNotice(ctx context.Context, id, raw string) error {
	return e.onMaster(ctx, e.noticesKey, "hash", func(ctx context.Context, c *redis.Conn) error {
		return c.HSet(ctx, e.noticesKey, id, raw).Err()
	})
}

// replaceNotices replaces the fields that nobody has changed. KEYS: the outbox. ARGV: ids, entries as they
// were read, and new entries, which are empty to remove the field.
const replaceNotices = `
for i = 1, #ARGV, 3 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    if ARGV[i + 2] == '' then
      redis.call('HDEL', KEYS[1], ARGV[i])
    else
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    end
  end
end
return 1
`

// ReplaceNotices replaces entries of the outbox by those of to, and removes those that to does not have. An
// entry stays as it is when it is not as in from any more, since another authority has changed it.
func (e *Errands) ReplaceNotices(ctx context.Context, from, to map[string]string) error {
	for some := range slices.Chunk(slices.Sorted(maps.Keys(from)), noticesAtOnce) {
		args := make([]any, 0, 3*len(some))
		for _, id := range some {
			args = append(args, id, from[id], to[id])
		}
		err := e.onMaster(ctx, e.noticesKey, "hash", func(ctx context.Context, c *redis.Conn) error {
			return c.Eval(ctx, replaceNotices, []string{e.noticesKey}, args...).Err()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *Errands) onMaster(ctx context.Context, key, kind string, call func(context.Context, *redis.Conn) error) error {
	return e.within(ctx, errandTimeout, key, kind, call)
}

func (e *Errands) within(ctx context.Context, limit time.Duration, key, kind string,
	call func(context.Context, *redis.Conn) error,
) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := e.client.OnMaster(ctx, key, func(c *redis.Conn) error { return call(ctx, c) })
	return redisfeed.Typed(key, kind, err)
}
