// Package snapshot reads and writes files with a copy of a store: snapshots, from which a validator starts
// when Redis is down, and backups. A file is signed with the key ring as a whole. A file that was cut,
// extended or changed anywhere does not read, and the error says where. This package is not part of the
// public API and may change in any release.
//
// Files are streamed: reader and writer hold at most one partition of a replica, or one record of a backup.
// The package knows nothing of Redis, and exposes no generated types.
package snapshot

import (
	"errors"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Kind is what a file holds.
type Kind int

const (
	// OfReplica is a validator's data: what it decides from, and the latest signed changes. Only those
	// changes hold names and notes.
	OfReplica = Kind(countersignv1.SnapshotKind_SNAPSHOT_KIND_REPLICA)
	// Backup is the records of the store as Redis holds them.
	Backup = Kind(countersignv1.SnapshotKind_SNAPSHOT_KIND_BACKUP)
)

// String returns the name for people.
func (k Kind) String() string {
	switch k {
	case OfReplica:
		return "validator's snapshot"
	case Backup:
		return "backup"
	}
	return "file of an unknown kind"
}

// magic identifies the format. Its last byte is the version.
const magic = "CSSNAP\n\x01"

const (
	// recordSize is roughly how many bytes a record gets. maxRecord is the limit, since a document may have
	// some megabytes.
	recordSize = 256 << 10
	maxRecord  = 256 << 20
)

// ErrNotSnapshot says that a file has another format, or another version of it.
var ErrNotSnapshot = errors.New("this is not a snapshot file that this release can read")

// Sink takes the contents of a backup. Partitions come in ascending order. After each come its documents,
// then its log and its audit rows, both in ascending order. The caller does not change the slices afterwards.
type Sink interface {
	// Partition begins a partition; head is nil when it is missing.
	Partition(number int, head []byte) error
	Document(appID string, raw []byte) error
	Entry(entry record.RawEntry) error
	Audit(sequence uint64, raw []byte) error
}

// checkMeta fails for a store whose file could not be read.
func checkMeta(m record.Meta) error {
	if m.StoreID == "" || m.Partitions < 1 || m.Partitions > record.MaxPartitions {
		return errors.New("snapshot: want the meta of a store")
	}
	return nil
}
