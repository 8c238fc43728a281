package store

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/redisfeed"
)

const (
	// upkeepKey names the authority that does the upkeep at present.
	upkeepKey = "csu:upkeep"
	// noticesKey is a hash with the notices that were found, by id.
	noticesKey = "csu:notices"
	// errandTimeout bounds each call of an Errands.
	errandTimeout = 2 * time.Second
)

// Errands lets authorities share the work that one of them does for all: who does it, and the outbox of
// notices. It is safe for concurrent use.
type Errands struct{ client *redisfeed.Client }

// NewErrands returns the shared work in a Redis, which need not be the one of the store. The caller closes
// the client.
func NewErrands(client *redisfeed.Client) *Errands { return &Errands{client} }

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
	err = e.onMaster(ctx, upkeepKey, "string", func(ctx context.Context, c *redis.Conn) error {
		done, err := c.Eval(ctx, lease, []string{upkeepKey}, owner, life.Milliseconds()).Int()
		held = done == 1
		return err
	})
	return held, err
}

// addNotices adds the fields that are new. KEYS: the outbox. ARGV: ids and entries.
const addNotices = `
for i = 1, #ARGV, 2 do
  if not redis.call('HGET', KEYS[1], ARGV[i]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return 1
`

// AddNotices adds entries to the outbox, by notice id. An entry that is there stays as it is.
func (e *Errands) AddNotices(ctx context.Context, entries map[string][]byte) error {
	if len(entries) == 0 {
		return nil
	}
	args := make([]any, 0, 2*len(entries))
	for id, raw := range entries {
		args = append(args, id, raw)
	}
	return e.onMaster(ctx, noticesKey, "hash", func(ctx context.Context, c *redis.Conn) error {
		return c.Eval(ctx, addNotices, []string{noticesKey}, args...).Err()
	})
}

// Notices returns the outbox, by notice id.
func (e *Errands) Notices(ctx context.Context) (entries map[string]string, err error) {
	err = e.onMaster(ctx, noticesKey, "hash", func(ctx context.Context, c *redis.Conn) (err error) {
		entries, err = c.HGetAll(ctx, noticesKey).Result()
		return err
	})
	return entries, err
}

// PutNotice replaces an entry of the outbox.
func (e *Errands) PutNotice(ctx context.Context, id string, raw []byte) error {
	return e.onMaster(ctx, noticesKey, "hash", func(ctx context.Context, c *redis.Conn) error {
		return c.HSet(ctx, noticesKey, id, raw).Err()
	})
}

// RemoveNotices removes entries from the outbox.
func (e *Errands) RemoveNotices(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return e.onMaster(ctx, noticesKey, "hash", func(ctx context.Context, c *redis.Conn) error {
		return c.HDel(ctx, noticesKey, ids...).Err()
	})
}

func (e *Errands) onMaster(ctx context.Context, key, kind string, call func(context.Context, *redis.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, errandTimeout)
	defer cancel()
	err := e.client.OnMaster(ctx, key, func(c *redis.Conn) error { return call(ctx, c) })
	return redisfeed.Typed(key, kind, err)
}
