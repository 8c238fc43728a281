package store

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/redisfeed"
)

const (
	// countsTimeout bounds each call of a Counts.
	countsTimeout = 5 * time.Second
	// countsLife is how long an app's counts are kept after the last ones were added, and batchLife how long
	// the number of an instance's last batch.
	countsLife = 36 * 24 * time.Hour
	batchLife  = 48 * time.Hour

	coverageKey = "csu:coverage"
)

//go:embed counts.lua
var countsScript string

// Counts reads and writes usage counts in Redis. Their keys begin with csu: and are not part of the store, so
// the Redis may be another one than that of the store. It is safe for concurrent use.
//
// All keys of a partition share the hash tag of the store's partition. For each app there is a hash, for each
// start of a validator a string with the number of the last batch that was added. One hash has how far the
// counts of each start of a validator are complete.
type Counts struct{ client *redisfeed.Client }

// NewCounts returns the counts in a Redis. The caller closes the client.
func NewCounts(client *redisfeed.Client) *Counts { return &Counts{client} }

// AppCounts are the counts of an app. The store does not know the form of the values.
type AppCounts struct {
	AppID string
	// Version is random, and new with each write. It is empty when Redis has nothing.
	Version string
	// Running, Hours and Days are nil when they are missing, or were not read.
	Running, Hours, Days []byte
}

// LastBatch is the number of the last batch of an instance that was added, 0 for none.
type LastBatch struct {
	InstanceID string
	Number     uint64
}

// CountsWrite is everything that the addition of some batches writes.
type CountsWrite struct {
	Partition int
	// Before has the last batches that were read, After those after the addition, in the same order. There is
	// at least one.
	Before, After []LastBatch
	// Apps have the versions that were read, and the new values. A nil value stays as it is.
	Apps []AppCounts
	// Version is the new version of all apps.
	Version string
}

func countsKey(partition int) string { return fmt.Sprintf("csu:{cs%02d}:", partition) }

func appCountsKey(partition int, appID string) string { return countsKey(partition) + "app:" + appID }

func lastBatchKey(partition int, instanceID string) string {
	return countsKey(partition) + "seen:" + instanceID
}

// Look reads the last batches of some instances, and the running counts of some apps, in one round trip. The
// results are in the order of the arguments.
func (c *Counts) Look(ctx context.Context, partition int, instances, apps []string) (last []LastBatch, counts []AppCounts,
	err error,
) {
	seen := make([]*redis.StringCmd, len(instances))
	found := make([]*redis.SliceCmd, len(apps))
	err = c.pipelined(ctx, partition, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, id := range instances {
			seen[i] = pipe.Get(ctx, lastBatchKey(partition, id))
		}
		for i, id := range apps {
			found[i] = pipe.HMGet(ctx, appCountsKey(partition, id), "v", "h")
		}
	})
	if err != nil {
		return nil, nil, err
	}
	for i, id := range instances {
		number, err := lastBatch(seen[i])
		if err != nil {
			return nil, nil, err
		}
		last = append(last, LastBatch{id, number})
	}
	counts, err = appCounts(apps, found)
	return last, counts, err
}

// lastBatch returns the number that a GET has read. A value that is no number counts as missing, as in the
// script.
func lastBatch(cmd *redis.StringCmd) (uint64, error) {
	text, err := cmd.Result()
	if errors.Is(err, redis.Nil) || redisfeed.IsWrongType(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the number of a last batch is damaged: %w", err)
	}
	return number, nil
}

// Read reads all counts of some apps. The results are in the order of the arguments.
func (c *Counts) Read(ctx context.Context, partition int, apps []string) ([]AppCounts, error) {
	found := make([]*redis.SliceCmd, len(apps))
	err := c.pipelined(ctx, partition, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, id := range apps {
			found[i] = pipe.HMGet(ctx, appCountsKey(partition, id), "v", "h", "p", "d")
		}
	})
	if err != nil {
		return nil, err
	}
	return appCounts(apps, found)
}

// appCounts returns what the HMGETs of some apps have read. A key of another type counts as missing: the next
// write replaces it.
func appCounts(apps []string, found []*redis.SliceCmd) ([]AppCounts, error) {
	all := make([]AppCounts, len(apps))
	for i, id := range apps {
		values, err := found[i].Result()
		if err != nil && !redisfeed.IsWrongType(err) {
			return nil, err
		}
		all[i].AppID = id
		for j, value := range values {
			text, there := value.(string)
			switch {
			case !there:
			case j == 0:
				all[i].Version = text
			case j == 1:
				all[i].Running = []byte(text)
			case j == 2:
				all[i].Hours = []byte(text)
			case j == 3:
				all[i].Days = []byte(text)
			}
		}
	}
	return all, nil
}

// pipelined sends commands to the master of a partition in one round trip. Its error is about the connection;
// each command has its own.
func (c *Counts) pipelined(ctx context.Context, partition int, queue func(context.Context, redis.Pipeliner)) error {
	ctx, cancel := context.WithTimeout(ctx, countsTimeout)
	defer cancel()
	return c.client.OnMaster(ctx, countsKey(partition), func(conn *redis.Conn) error {
		pipe := conn.Pipeline()
		queue(ctx, pipe)
		_, err := pipe.Exec(ctx)
		var answer redis.Error
		if errors.As(err, &answer) && !redisfeed.NotRun(err) {
			return nil
		}
		return err
	})
}

// Write adds batches, if nothing of what was read has changed since. Done is false when something has: then
// nothing was written. Its errors are those of Redis.Commit.
func (c *Counts) Write(ctx context.Context, w CountsWrite) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, countsTimeout)
	defer cancel()
	keys := make([]string, 0, len(w.Before)+len(w.Apps))
	args := make([]any, 0, 4+2*len(w.Before)+8*len(w.Apps))
	args = append(args, len(w.Before), int(batchLife/time.Second), int(countsLife/time.Second), w.Version)
	for i, before := range w.Before {
		expected := ""
		if before.Number > 0 {
			expected = strconv.FormatUint(before.Number, 10)
		}
		keys = append(keys, lastBatchKey(w.Partition, before.InstanceID))
		args = append(args, expected, strconv.FormatUint(w.After[i].Number, 10))
	}
	for _, app := range w.Apps {
		keys = append(keys, appCountsKey(w.Partition, app.AppID))
		var pairs []any
		for field, value := range map[string][]byte{"h": app.Running, "p": app.Hours, "d": app.Days} {
			if value != nil {
				pairs = append(pairs, field, value)
			}
		}
		args = append(append(args, app.Version, len(pairs)/2), pairs...)
	}
	err = c.client.OnMaster(ctx, keys[0], func(conn *redis.Conn) error {
		answer, err := conn.Eval(ctx, checks+countsScript, keys, args...).Text()
		if err != nil {
			return err
		}
		done = answer == Made
		if answer != Made && answer != Conflict {
			return fmt.Errorf("%w: %s", ErrRefused, answer)
		}
		return nil
	})
	if errors.Is(err, ErrRefused) {
		return false, err
	}
	return done, writing(err)
}

// cover sets how far the counts of an instance are complete. A final value is not replaced by another one.
// KEYS: the coverage. ARGV: 1 instance, 2 value, 3 the text that final values contain
const cover = `
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and string.find(held, ARGV[3], 1, true) and not string.find(ARGV[2], ARGV[3], 1, true) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
`

// Cover stores how far the counts of an instance are complete. A value that contains the text final is not
// replaced by one that does not.
func (c *Counts) Cover(ctx context.Context, instanceID string, value []byte, final string) error {
	return c.onCoverage(ctx, func(ctx context.Context, conn *redis.Conn) error {
		return conn.Eval(ctx, cover, []string{coverageKey}, instanceID, value, final).Err()
	})
}

// Covered returns what Cover has stored, by instance.
func (c *Counts) Covered(ctx context.Context) (all map[string]string, err error) {
	err = c.onCoverage(ctx, func(ctx context.Context, conn *redis.Conn) (err error) {
		all, err = conn.HGetAll(ctx, coverageKey).Result()
		return err
	})
	return all, err
}

// Uncover removes what Cover has stored for some instances.
func (c *Counts) Uncover(ctx context.Context, instances []string) error {
	if len(instances) == 0 {
		return nil
	}
	return c.onCoverage(ctx, func(ctx context.Context, conn *redis.Conn) error {
		return conn.HDel(ctx, coverageKey, instances...).Err()
	})
}

func (c *Counts) onCoverage(ctx context.Context, call func(context.Context, *redis.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, countsTimeout)
	defer cancel()
	err := c.client.OnMaster(ctx, coverageKey, func(conn *redis.Conn) error { return call(ctx, conn) })
	return redisfeed.Typed(coverageKey, "hash", err)
}
