// Package snapshot reads and writes files that hold a copy of a store: what a validator starts from when
// Redis is down, and backups. A file is signed with the key ring as a whole: one that was cut, extended or
// changed anywhere does not read, and the error says where.
//
// Files are streamed: neither side holds more of them than one partition of a replica, or one record of a
// backup. It knows nothing of Redis. Generated types end here.
package snapshot

import (
	"errors"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Kind is what a file holds.
type Kind int

const (
	// OfReplica is what a validator holds: what decides, and the latest signed changes. Names and notes
	// stand only in those.
	OfReplica = Kind(countersignv1.SnapshotKind_SNAPSHOT_KIND_REPLICA)
	// Backup is the records of the store as they stand in Redis.
	Backup = Kind(countersignv1.SnapshotKind_SNAPSHOT_KIND_BACKUP)
)

// String returns what people call it.
func (k Kind) String() string {
	switch k {
	case OfReplica:
		return "validator's snapshot"
	case Backup:
		return "backup"
	}
	return "file of an unknown kind"
}

// magic names the form, and its version in the last byte.
const magic = "CSSNAP\n\x01"

const (
	// recordSize is about how many bytes a record gets, maxRecord the most it may have: a document may have
	// some megabytes.
	recordSize = 256 << 10
	maxRecord  = 256 << 20
)

// ErrNotSnapshot says that a file is of another form, or of another version of it.
var ErrNotSnapshot = errors.New("this is not a snapshot file that this release can read")

// Sink takes the contents of a backup: partitions in ascending order, and after each its documents, its log
// and its audit rows, the latter two in ascending order. What it is given is not changed afterwards.
type Sink interface {
	// Partition begins a partition; head is nil when it is missing.
	Partition(number int, head []byte) error
	Document(appID string, raw []byte) error
	Entry(entry replica.RawLink) error
	Audit(sequence uint64, raw []byte) error
}

// checkMeta keeps a file from being written that could not be read.
func checkMeta(m record.Meta) error {
	if m.StoreID == "" || m.Partitions < 1 || m.Partitions > record.MaxPartitions {
		return errors.New("snapshot: want the meta of a store")
	}
	return nil
}
