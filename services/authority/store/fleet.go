package store

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
)

// fleetTimeout bounds each call of a Fleet but Listen.
const fleetTimeout = 2 * time.Second

// Fleet is where authorities keep the validators that report to them, by name, and tell each other what changes
// (record.FleetKey). It is safe for concurrent use.
type Fleet struct{ client *redisfeed.Client }

// NewFleet returns the fleet of a store. The client stays the caller's to close.
func NewFleet(client *redisfeed.Client) *Fleet { return &Fleet{client} }

// Names returns the names of all validators that are there at the time of the call.
func (f *Fleet) Names(ctx context.Context) (names []string, err error) {
	err = f.onMaster(ctx, func(ctx context.Context, c *redis.Conn) (err error) {
		names, err = c.HKeys(ctx, record.FleetKey).Result()
		return err
	})
	return names, err
}

// Read returns some validators, without names all. Those that are not there are left out.
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

// Write replaces some validators.
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

// Remove removes some validators.
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

// Tell tells the other authorities. Whoever does not listen does not hear it.
func (f *Fleet) Tell(ctx context.Context, news []byte) error {
	ctx, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	return f.client.Publish(ctx, record.FleetKey, news).Err()
}

// Listen calls each for what the authorities tell, this one included, until ctx ends or nothing is heard any more.
func (f *Fleet) Listen(ctx context.Context, each func(news []byte)) error {
	return f.client.Listen(ctx, []string{record.FleetKey}, func(_, payload string) { each([]byte(payload)) })
}
