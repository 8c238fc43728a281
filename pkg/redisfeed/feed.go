package redisfeed

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
)

// LinkField is the one field of a log entry, AuditField that of an audit entry.
const (
	LinkField  = "l"
	AuditField = "e"
)

const (
	// scanCount is how many documents one HSCAN asks for: few, since one may have 200 KB.
	scanCount = 25
	// pingInterval is how long a subscription may be silent before it is pinged, silenceLimit how long before it
	// is given up.
	pingInterval = time.Second
	silenceLimit = 3 * time.Second
)

var _ replica.Source = (*Feed)(nil)

// Feed reads one store. It is safe for concurrent use.
type Feed struct {
	client redis.UniversalClient
	keys   []record.Keys
}

// New returns a feed of a store with a number of partitions. The client stays the caller's to close.
func New(client *Client, partitions int) *Feed {
	f := &Feed{client: client.UniversalClient}
	for i := range partitions {
		f.keys = append(f.keys, record.KeysOf(i))
	}
	return f
}

// Heads implements replica.Source: one GET for each partition, in one round trip.
func (f *Feed) Heads(ctx context.Context) ([][]byte, error) {
	gets := make([]*redis.StringCmd, len(f.keys))
	_, failed := f.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, keys := range f.keys {
			gets[i] = pipe.Get(ctx, keys.Head)
		}
		return nil
	})
	heads := make([][]byte, len(gets))
	for i, get := range gets {
		if get.Err() != nil {
			failed = nil // it is the error of the first command that failed, and looked at here
		}
		var err error
		if heads[i], err = bytesOrNil(get); refused(err) {
			// This partition alone has no head that could be believed.
			heads[i], err = []byte{}, nil
		}
		if err != nil {
			return nil, err
		}
	}
	if failed != nil {
		return nil, failed // no command was sent: Redis refused the connection, as for a wrong password
	}
	return heads, nil
}

// refused tells whether Redis would not read one key, whatever it does with others.
func refused(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer) && (strings.HasPrefix(answer.Error(), "WRONGTYPE") || strings.HasPrefix(answer.Error(), "NOPERM"))
}

func bytesOrNil(get *redis.StringCmd) ([]byte, error) {
	raw, err := get.Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return raw, err
}

// Tail implements replica.Source. The two commands are one pipeline, so the head is read first.
func (f *Feed) Tail(ctx context.Context, partition int, after uint64, limit int) ([]byte, []replica.RawLink, error) {
	var get *redis.StringCmd
	var entries *redis.XMessageSliceCmd
	_, err := f.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		get = pipe.Get(ctx, f.keys[partition].Head)
		entries = pipe.XRangeN(ctx, f.keys[partition].Log, fmt.Sprintf("(%d-0", after), "+", int64(limit))
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, nil, err
	}
	head, err := bytesOrNil(get)
	if err != nil {
		return nil, nil, err
	}
	messages, err := entries.Result()
	if err != nil {
		return nil, nil, err
	}
	links := make([]replica.RawLink, 0, len(messages))
	for _, message := range messages {
		revision, err := revisionOf(message.ID)
		if err != nil {
			return nil, nil, err
		}
		data, _ := message.Values[LinkField].(string)
		links = append(links, replica.RawLink{Revision: revision, Data: []byte(data)})
	}
	return head, links, nil
}

func revisionOf(id string) (uint64, error) {
	number, _, _ := strings.Cut(id, "-")
	revision, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("log entry %q has no revision", id)
	}
	return revision, nil
}

// Documents implements replica.Source. The scan stays on one connection: a cursor means nothing to another server,
// which would answer it all the same and leave elements out (Redis, SCAN: guarantees).
func (f *Feed) Documents(ctx context.Context, partition int, each func(appID string, raw []byte)) error {
	key := f.keys[partition].Policies
	connection, release, err := f.connection(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	var cursor uint64
	for {
		pairs, next, err := connection.HScan(ctx, key, cursor, "", scanCount).Result()
		if err != nil {
			return err
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			each(pairs[i], []byte(pairs[i+1]))
		}
		if next == 0 {
			return nil
		}
		cursor = next
	}
}

// connection returns one connection to the master that has a key.
func (f *Feed) connection(ctx context.Context, key string) (redis.Cmdable, func(), error) {
	client, ok := f.client.(*redis.Client)
	if cluster, isCluster := f.client.(*redis.ClusterClient); isCluster {
		var err error
		if client, err = cluster.MasterForKey(ctx, key); err != nil {
			return nil, nil, err
		}
		ok = true
	}
	if !ok {
		return nil, nil, fmt.Errorf("redisfeed: no single connection from a %T", f.client)
	}
	connection := client.Conn()
	return connection, func() { _ = connection.Close() }, nil
}

// Watch implements replica.Source by a classic subscription, on a connection of its own: sharded ones die silently
// when a slot moves.
func (f *Feed) Watch(ctx context.Context, hint func(partition int, raw []byte)) error {
	// By name, not by pattern: an account with &cs:* may subscribe to the names it matches, but to no pattern other
	// than that very one (Redis ACL, pub/sub permissions).
	channels := make([]string, len(f.keys))
	for i, keys := range f.keys {
		channels[i] = keys.Hint
	}
	heard := time.Now() // connecting is silence too
	subscription := f.client.Subscribe(ctx, channels...)
	defer subscription.Close()
	// A receive looks at its context only between frames.
	defer context.AfterFunc(ctx, func() { _ = subscription.Close() })()
	for {
		frame, err := subscription.ReceiveTimeout(ctx, pingInterval)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case isTimeout(err):
			if time.Since(heard) > silenceLimit {
				return errors.New("nothing was heard on the subscription")
			}
			if err := subscription.Ping(ctx); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		heard = time.Now()
		if message, ok := frame.(*redis.Message); ok {
			if partition, err := record.PartitionOfHint(message.Channel); err == nil {
				hint(partition, []byte(message.Payload))
			}
		}
	}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}
