package snapshot

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Reader reads a file. Only after Replicas or Backup returned nil is it proven that the file was read whole.
type Reader struct {
	in         *bufio.Reader
	closer     io.Closer
	codec      *record.Codec
	meta       record.Meta
	kind       Kind
	file       record.FileID
	keyID      string // the key that signed the header
	created    time.Time
	records    uint64 // read so far
	partitions int    // begun so far
	buffer     bytes.Buffer
}

// Open opens a file and reads its header. The caller must call Close.
func Open(path string, ring *keyring.Ring) (*Reader, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r, err := NewReader(file, ring)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r.closer = file
	return r, nil
}

// NewReader reads the header of a file. Close need not be called.
func NewReader(in io.Reader, ring *keyring.Ring) (*Reader, error) {
	r := &Reader{in: bufio.NewReader(in)}
	var begins [len(magic)]byte
	if _, err := io.ReadFull(r.in, begins[:]); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if string(begins[:]) != magic {
		return nil, ErrNotSnapshot
	}
	raw, err := r.frame()
	if err != nil {
		return nil, err
	}
	var payload []byte
	if payload, r.keyID, err = record.OpenFileHeader(ring, raw); err != nil {
		return nil, fmt.Errorf("the header: %w", err)
	}
	var header countersignv1.SnapshotHeader
	if err := proto.Unmarshal(payload, &header); err != nil || copy(r.file[:], header.GetFileId()) != len(r.file) {
		return nil, fmt.Errorf("%w: the header", record.ErrMalformed)
	}
	if r.meta, err = record.OpenMeta(ring, header.GetMeta()); err != nil {
		return nil, fmt.Errorf("the header: %w", err)
	}
	r.kind, r.created = Kind(header.GetKind()), time.UnixMilli(header.GetCreateMillis())
	r.codec = record.NewCodec(ring, r.meta)
	return r, nil
}

// Close closes the file.
func (r *Reader) Close() error {
	if r.closer == nil {
		return nil
	}
	return r.closer.Close()
}

// Meta returns which store the file belongs to.
func (r *Reader) Meta() record.Meta { return r.meta }

// Kind returns what the file holds.
func (r *Reader) Kind() Kind { return r.kind }

// CreateTime returns when writing began.
func (r *Reader) CreateTime() time.Time { return r.created }

// frame reads the next record. Its result is valid until the next call.
func (r *Reader) frame() ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r.in, length[:]); err != nil {
		return nil, r.cut(err)
	}
	n := int64(binary.BigEndian.Uint32(length[:]))
	if n > maxRecord {
		return nil, fmt.Errorf("record %d: a length of %d bytes, want at most %d", r.records, n, maxRecord)
	}
	// The length is not verified yet, so the buffer grows only with the bytes that arrive.
	r.buffer.Reset()
	if got, err := io.CopyN(&r.buffer, r.in, n); err != nil || got != n {
		return nil, r.cut(err)
	}
	r.records++
	return r.buffer.Bytes(), nil
}

func (r *Reader) cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the file is cut: it ends in record %d, which is not its last", r.records)
	}
	return err
}

// next reads and verifies the next record; nil after the last one.
func (r *Reader) next() (*countersignv1.SnapshotRecord, error) {
	number := r.records
	raw, err := r.frame()
	if err != nil {
		return nil, err
	}
	payload, err := r.codec.OpenFileRecord(r.file, number, raw)
	if err != nil {
		return nil, fmt.Errorf("record %d: %w", number, err)
	}
	m := &countersignv1.SnapshotRecord{}
	if err := proto.Unmarshal(payload, m); err != nil {
		return nil, fmt.Errorf("record %d: %w", number, record.ErrMalformed)
	}
	if m.GetEnd() {
		if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("something follows the end of the file, record %d", number)
		}
		if r.partitions != r.meta.Partitions {
			return nil, fmt.Errorf("%d partitions, want %d", r.partitions, r.meta.Partitions)
		}
		return nil, nil
	}
	if p := m.GetPartition(); p != nil {
		if int64(p.GetPartition()) != int64(r.partitions) || r.partitions >= r.meta.Partitions {
			return nil, fmt.Errorf("record %d: partition %d, want %d", number, p.GetPartition(), r.partitions)
		}
		r.partitions++
	} else if r.partitions == 0 {
		return nil, fmt.Errorf("record %d: no partition has begun", number)
	}
	return m, nil
}

func (r *Reader) want(kind Kind) error {
	if r.kind != kind {
		return fmt.Errorf("this file is a %s, want a %s", r.kind, kind)
	}
	return nil
}

// Replicas calls each for every partition of a replica's file, in ascending order.
func (r *Reader) Replicas(each func(replica.Contents) error) error {
	if err := r.want(OfReplica); err != nil {
		return err
	}
	var whole *replica.Contents
	for {
		m, err := r.next()
		if err != nil {
			return err
		}
		if whole != nil && (m == nil || m.GetPartition() != nil) {
			if err := each(*whole); err != nil {
				return err
			}
		}
		if m == nil {
			return nil
		}
		if p := m.GetPartition(); p != nil {
			if whole, err = r.contents(p); err != nil {
				return fmt.Errorf("partition %d: %w", p.GetPartition(), err)
			}
		}
		if err := fill(whole, m); err != nil {
			return fmt.Errorf("partition %d: %w", whole.Partition, err)
		}
	}
}

// Backup passes everything that a backup holds to a sink.
func (r *Reader) Backup(to Sink) error {
	if err := r.want(Backup); err != nil {
		return err
	}
	for {
		m, err := r.next()
		if err != nil || m == nil {
			return err
		}
		if err := pour(m, to); err != nil {
			return err
		}
	}
}

func pour(m *countersignv1.SnapshotRecord, to Sink) error {
	if p := m.GetPartition(); p != nil {
		if err := to.Partition(int(p.GetPartition()), p.Head); err != nil {
			return err
		}
	}
	for _, d := range m.GetDocuments() {
		if err := to.Document(d.GetAppId(), d.GetData()); err != nil {
			return err
		}
	}
	for _, e := range m.GetLog() {
		if err := to.Entry(record.RawEntry{
			Revision: e.GetRevision(), Data: e.GetData(),
			EpochStart: e.GetEpochStart(),
		}); err != nil {
			return err
		}
	}
	for _, row := range m.GetAudit() {
		if err := to.Audit(row.GetSequence(), row.GetData()); err != nil {
			return err
		}
	}
	return nil
}
