package tools

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/snapshot"
)

// typeOf returns the type that a key of a store must have, in Redis's words; empty for an unknown key.
func typeOf(key string) string {
	switch {
	case key == record.FleetKey, strings.HasSuffix(key, "}:policies"):
		return "hash"
	case strings.HasSuffix(key, "}:log"), strings.HasSuffix(key, "}:audit"):
		return "stream"
	case key == record.MetaKey, key == restoreKey, strings.HasSuffix(key, "}:head"), strings.Contains(key, "}:request:"):
		return "string"
	}
	return ""
}

// misfits returns the keys of a partition with a wrong type, and that type.
func misfits(ctx context.Context, client *redisfeed.Client, keys record.Keys) (map[string]string, error) {
	names := []string{keys.Head, keys.Policies, keys.Log, keys.Audit}
	types := make([]*redis.StatusCmd, len(names))
	err := retry(ctx, func() error {
		_, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i, key := range names {
				types[i] = pipe.Type(ctx, key)
			}
			return nil
		})
		return err
	})
	found := map[string]string{}
	for i, key := range names {
		if has := types[i].Val(); err == nil && has != "none" && has != typeOf(key) {
			found[key] = has
		}
	}
	return found, err
}

// misfitsOf returns a finding for each key of a partition with a wrong type.
func (t *Tools) misfitsOf(ctx context.Context, partitions int) (found []Finding, err error) {
	for i := range partitions {
		keys := record.KeysOf(i)
		of, err := misfits(ctx, t.client, keys)
		if err != nil {
			return nil, err
		}
		for _, key := range slices.Sorted(maps.Keys(of)) {
			found = append(found, misfit(key, of[key]))
		}
	}
	return found, nil
}

func misfit(key, kind string) Finding {
	return Finding{key, fmt.Sprintf("is a %s and should be a %s", kind, typeOf(key))}
}

func (r *reader) report(where, format string, args ...any) {
	if r.find != nil {
		r.find(where, format, args...)
	}
}

// reportKeys reports keys of a wrong type, and ids in the log that no change can have.
func (r *reader) reportKeys(c *contents) {
	for _, key := range slices.Sorted(maps.Keys(c.misfits)) {
		f := misfit(key, c.misfits[key])
		r.report(f.Where, "%s", f.What)
	}
	for _, id := range c.misplaced {
		r.report(c.keys.Log+" "+id, "stands under an id that no change has")
	}
}

// readHead reads the head. A key of a wrong type counts as a head that does not verify.
func (r *reader) readHead(ctx context.Context, number int, c *contents) error {
	err := retry(ctx, func() (err error) {
		c.rawHead, err = r.client.Get(ctx, c.keys.Head).Bytes()
		return err
	})
	switch {
	case errors.Is(err, redis.Nil):
		c.rawHead, err = nil, nil
	case redisfeed.IsWrongType(err):
		c.rawHead, err = []byte{}, nil
	}
	c.head = record.Head{}
	if head, err := r.codec.OpenHead(number, c.rawHead); err == nil {
		c.head = head
	}
	return err
}

// readLog reads the entries of the log after those that were read.
func (r *reader) readLog(ctx context.Context, c *contents) error {
	if c.misfits[c.keys.Log] != "" {
		return nil
	}
	return r.stream(ctx, c.keys.Log, &c.lastID, "+", func(id string, number uint64, isOne bool, values map[string]any) error {
		if !isOne {
			c.misplaced = append(c.misplaced, id)
			return nil
		}
		c.log = append(c.log, redisfeed.EntryOf(number, values))
		return nil
	})
}

// endOfLog returns the highest cursor among the entries of a log that verify; the zero cursor without any.
func (t *Tools) endOfLog(ctx context.Context, codec *record.Codec, partition int) (end record.Cursor, err error) {
	from := ""
	err = t.reader(codec).stream(ctx, record.KeysOf(partition).Log, &from, "+",
		func(_ string, revision uint64, isOne bool, values map[string]any) error {
			if e, err := codec.OpenEntry(partition, redisfeed.EntryOf(revision, values)); err == nil && isOne {
				end = record.Highest(end, e.Cursor)
			}
			return nil
		})
	if redisfeed.IsWrongType(err) {
		err = nil
	}
	return end, err
}

// exportAudit sends the audit rows up to a number to a sink.
func (r *reader) exportAudit(ctx context.Context, c *contents, last uint64, to snapshot.Sink) error {
	if c.misfits[c.keys.Audit] != "" {
		return nil
	}
	lastID := ""
	return r.stream(ctx, c.keys.Audit, &lastID, fmt.Sprintf("%d-0", last),
		func(id string, number uint64, isOne bool, values map[string]any) error {
			if !isOne {
				r.report(c.keys.Audit+" "+id, "stands under an id that no row has")
				return nil
			}
			raw, _ := values[redisfeed.AuditField].(string)
			return to.Audit(number, []byte(raw))
		})
}

// stream calls each for the entries of a stream after an id (empty for all), and advances the id. It pages by
// ids, which Redis orders, so it ends whatever the ids are. IsOne reports whether an id has the form of the
// store's ids.
func (r *reader) stream(ctx context.Context, key string, after *string, upTo string,
	each func(id string, number uint64, isOne bool, values map[string]any) error,
) error {
	for *after != lastStreamID {
		from := "-"
		if *after != "" {
			from = "(" + *after
		}
		var rows []redis.XMessage
		err := retry(ctx, func() (err error) {
			rows, err = r.client.XRangeN(ctx, key, from, upTo, page).Result()
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			*after = row.ID
			ms, sequence, _ := strings.Cut(row.ID, "-")
			number, err := strconv.ParseUint(ms, 10, 64)
			if err != nil {
				return err
			}
			if err := each(row.ID, number, sequence == "0", row.Values); err != nil {
				return err
			}
		}
	}
	return nil
}

// lastStreamID is the greatest possible id in a stream. Redis refuses to read beyond it.
var lastStreamID = fmt.Sprintf("%d-%d", uint64(math.MaxUint64), uint64(math.MaxUint64))

// ends reports a log or trail that accepts no more changes, because an entry is or was beyond the head.
func (r *reader) ends(ctx context.Context, number int) error {
	keys := record.KeysOf(number)
	for range maxReads {
		var before, after *redis.StringCmd
		var log, audit *redis.XInfoStreamCmd
		err := retry(ctx, func() error {
			pipe := r.client.Pipeline()
			before, log, audit = pipe.Get(ctx, keys.Head), pipe.XInfoStream(ctx, keys.Log), pipe.XInfoStream(ctx, keys.Audit)
			after = pipe.Get(ctx, keys.Head)
			_, err := pipe.Exec(ctx)
			return aboutConnection(err)
		})
		if err != nil {
			return err
		}
		if before.Val() != after.Val() {
			continue // a change in between has moved all of them
		}
		head, err := r.codec.OpenHead(number, []byte(before.Val()))
		if err != nil {
			return nil //nolint:nilerr // another finding reports a head that does not verify
		}
		r.end(keys.Log, log, head.Revision)
		r.end(keys.Audit, audit, head.Audit.Sequence)
		return nil
	}
	return errors.New("the partition changes too often to be read")
}

// end reports a stream whose last id is beyond a number. It ignores a missing stream, and a key of a wrong
// type.
func (r *reader) end(key string, info *redis.XInfoStreamCmd, number uint64) {
	if info.Err() != nil {
		return
	}
	if last := info.Val().LastGeneratedID; beyondID(last, number) {
		r.report(key, "takes no more changes: its last id is or was %s, the head is at %d", last, number)
	}
}

// CheckKeys returns what is wrong with the keys of a partition as such: wrong types, and a log or trail that
// accepts no more changes. Of the contents it reads only the head.
func CheckKeys(ctx context.Context, client *redisfeed.Client, codec *record.Codec, partition int) (wrong []string,
	err error,
) {
	keys := record.KeysOf(partition)
	of, err := misfits(ctx, client, keys)
	for _, key := range slices.Sorted(maps.Keys(of)) {
		wrong = append(wrong, misfit(key, of[key]).String())
	}
	if err != nil {
		return wrong, err
	}
	r := &reader{client: client, codec: codec, find: func(where, format string, args ...any) {
		wrong = append(wrong, Finding{where, fmt.Sprintf(format, args...)}.String())
	}}
	return wrong, r.ends(ctx, partition)
}

// beyondID reports whether an id of a stream comes after the id of a number.
func beyondID(id string, number uint64) bool {
	ms, sequence, _ := strings.Cut(id, "-")
	n, err := strconv.ParseUint(ms, 10, 64)
	return err != nil || n > number || n == number && sequence != "0"
}

// aboutConnection drops an error that is Redis's answer to one command, because each command has its own
// error.
func aboutConnection(err error) error {
	var answer redis.Error
	if errors.As(err, &answer) && !redisfeed.NotRun(err) {
		return nil
	}
	return err
}
