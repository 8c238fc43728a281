package store

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
)

// fleetTimeout bounds each call of a Fleet except Listen.
const fleetTimeout = 2 * time.Second

// Fleet reads and writes the validators that report to the authorities, and carries messages between
// authorities (record.FleetKey). It is safe for concurrent use.
type Fleet struct{ client *redisfeed.Client }

// NewFleet returns the fleet of a store. The caller closes the client.
func NewFleet(client *redisfeed.Client) *Fleet { return &Fleet{client} }

// Names returns the names of all validators in the fleet's hash.
func (f *Fleet) Names(ctx context.Context) (names []string, err error) {
	err = f.onMaster(ctx, func(ctx context.Context, c *redis.Conn) (err error) {
		names, err = c.HKeys(ctx, record.FleetKey).Result()
		return err
	})
	return names, err
}

// Read returns the records of some validators, or of all when no names are given. Missing names are left out.
func (f *Fleet) Read(ctx context.Context, names ...string) (map[string]string, error) {
	found := map[string]string{}
	err := f.onMaster(ctx, func(ctx context.Context, c *redis.Conn) (err error) {
		if len(names) == 0 {
			found, err = c.HGetAll(ctx, record.FleetKey).Result()
			return err
		}
		values, err := c.HMGet(ctx, record.FleetKey, names...).Result()
		for i, value := range values {
			if raw, there := value.(string); there {
				found[names[i]] = raw
			}
		}
		return err
	})
	return found, err
}

// Write replaces the records of some validators.
func (f *Fleet) Write(ctx context.Context, records map[string][]byte) error {
	if len(records) == 0 {
		return nil
	}
	pairs := make([]any, 0, 2*len(records))
	for name, raw := range records {
		pairs = append(pairs, name, raw)
	}
	return f.onMaster(ctx, func(ctx context.Context, c *redis.Conn) error {
		return c.HSet(ctx, record.FleetKey, pairs...).Err()
	})
}

// enroll replaces validators together with the list of members, if the stored list is still the expected one.
// A missing list counts as empty. KEYS: the fleet. ARGV: 1 field of the list, 2 expected list, 3 new list,
// then names and records.
const enroll = `
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then
  return 0
end
for i = 4, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
`

// Enroll replaces some validators together with the list of members. Done is false when the stored list is
// not the expected one.
func (f *Fleet) Enroll(ctx context.Context, before, after []byte, records map[string][]byte) (done bool, err error) {
	args := []any{record.MembersField, before, after}
	for name, raw := range records {
		args = append(args, name, raw)
	}
	err = f.onMaster(ctx, func(ctx context.Context, c *redis.Conn) (err error) {
		done, err = c.Eval(ctx, enroll, []string{record.FleetKey}, args...).Bool()
		return err
	})
	return done, err
}

// clear removes a key that is no hash. SET with a time to live of 1 ms is the only means that the authority's
// account has for that.
const clear = `
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'hash' or kind == 'none' then
  return 0
end
redis.call('SET', KEYS[1], '', 'PX', 1)
return 1
`

// BeginFleet writes an empty list of members where a store has none, and reports whether it did. Since is the
// store's creation time for a new store, which has no members (see record.Members.BegunWith). With replace it
// also replaces a list that does not verify, since such a list belongs to another store.
func BeginFleet(ctx context.Context, client *redisfeed.Client, codec *record.Codec, since time.Time,
	replace bool,
) (begun bool, err error) {
	found, err := client.HMGet(ctx, record.FleetKey, record.MembersField).Result()
	if err != nil {
		return false, redisfeed.Typed(record.FleetKey, "hash", err)
	}
	if raw, there := found[0].(string); there {
		if !replace {
			return false, nil
		}
		if _, err := codec.OpenMembers([]byte(raw)); err == nil {
			return false, nil
		}
	}
	list, err := codec.SealMembers(record.NewMembers(since))
	if err != nil {
		return false, err
	}
	return true, client.HSet(ctx, record.FleetKey, record.MembersField, list).Err()
}

// Mend removes the fleet's key when it is no hash, and reports whether it did.
func (f *Fleet) Mend(ctx context.Context) (mended bool, err error) {
	err = f.onMaster(ctx, func(ctx context.Context, c *redis.Conn) (err error) {
		mended, err = c.Eval(ctx, clear, []string{record.FleetKey}).Bool()
		return err
	})
	return mended, err
}

// Remove removes the records of some validators.
func (f *Fleet) Remove(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	return f.onMaster(ctx, func(ctx context.Context, c *redis.Conn) error {
		return c.HDel(ctx, record.FleetKey, names...).Err()
	})
}

func (f *Fleet) onMaster(ctx context.Context, call func(context.Context, *redis.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	err := f.client.OnMaster(ctx, record.FleetKey, func(c *redis.Conn) error { return call(ctx, c) })
	return redisfeed.Typed(record.FleetKey, "hash", err)
}

// Tell publishes a message to the other authorities. Authorities that do not listen at that moment miss it.
func (f *Fleet) Tell(ctx context.Context, news []byte) error {
	ctx, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	return f.client.Publish(ctx, record.FleetKey, news).Err()
}

// Listen calls each for every message of the authorities, including this one, until ctx ends or the
// connection fails.
func (f *Fleet) Listen(ctx context.Context, each func(news []byte)) error {
	return f.client.Listen(ctx, []string{record.FleetKey}, func(_, payload string) { each([]byte(payload)) })
}
