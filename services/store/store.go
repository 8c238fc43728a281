// Package store is the only writer of Redis. A commit is one atomic script: it compares the partition's head
// with the head that the change was computed from, then writes link, audit row, document, request result and
// head, and publishes the link as a hint (see commit.lua). This package is not part of the public API and may
// change in any release.
//
// It also heals partitions that have lost changes (Store.Heal), begins epochs for operators, and makes new
// stores (Init). Validators never import it: they read through package redisfeed.
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

	// commitTimeout bounds a commit with all its resends. The caller's cancellation does not end it, because
	// a caller that gives up must not leave the outcome open.
	commitTimeout = 5 * time.Second
	// callTimeout bounds a call that has no deadline.
	callTimeout = 10 * time.Second
	// outageTimeout bounds how long a call is repeated while Redis does not run its commands. It is longer
	// than a failover, and short enough that calls do not pile up in a longer outage.
	outageTimeout = 6 * time.Second
	// defaultQuorumTimeout is the default of Options.QuorumTimeout.
	defaultQuorumTimeout = time.Second
)

// Options configure a store.
type Options struct {
	// Embedded says that Redis is the embedded one of `dev`, which has no script flags.
	Embedded bool
	// WriteQuorum is how many Redis replicas the store waits for after each change; 0 waits for none.
	// QuorumTimeout bounds the wait (0 is one second). A change that fewer replicas confirm is made all the
	// same, and its result says so.
	WriteQuorum   int
	QuorumTimeout time.Duration
	// Meta is the store's signed meta. A healing writes it back when Redis was wiped. Without it a wiped
	// store is not healed.
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

// Store commits changes. It is safe for concurrent use. Several stores may write one Redis.
type Store struct {
	redis      Redis
	codec      *record.Codec
	replica    *replica.Replica
	options    Options
	log        *slog.Logger
	partitions []partition
}

// partition is the local state of one partition.
type partition struct {
	// turn has one slot. A process makes one change of a partition at a time: of several at once, all but one
	// would conflict and start over.
	turn   chan struct{}
	frozen atomic.Bool
}

// New returns a store. The replica must follow the same Redis and must be running before changes are
// committed: a head carries only the seal of the partition's sum, and the replica knows the sum.
func New(redis Redis, r *replica.Replica, options Options, log *slog.Logger) *Store {
	s := &Store{redis: redis, codec: r.Codec(), replica: r, options: options, log: log}
	s.partitions = make([]partition, s.codec.Partitions())
	for i := range s.partitions {
		s.partitions[i].turn = make(chan struct{}, 1)
	}
	return s
}

// Freeze stops changes of a partition, or allows them again. Changes of a frozen partition fail with
// UNAVAILABLE, STORE_FORKED. Freeze does not stop changes in flight. Heal and Adopt work on a frozen
// partition.
func (s *Store) Freeze(partition int, frozen bool) { s.partitions[partition].frozen.Store(frozen) }

// take waits for the slot of a partition, until ctx ends. The caller must release it.
func (s *Store) take(ctx context.Context, partition int) (release func(), err error) {
	turn := s.partitions[partition].turn
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, unavailable(ctx.Err())
	}
}

// insist repeats f while it fails with ErrNotRun, for at most outageTimeout or until ctx ends.
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

// Position returns a cursor of an app's partition as a position.
func (s *Store) Position(appID string, at record.Cursor) record.Position {
	return record.Position{StoreID: s.codec.StoreID(), Partition: s.codec.PartitionOf(appID), Cursor: at}
}

// Read returns an app's current document in Redis, nil when there is none, and the head of its partition. The
// head is not newer than the document.
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

// found is the result of one read of an app in Redis.
type found struct {
	rawHead  []byte
	head     record.Head
	document *record.Document // nil when there is none
	request  []byte           // nil when there is none
}

// revision returns the document's revision; 0 without a document.
func (f *found) revision() uint64 {
	if f.document == nil {
		return 0
	}
	return f.document.Revision
}

var errNoHead = errors.New("the partition's head is missing")

// read reads an app's head, document and request result, head first. If another authority commits between
// these reads, the head changes. Then the store rejects a change that was computed from this read.
func (s *Store) read(ctx context.Context, appID, requestKey string) (found, error) {
	// The replica gets its data only from the store. So this read must return what the replica already has,
	// unless a newer epoch dropped it.
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

// unhealed rejects a call in an operator's epoch that was not healed yet: the document may lack changes that
// the fleet is about to bring back.
func unhealed() error {
	return apierr.Unavailable(apierr.StoreUnhealed,
		"the store was restored, or taken as it is, and the fleet is bringing back what it knows beyond that; nothing was "+
			"changed, try again")
}

// revisionOf returns the revision of an app's document in the replica; 0 when it has none.
func (s *Store) revisionOf(appID string) uint64 {
	if entry := s.replica.Table().Find(appID).Entry(); entry != nil {
		return entry.Revision
	}
	return 0
}

func unavailable(cause error) error {
	return apierr.Unavailable(apierr.StoreUnavailable,
		"the store cannot be read or written; nothing was changed").Because(cause)
}

func unverified(cause error) error {
	return apierr.Unavailable(apierr.PolicyUnverified,
		"the app's document in the store could not be verified; nothing was changed").Because(cause)
}

func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}
