// Package store is the one writer of Redis. It commits a change of one app's document as one atomic script
// that compares the partition's head with the one the change was computed from; the link, the audit row, the
// request's result and the hint are part of it. See commit.lua. This package is not part of the public API
// and may change in any release.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// LogLength is about how many links a partition's log keeps.
	LogLength = 20_000
	// RequestLife is how long the result of a request_id is kept (AIP-155).
	RequestLife = 24 * time.Hour

	// commitTimeout bounds how long a commit whose outcome is unknown is pursued. It does not end with the
	// caller: who hangs up must not leave the question open.
	commitTimeout = 5 * time.Second
	// callTimeout bounds a call that came without a deadline.
	callTimeout = 10 * time.Second
	// outageTimeout bounds how long a call waits for a Redis that does not carry it out: longer than a
	// failover takes, and not so long that the calls of a longer outage pile up.
	outageTimeout = 6 * time.Second
	// defaultQuorumTimeout is Options.QuorumTimeout when it is not set.
	defaultQuorumTimeout = time.Second
)

// Options are what a store may need besides Redis.
type Options struct {
	// Embedded says that the Redis is the embedded one of `dev`, which has no script flags.
	Embedded bool
	// WriteQuorum is how many replicas of the master are waited for after each change, for at most
	// QuorumTimeout (0 is a second); 0 waits for none. A change that fewer have is made all the same, and
	// its result says so.
	WriteQuorum   int
	QuorumTimeout time.Duration
	// Meta is the store's signed meta, which is put back when Redis was wiped. Without it a wiped store is
	// not healed.
	Meta []byte
	// Audit adds to the audit event of a change what the change did to an app. It gets the event with all
	// other fields, and the documents that are committed with the event; before is nil for a new app. It must
	// have no side effect but on the event. nil adds nothing.
	Audit func(event *countersignv1.AuditEvent, before, after *record.Document)
}

func (o Options) quorumTimeout() time.Duration {
	if o.QuorumTimeout > 0 {
		return o.QuorumTimeout
	}
	return defaultQuorumTimeout
}

// Store commits changes. It is safe for concurrent use; several may write one Redis.
type Store struct {
	redis      Redis
	codec      *record.Codec
	replica    *replica.Replica
	options    Options
	log        *slog.Logger
	partitions []partition
}

// partition is what a store knows of a partition.
type partition struct {
	// turn holds one place: changes of one process to one partition wait for each other, since all but one
	// would fail and start over.
	turn   chan struct{}
	frozen atomic.Bool
}

// New returns a store over a replica of the same Redis, which must be running for anything to be committed:
// a head carries only a seal of the partition's sum, and the replica knows the sum.
func New(redis Redis, r *replica.Replica, options Options, log *slog.Logger) *Store {
	s := &Store{redis: redis, codec: r.Codec(), replica: r, options: options, log: log}
	s.partitions = make([]partition, s.codec.Partitions())
	for i := range s.partitions {
		s.partitions[i].turn = make(chan struct{}, 1)
	}
	return s
}

// Freeze stops changes of a partition, or lets them go on: while it is frozen they are UNAVAILABLE,
// STORE_FORKED. What is under way is not held up, and Heal and Adopt may be called.
func (s *Store) Freeze(partition int, frozen bool) { s.partitions[partition].frozen.Store(frozen) }

// take waits for a turn to change a partition, until ctx ends.
func (s *Store) take(ctx context.Context, partition int) (release func(), err error) {
	turn := s.partitions[partition].turn
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, unavailable(ctx.Err())
	}
}

// insist calls a function until its error is another than ErrNotRun, for at most outageTimeout or until ctx
// ends.
func insist(ctx context.Context, f func() error) error {
	until := time.Now().Add(outageTimeout)
	for {
		err := f()
		if !errors.Is(err, ErrNotRun) || !time.Now().Before(until) || !pause(ctx) {
			return err
		}
	}
}

// Replica returns the replica that the store computes from.
func (s *Store) Replica() *replica.Replica { return s.replica }

// Position returns the position of a cursor in an app's partition.
func (s *Store) Position(appID string, at record.Cursor) record.Position {
	return record.Position{StoreID: s.codec.StoreID(), Partition: s.codec.PartitionOf(appID), Cursor: at}
}

// Read returns an app's document as it is in Redis now, nil when there is none, and the head of its
// partition, which is not newer.
func (s *Store) Read(ctx context.Context, appID string) (*record.Document, record.Head, error) {
	ctx, cancel := withTimeout(ctx, callTimeout)
	defer cancel()
	var f found
	err := insist(ctx, func() (err error) {
		f, err = s.read(ctx, appID, "")
		return err
	})
	return f.document, f.head, err
}

// found is what one look at Redis has shown.
type found struct {
	rawHead  []byte
	head     record.Head
	document *record.Document // nil when there is none
	request  []byte           // nil when there is none
}

// revision returns that of the document, 0 for none.
func (f *found) revision() uint64 {
	if f.document == nil {
		return 0
	}
	return f.document.Revision
}

var errNoHead = errors.New("the partition's head is missing")

// read looks at an app's head, document and request result, the head first: a commit that comes between the
// commands changes the head, and then nothing computed from this look can be committed.
func (s *Store) read(ctx context.Context, appID, requestKey string) (found, error) {
	// A replica learns only what the store has, so what it knew before this look must show in it, unless
	// the store is in a later epoch, that did without what an earlier one had.
	partition := s.codec.PartitionOf(appID)
	at, _, _ := s.replica.State(partition)
	known := s.revisionOf(appID)
	look, err := s.redis.Look(ctx, partition, appID, requestKey)
	f := found{rawHead: look.Head, request: look.Result}
	if err == nil && look.Head == nil {
		err = errNoHead
	}
	if err == nil {
		f.head, err = s.codec.OpenHead(partition, look.Head)
	}
	if err != nil {
		return f, unavailable(err)
	}
	if f.head.Unhealed {
		return f, unhealed()
	}
	if look.Document != nil {
		if f.document, err = s.codec.OpenDocument(appID, look.Document); err != nil {
			return f, unverified(err)
		}
	}
	switch held := f.revision(); {
	case held >= known || f.head.Epoch > at.Epoch:
		return f, nil
	case f.head.Before(at):
		return f, forked(fmt.Errorf("its head is at %s, this authority was at %s before", f.head.Cursor, at))
	case held > 0:
		return f, unverified(errors.New("the document is an older one"))
	default:
		return f, unverified(errors.New("the document is missing"))
	}
}

// unhealed refuses a call in an epoch that an operator began: the document may lack what the fleet is about
// to bring back.
func unhealed() error {
	return apierr.Unavailable(apierr.StoreUnhealed,
		"the store was restored, or taken as it is, and the fleet is bringing back what it knows beyond that; nothing was changed, try again")
}

// revisionOf returns the revision of an app's document that the replica holds, 0 when it holds none.
func (s *Store) revisionOf(appID string) uint64 {
	if entry := s.replica.Table().Find(appID).Entry(); entry != nil {
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
