package tools

import (
	"errors"
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
)

// begun reports whether a restoration of the same store was interrupted.
func (r *restorer) begun(meta record.Meta) (bool, error) {
	var raw []byte
	err := retry(r.ctx, func() (err error) {
		raw, err = r.client.Get(r.ctx, restoreKey).Bytes()
		return err
	})
	if errors.Is(err, redis.Nil) || redisfeed.IsWrongType(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	begun, err := record.OpenMeta(r.ring, raw)
	return err == nil && begun.StoreID == meta.StoreID, nil
}

// leftover matches the temporary keys of a run.
var leftover = regexp.MustCompile(`^cs:\{cs\d{2,3}\}:(policies|log|audit):restore-[0-9a-f]{8}$`)

func (r *restorer) removeLeftovers() error {
	return r.remove(func(key string) bool { return leftover.MatchString(key) && !strings.HasSuffix(key, r.run) })
}

func (r *restorer) remove(unwanted func(key string) bool) error {
	var keys []string
	if err := r.keys(r.ctx, func(key, _ string) {
		if unwanted(key) {
			keys = append(keys, key)
		}
	}); err != nil {
		return err
	}
	for _, key := range keys {
		if err := r.client.Unlink(r.ctx, key).Err(); err != nil {
			return err
		}
	}
	return nil
}
