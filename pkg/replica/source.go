// Package replica keeps a table equal to a store. It loads whole partitions and follows the store's changes.
// At every poll it checks that it has missed none. It accepts only data that it can prove. This package is
// not part of the public API and may change in any release.
//
// It reads through a Source and never writes to the store.
package replica

import (
	"context"
	"errors"

	"github.com/countersign/countersign/pkg/record"
)

// HeadRead is the result of reading one partition's head.
type HeadRead struct {
	// Raw is the head in the store's bytes; nil when it is missing.
	Raw []byte
	// Err says that the head could not be read, or not from a server that is known to be up to date. Then
	// nothing is known about the head.
	Err error
}

// ErrWrongType says that a key of the store holds a value of the wrong type. Another read would find the
// same.
var ErrWrongType = errors.New("the key holds something of another type")

// Source is where a replica reads. The replica verifies everything that it returns. But a Source must not
// answer from a copy that may be older than the store at the time of the call. Errors of Tail and Documents
// wrap ErrWrongType when a key has the wrong type. All methods must be safe for concurrent use, and return
// when ctx ends.
type Source interface {
	// Heads reads the head of every partition. It fails when it could read none. Its cost does not depend on
	// the load.
	Heads(ctx context.Context) ([]HeadRead, error)
	// Tail returns a partition's head, nil when it is missing. It also returns entries of the log, which it
	// reads after the head: up to limit entries with revisions above after, in ascending order.
	Tail(ctx context.Context, partition int, after uint64, limit int) (head []byte, links []record.RawEntry, err error)
	// Documents calls each at least once for every document that was in the partition all the time. It fails
	// rather than leave one out. raw is valid until each returns.
	Documents(ctx context.Context, partition int, each func(appID string, raw []byte)) error
	// Watch calls hint for links as they are published, until ctx ends or the connection is lost. Hints may
	// be lost, repeated or late.
	Watch(ctx context.Context, hint func(partition int, raw []byte)) error
}
