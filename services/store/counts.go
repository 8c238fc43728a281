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
	// CoverageSince is the field of the coverage that says since when the coverage is kept. No instance has
	// it. Without it, Begin sets it anew.
	CoverageSince = "since"
)

//go:embed counts.lua
var countsScript string

// Counts reads and writes usage counts in Redis. Their keys begin with csu: and are not part of the store, so
// the Redis may be another one than that of the store. It is safe for concurrent use.
//
// All keys of a partition share the hash tag of the store's partition. For each app there is a hash, for each
// start of a validator a string with the number of the last batch that was added. One hash has how far the
// counts of each start of a validator are complete. Each partition, and this hash, have the time since when
// nothing in them was lost: without it, a Redis that was emptied would pass for one without traffic.
type Counts struct {
	client *redisfeed.Client
	prefix string
}

// NewCounts returns the counts of a store in a Redis, which the counts of other stores may share. The caller
// closes the client.
func NewCounts(client *redisfeed.Client, storeID string) *Counts {
	return &Counts{client, countsPrefix(storeID)}
}

// countsPrefix begins the names of all keys. Eight digits of the random id tell the stores of one Redis
// apart.
func countsPrefix(storeID string) string { return "csu:" + storeID[:min(len(storeID), 8)] + ":" }

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
	// Now is the time of the write. Lost says that earlier counts of the partition are known to be lost, so
	// that the partition's counts are complete only from Now on.
	Now  time.Time
	Lost bool
}

func (c *Counts) partitionKey(partition int) string {
	return fmt.Sprintf("%s{cs%02d}:", c.prefix, partition)
}

func (c *Counts) appKey(partition int, appID string) string {
	return c.partitionKey(partition) + "app:" + appID
}

func (c *Counts) lastBatchKey(partition int, instanceID string) string {
	return c.partitionKey(partition) + "seen:" + instanceID
}

func (c *Counts) sinceKey(partition int) string { return c.partitionKey(partition) + "since" }

func (c *Counts) coverageKey() string { return c.prefix + "coverage" }

// Look reads the last batches of some instances, and the running counts of some apps, in one round trip. The
// results are in the order of the arguments.
func (c *Counts) Look(ctx context.Context, partition int, instances, apps []string) (last []LastBatch, counts []AppCounts,
	err error,
) {
	seen := make([]*redis.StringCmd, len(instances))
	found := make([]*redis.SliceCmd, len(apps))
	err = c.pipelined(ctx, partition, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, id := range instances {
			seen[i] = pipe.Get(ctx, c.lastBatchKey(partition, id))
		}
		for i, id := range apps {
			found[i] = pipe.HMGet(ctx, c.appKey(partition, id), "v", "h")
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
		return 0, nil //nolint:nilerr // the next batch shows that numbers are lost
	}
	return number, nil
}

// Read reads all counts of some apps, and since when nothing of the partition's counts was lost: zero when
// that is not known. The results are in the order of the arguments.
func (c *Counts) Read(ctx context.Context, partition int, apps []string) (counts []AppCounts, since time.Time, err error) {
	found := make([]*redis.SliceCmd, len(apps))
	var mark *redis.StringCmd
	err = c.pipelined(ctx, partition, func(ctx context.Context, pipe redis.Pipeliner) {
		mark = pipe.Get(ctx, c.sinceKey(partition))
		for i, id := range apps {
			found[i] = pipe.HMGet(ctx, c.appKey(partition, id), "v", "h", "p", "d")
		}
	})
	if err != nil {
		return nil, since, err
	}
	text, err := mark.Result()
	if err != nil && !errors.Is(err, redis.Nil) && !redisfeed.IsWrongType(err) {
		return nil, since, err
	}
	counts, err = appCounts(apps, found)
	return counts, sinceOf(text), err
}

// sinceOf reads a time in milliseconds since the Unix epoch. It is zero for anything else.
func sinceOf(text string) time.Time {
	millis, err := strconv.ParseInt(text, 10, 64)
	if err != nil || millis <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis).UTC()
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
	return c.client.OnMaster(ctx, c.partitionKey(partition), func(conn *redis.Conn) error {
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
	keys := make([]string, 0, 1+len(w.Before)+len(w.Apps))
	args := make([]any, 0, 6+2*len(w.Before)+8*len(w.Apps))
	keys = append(keys, c.sinceKey(w.Partition))
	args = append(args, len(w.Before), int(batchLife/time.Second), int(countsLife/time.Second), w.Version, w.Now.UnixMilli(),
		w.Lost)
	for i, before := range w.Before {
		expected := ""
		if before.Number > 0 {
			expected = strconv.FormatUint(before.Number, 10)
		}
		keys = append(keys, c.lastBatchKey(w.Partition, before.InstanceID))
		args = append(args, expected, strconv.FormatUint(w.After[i].Number, 10))
	}
	for _, app := range w.Apps {
		keys = append(keys, c.appKey(w.Partition, app.AppID))
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

// Begin says since when counts are kept, wherever Redis does not say so yet.
func (c *Counts) Begin(ctx context.Context, partitions int, since time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, countsTimeout)
	defer cancel()
	for partition := range partitions {
		err := c.client.OnMaster(ctx, c.partitionKey(partition), func(conn *redis.Conn) error {
			return conn.Eval(ctx, beginPartition, []string{c.sinceKey(partition)}, since.UnixMilli()).Err()
		})
		if err != nil {
			return err
		}
	}
	return c.onCoverage(ctx, func(ctx context.Context, conn *redis.Conn) error {
		return conn.Eval(ctx, begin, []string{c.coverageKey()}, CoverageSince, since.UnixMilli()).Err()
	})
}

// beginPartition sets a key that has no number. KEYS: the key. ARGV: 1 value
const beginPartition = `
local held = redis.pcall('GET', KEYS[1])
if type(held) ~= 'string' or not tonumber(held) then
  redis.call('SET', KEYS[1], ARGV[1])
end
return 1
`

// begin sets a field that has no number. KEYS: the hash. ARGV: 1 field, 2 value
const begin = `
if not tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '') then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return 1
`

// Keep makes Redis remember the last batches of some instances for another 48 hours, although they add none.
func (c *Counts) Keep(ctx context.Context, partition int, instances []string) error {
	return c.pipelined(ctx, partition, func(ctx context.Context, pipe redis.Pipeliner) {
		for _, id := range instances {
			pipe.Expire(ctx, c.lastBatchKey(partition, id), batchLife)
		}
	})
}

// cover sets how far the counts of an instance are complete, unless what is held begins with a higher
// character. KEYS: the coverage. ARGV: 1 instance, 2 value
const cover = `
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and string.byte(held) and string.byte(held) > string.byte(ARGV[2]) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
`

// Cover stores how far the counts of an instance are complete. A value does not replace one whose first
// character is higher.
func (c *Counts) Cover(ctx context.Context, instanceID string, value []byte) error {
	return c.onCoverage(ctx, func(ctx context.Context, conn *redis.Conn) error {
		return conn.Eval(ctx, cover, []string{c.coverageKey()}, instanceID, value).Err()
	})
}

// Covered returns what Cover has stored, by instance, and since when nothing of it was lost: zero when that
// is not known.
func (c *Counts) Covered(ctx context.Context) (all map[string]string, since time.Time, err error) {
	err = c.onCoverage(ctx, func(ctx context.Context, conn *redis.Conn) (err error) {
		all, err = conn.HGetAll(ctx, c.coverageKey()).Result()
		return err
	})
	since = sinceOf(all[CoverageSince])
	delete(all, CoverageSince)
	return all, since, err
}

// Uncover removes what Cover has stored for some instances.
func (c *Counts) Uncover(ctx context.Context, instances []string) error {
	if len(instances) == 0 {
		return nil
	}
	return c.onCoverage(ctx, func(ctx context.Context, conn *redis.Conn) error {
		return conn.HDel(ctx, c.coverageKey(), instances...).Err()
	})
}

func (c *Counts) onCoverage(ctx context.Context, call func(context.Context, *redis.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, countsTimeout)
	defer cancel()
	err := c.client.OnMaster(ctx, c.coverageKey(), func(conn *redis.Conn) error { return call(ctx, conn) })
	return redisfeed.Typed(c.coverageKey(), "hash", err)
}
