package storetools

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// eachMaster calls a function for every master of the Redis, one after the other.
func (t *Tools) eachMaster(ctx context.Context, f func(context.Context, redis.Cmdable) error) error {
	cluster, ok := t.client.UniversalClient.(*redis.ClusterClient)
	if !ok {
		return f(ctx, t.client.UniversalClient)
	}
	var one sync.Mutex
	return cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		one.Lock()
		defer one.Unlock()
		return f(ctx, master)
	})
}

// keys calls each for every key of ours, each at least once.
func (t *Tools) keys(ctx context.Context, each func(key string)) error {
	return t.eachMaster(ctx, func(ctx context.Context, master redis.Cmdable) error {
		for cursor := uint64(0); ; {
			var keys []string
			var next uint64
			err := again(ctx, func() (err error) {
				keys, next, err = master.Scan(ctx, cursor, "cs:*", 1000).Result()
				return err
			})
			if err != nil {
				return err
			}
			for _, key := range keys {
				each(key)
			}
			if next == 0 {
				return nil
			}
			cursor = next
		}
	})
}
