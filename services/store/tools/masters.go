package tools

import (
	"context"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// eachMaster calls f for every master of the Redis, one after the other.
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

// keys calls each at least once for every key of the store, with its type in Redis's words. The type is empty
// when the key is gone or its type may not be read.
func (t *Tools) keys(ctx context.Context, each func(key, kind string)) error {
	return t.eachMaster(ctx, func(ctx context.Context, master redis.Cmdable) error {
		for cursor := uint64(0); ; {
			var keys []string
			var next uint64
			err := retry(ctx, func() (err error) {
				keys, next, err = master.Scan(ctx, cursor, "cs:*", 1000).Result()
				return err
			})
			if err != nil {
				return err
			}
			kinds := make([]*redis.StatusCmd, len(keys))
			err = retry(ctx, func() error {
				pipe := master.Pipeline()
				for i, key := range keys {
					kinds[i] = pipe.Type(ctx, key)
				}
				_, err := pipe.Exec(ctx)
				return aboutConnection(err)
			})
			if err != nil {
				return err
			}
			for i, key := range keys {
				each(key, strings.TrimPrefix(kinds[i].Val(), "none"))
			}
			if next == 0 {
				return nil
			}
			cursor = next
		}
	})
}
