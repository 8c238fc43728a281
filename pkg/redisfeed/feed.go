package redisfeed

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
)

// LinkField is the one field of a log entry that is a link, EpochField of one that starts an epoch,
// AuditField that of an audit entry.
const (
	LinkField  = "l"
	EpochField = "s"
	AuditField = "e"
)

// scanCount is how many documents one HSCAN asks for: few, since one may have 200 KB.
const scanCount = 25

var _ replica.Source = (*Feed)(nil)

// Feed reads one store. It is safe for concurrent use.
type Feed struct {
	client *Client
	keys   []record.Keys
	slots  []int
	get    [][]any // the arguments of a GET of each head
	groups atomic.Pointer[groups]
}

// New returns a feed of a store with a number of partitions. The caller closes the client.
func New(client *Client, partitions int) *Feed {
	f := &Feed{client: client}
	for i := range partitions {
		keys := record.KeysOf(i)
		f.keys, f.slots = append(f.keys, keys), append(f.slots, slotOf(keys.Head))
		f.get = append(f.get, []any{"get", keys.Head})
	}
	return f
}

// chase reads one key, and follows its slot when that has moved.
func (c *Client) chase(ctx context.Context, p *pool, slot int, command redis.Cmder) error {
	s, err := c.master(ctx, p, slot)
	if err != nil {
		return err
	}
	commands := []redis.Cmder{command}
	for range maxRedirects {
		if err := c.exchange(ctx, p, s, commands...); err != nil {
			return err
		}
		r, elsewhere := redirected(command.Err())
		if !elsewhere {
			return nil
		}
		if s, err = p.at(seenFrom(s.address, r.address)); err != nil {
			return err
		}
		commands = []redis.Cmder{command}
		if r.ask {
			commands = []redis.Cmder{redis.NewStatusCmd(ctx, "asking"), command}
		}
	}
	return fmt.Errorf("the slot moves: %w", command.Err())
}

// Tail implements replica.Source. It leaves out entries whose id no change has, such as <revision>-1.
func (f *Feed) Tail(ctx context.Context, partition int, after uint64, limit int) ([]byte, []record.RawEntry, error) {
	head, messages, err := f.tail(ctx, partition, after, limit)
	for {
		if err != nil {
			return nil, nil, err
		}
		links, last, err := linksOf(messages)
		if err != nil || len(links) > 0 || len(messages) < limit || last == math.MaxUint64 {
			return head, links, err
		}
		// A page that holds only such entries must not look like the end of the log.
		_, messages, err = f.tail(ctx, partition, last, limit)
		if err != nil {
			return nil, nil, err
		}
	}
}

// linksOf returns the entries whose id is that of a revision, and the last revision of all entries.
func linksOf(messages []redis.XMessage) (links []record.RawEntry, last uint64, err error) {
	links = make([]record.RawEntry, 0, len(messages))
	for _, message := range messages {
		revision, isOne, err := revisionOf(message.ID)
		if err != nil {
			return nil, 0, err
		}
		if last = revision; !isOne {
			continue
		}
		links = append(links, EntryOf(revision, message.Values))
	}
	return links, last, nil
}

// EntryOf returns the log entry of a revision from the fields of its place in the stream.
func EntryOf(revision uint64, fields map[string]any) record.RawEntry {
	data, _ := fields[LinkField].(string)
	start, isStart := fields[EpochField].(string)
	return record.RawEntry{Revision: revision, Data: []byte(data + start), EpochStart: isStart}
}

// tail reads a head, and up to limit entries of the log with revisions above after. Both commands are in one
// pipeline, so the head is read first.
func (f *Feed) tail(ctx context.Context, partition int, after uint64, limit int) ([]byte, []redis.XMessage, error) {
	pool, slot := f.client.reading, f.slots[partition]
	get := redis.NewStringCmd(ctx, f.get[partition]...)
	first := fmt.Sprintf("%d-0", after+1) // after every id of that revision
	if after == math.MaxUint64 {
		first = fmt.Sprintf("(%d-0", after) // no revision is above it
	}
	entries := redis.NewXMessageSliceCmd(ctx, "xrange", f.keys[partition].Log, first, "+", "count", limit)
	s, err := f.client.master(ctx, pool, slot)
	if err != nil {
		return nil, nil, err
	}
	if err := f.client.exchange(ctx, pool, s, get, entries); err != nil {
		return nil, nil, err
	}
	_, headElsewhere := redirected(get.Err())
	if _, logElsewhere := redirected(entries.Err()); headElsewhere || logElsewhere {
		// While a slot moves, each of its keys is on one of two servers. The head is still read first.
		for _, command := range []redis.Cmder{get, entries} {
			if err := f.client.chase(ctx, pool, slot, command); err != nil {
				return nil, nil, err
			}
		}
	}
	head, err := get.Bytes()
	if errors.Is(err, redis.Nil) {
		head, err = nil, nil
	}
	if IsWrongType(err) {
		head, err = []byte{}, nil // an invalid head, as in Heads
	}
	if err != nil {
		return nil, nil, err
	}
	messages, err := entries.Result()
	return head, messages, Typed(f.keys[partition].Log, "stream", err)
}

// revisionOf returns the revision of an id, and whether a change of that revision has this id.
func revisionOf(id string) (revision uint64, isOne bool, err error) {
	number, sequence, _ := strings.Cut(id, "-")
	if revision, err = strconv.ParseUint(number, 10, 64); err != nil {
		return 0, false, fmt.Errorf("log entry %q has no revision", id)
	}
	return revision, sequence == "0", nil
}

// Documents implements replica.Source. The scan stays on one connection. Another server would accept the
// scan's cursor and silently leave elements out (Redis, SCAN: guarantees). So Documents fails when the slot
// moves.
func (f *Feed) Documents(ctx context.Context, partition int, each func(appID string, raw []byte)) error {
	select {
	case f.client.scans <- struct{}{}:
		defer func() { <-f.client.scans }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s, err := f.client.master(ctx, f.client.reading, f.slots[partition])
	if err != nil {
		return err
	}
	err = f.scan(ctx, s, false, partition, each)
	for range maxRedirects {
		r, elsewhere := redirected(err)
		if !elsewhere || !errors.Is(err, errNotBegun) {
			break
		}
		if s, err = f.client.reading.at(seenFrom(s.address, r.address)); err != nil {
			return err
		}
		err = f.scan(ctx, s, r.ask, partition, each)
	}
	return err
}

// errNotBegun says that a scan has shown no document yet.
var errNotBegun = errors.New("the scan did not begin")

// scan reads all documents of a partition over one connection. asking says that the partition's slot is still
// moving to that server.
func (f *Feed) scan(ctx context.Context, s *server, asking bool, partition int, each func(appID string, raw []byte)) error {
	connection := s.Conn()
	defer connection.Close()
	var raw []byte // one buffer for all documents, since a new one for each would be garbage
	for cursor, begun := uint64(0), false; !begun || cursor != 0; begun = true {
		page := redis.NewScanCmd(ctx, nil, "hscan", f.keys[partition].Policies, cursor, "count", scanCount)
		s.noteSent()
		_, err := connection.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			if asking {
				_ = pipe.Process(ctx, redis.NewStatusCmd(ctx, "asking"))
			}
			return pipe.Process(ctx, page)
		})
		f.client.reading.noteResult(s, err)
		f.client.topology.learn(s.address, err)
		err = Typed(f.keys[partition].Policies, "hash", err)
		if err != nil && !begun {
			return errors.Join(errNotBegun, err)
		}
		if err != nil {
			return err
		}
		var pairs []string
		pairs, cursor = page.Val()
		for i := 0; i+1 < len(pairs); i += 2 {
			raw = append(raw[:0], pairs[i+1]...)
			each(pairs[i], raw)
		}
	}
	return nil
}
