// Package store is the one writer of Redis. It commits a change of one app's document as one atomic script that
// compares the partition's head with the one the change was computed from; the link, the audit row, the request's
// result and the hint are part of it. See commit.lua.
package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
)

const (
	// LogLength is about how many links a partition's log keeps.
	LogLength = 20_000
	// RequestLife is how long the result of a request_id is kept (AIP-155).
	RequestLife = 24 * time.Hour

	// commitTimeout bounds how long a commit whose outcome is unknown is pursued. It does not end with the caller:
	// who hangs up must not leave the question open.
	commitTimeout = 5 * time.Second
	// callTimeout bounds a call that came without a deadline.
	callTimeout = 10 * time.Second
)

// Options are what a store may need besides Redis.
type Options struct {
	// Embedded says that the Redis is the embedded one of `dev`, which has no script flags.
	Embedded bool
}

// Store commits changes. It is safe for concurrent use; several may write one Redis.
type Store struct {
	client  *redisfeed.Client
	codec   *record.Codec
	replica *replica.Replica
	options Options
	log     *slog.Logger
	// turns holds one place for each partition: changes of one process to one partition wait for each other, since
	// all but one would fail and start over.
	turns []chan struct{}
}

// New returns a store over a replica of the same Redis, which must be running for anything to be committed: a head
// carries only a seal of the partition's sum, and the replica knows the sum.
func New(client *redisfeed.Client, r *replica.Replica, options Options, log *slog.Logger) *Store {
	s := &Store{client: client, codec: r.Codec(), replica: r, options: options, log: log}
	for range s.codec.Partitions() {
		s.turns = append(s.turns, make(chan struct{}, 1))
	}
	return s
}

// Replica returns the replica that the store computes from.
func (s *Store) Replica() *replica.Replica { return s.replica }

// Position returns the position of a cursor in an app's partition.
func (s *Store) Position(appID string, at record.Cursor) record.Position {
	return record.Position{StoreID: s.codec.StoreID(), Partition: s.codec.PartitionOf(appID), Cursor: at}
}

// Read returns an app's document as it is in Redis now, nil when there is none, and the head of its partition, which
// is not newer.
func (s *Store) Read(ctx context.Context, appID string) (*record.Document, record.Head, error) {
	ctx, cancel := withTimeout(ctx, callTimeout)
	defer cancel()
	found, err := s.read(ctx, appID, "")
	return found.document, found.head, err
}

// found is what one look at Redis has shown.
type found struct {
	rawHead  []byte
	head     record.Head
	document *record.Document // nil when there is none
	request  []byte           // nil when there is none
}

// read looks at an app's head, document and request result, the head first: a commit that comes between the commands
// changes the head, and then nothing computed from this look can be committed.
func (s *Store) read(ctx context.Context, appID, requestKey string) (found, error) {
	var f found
	// A replica learns only what the store has, so what it knew before this look must show in it.
	known := s.revisionOf(appID)
	partition := s.codec.PartitionOf(appID)
	keys := record.KeysOf(partition)
	var head, document, request *redis.StringCmd
	_, err := s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		head = pipe.Get(ctx, keys.Head)
		document = pipe.HGet(ctx, keys.Policies, appID)
		if requestKey != "" {
			request = pipe.Get(ctx, requestKey)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return f, unavailable(err)
	}
	if f.rawHead, err = head.Bytes(); err != nil {
		if errors.Is(err, redis.Nil) {
			err = errors.New("the partition's head is missing")
		}
		return f, unavailable(err)
	}
	if f.head, err = s.codec.OpenHead(partition, f.rawHead); err != nil {
		return f, unavailable(err)
	}
	switch raw, err := document.Bytes(); {
	case err == nil:
		if f.document, err = s.codec.OpenDocument(appID, raw); err != nil {
			return f, unverified(err)
		}
		if f.document.Revision < known {
			return f, unverified(errors.New("the document is an older one"))
		}
	case !errors.Is(err, redis.Nil):
		return f, unavailable(err)
	case known > 0:
		return f, unverified(errors.New("the document is missing"))
	}
	if request != nil {
		if f.request, err = request.Bytes(); err != nil && !errors.Is(err, redis.Nil) {
			return f, unavailable(err)
		}
	}
	return f, nil
}

// revisionOf returns the revision of an app's document that the replica holds, 0 when it holds none.
func (s *Store) revisionOf(appID string) uint64 {
	if entry := s.replica.Table().Find(appID).Entry; entry != nil {
		return entry.Revision
	}
	return 0
}

func unavailable(cause error) error {
	return apierr.Unavailable(apierr.StoreUnavailable, "the store cannot be read or written; nothing was changed").Because(cause)
}

func unverified(cause error) error {
	return apierr.Unavailable(apierr.PolicyUnverified, "the app's document in the store could not be verified; nothing was changed").Because(cause)
}

func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}
