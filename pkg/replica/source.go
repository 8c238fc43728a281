// Package replica keeps a table equal to a store: it loads whole partitions, follows the store's changes,
// checks at every poll that nothing was missed, and follows nothing that it cannot prove.
//
// It reads through a Source and never writes.
package replica

import (
	"context"
	"errors"

	"github.com/countersign/countersign/pkg/record"
)

// HeadRead is what a look at one partition's head has shown.
type HeadRead struct {
	// Raw is the head as it stands in the store; nil when it is missing.
	Raw []byte
	// Err says that the head could not be read, or not from a server that is known to be up to date: the
	// look says nothing at all.
	Err error
}

// ErrWrongType says that a key of the store holds something of another type than a store has there. Reading
// it again shows the same.
var ErrWrongType = errors.New("the key holds something of another type")

// Source is where a replica reads. Nothing that it returns is believed before it is verified; but a Source
// must not answer from a copy that may be older than the store at the time of the call. Errors of Tail and
// Documents wrap ErrWrongType when that is why. All methods must be safe for concurrent use and return when
// ctx ends.
type Source interface {
	// Heads looks at the head of every partition; it fails when it could look at none. It does the same
	// work whatever the load.
	Heads(ctx context.Context) ([]HeadRead, error)
	// Tail returns a partition's head, nil when it is missing, and then, read after it, up to limit links
	// with a revision above after, in ascending order.
	Tail(ctx context.Context, partition int, after uint64, limit int) (head []byte, links []record.RawEntry, err error)
	// Documents calls each for every document of the partition that was there all the time, at least once.
	// It fails rather than leave one out. What raw holds is the callee's until it returns.
	Documents(ctx context.Context, partition int, each func(appID string, raw []byte)) error
	// Watch calls hint for links as they are published, until ctx ends or nothing is heard any more. Hints
	// may be lost, repeated or late.
	Watch(ctx context.Context, hint func(partition int, raw []byte)) error
}
