package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

var _ Sink = (*Writer)(nil)

// Writer writes a file. It is unusable after an error.
type Writer struct {
	out        io.Writer
	codec      *record.Codec
	kind       Kind
	file       record.FileID
	records    uint64 // written so far
	partitions int    // begun so far
	pending    *countersignv1.SnapshotRecord
	size       int // rough size of pending, in bytes
}

// NewWriter begins the file of a store. Close ends it.
func NewWriter(out io.Writer, ring *keyring.Ring, meta record.Meta, kind Kind) (*Writer, error) {
	if err := checkMeta(meta); err != nil {
		return nil, err
	}
	w := &Writer{
		out: out, codec: record.NewCodec(ring, meta), kind: kind, file: record.NewFileID(),
		pending: &countersignv1.SnapshotRecord{},
	}
	sealed, err := record.SealMeta(ring, meta)
	if err != nil {
		return nil, err
	}
	header, err := proto.Marshal(&countersignv1.SnapshotHeader{
		FileId: w.file[:], Kind: countersignv1.SnapshotKind(kind), Meta: sealed, CreateMillis: time.Now().UnixMilli(),
	})
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(out, magic); err != nil {
		return nil, err
	}
	return w, w.frame(record.SealFileHeader(ring, header))
}

func (w *Writer) frame(raw []byte) error {
	if len(raw) > maxRecord {
		return fmt.Errorf("snapshot: a record of %d bytes, at most %d can be read", len(raw), maxRecord)
	}
	if _, err := w.out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(raw)))); err != nil {
		return err
	}
	_, err := w.out.Write(raw)
	w.records++
	return err
}

// flush writes the pending record.
func (w *Writer) flush() error {
	payload, err := proto.Marshal(w.pending)
	if err != nil {
		return err
	}
	w.pending, w.size = &countersignv1.SnapshotRecord{}, 0
	return w.frame(w.codec.SealFileRecord(w.file, w.records, payload))
}

// added adds to the size of the pending record, and flushes when it is large.
func (w *Writer) added(bytes int) error {
	if w.size += bytes; w.size < recordSize {
		return nil
	}
	return w.flush()
}

var errOrder = errors.New("snapshot: partitions must be written one after the other, all of them")

func (w *Writer) begin(p *countersignv1.SnapshotPartition, number int) error {
	if number != w.partitions || number >= w.codec.Partitions() {
		return errOrder
	}
	if w.size > 0 || w.pending.Partition != nil {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.partitions++
	p.Partition = uint32(number)
	w.pending.Partition = p
	return nil
}

// Replica writes a partition of a replica. Partitions must be written in ascending order. For an app with
// sticky revocations it writes the policy that the store has.
func (w *Writer) Replica(c replica.Contents) error {
	if w.kind != OfReplica {
		return errors.New("snapshot: this file is a " + w.kind.String())
	}
	begin := &countersignv1.SnapshotPartition{
		Cursor: cursorToProto(c.Cursor), Confirmed: cursorToProto(c.Confirmed), Base: cursorToProto(c.Base),
		MissingApps: c.Missing,
	}
	begin.HiddenSum, begin.SumKeyId = w.codec.HideSum(w.file, c.Partition, c.Sum)
	for _, fork := range c.Forks {
		begin.Forks = append(begin.Forks, cursorToProto(fork))
	}
	if !c.VerifyTime.IsZero() {
		begin.VerifyMillis = c.VerifyTime.UnixMilli()
	}
	if err := w.begin(begin, c.Partition); err != nil {
		return err
	}
	for _, app := range c.Apps {
		m, err := appToProto(app)
		if err != nil {
			return err
		}
		w.pending.Apps = append(w.pending.Apps, m)
		if err := w.added(sizeOf(m)); err != nil {
			return err
		}
	}
	for _, kept := range c.Sticky {
		w.pending.Sticky = append(w.pending.Sticky, stickyToProto(kept))
		if err := w.added(stickySize); err != nil {
			return err
		}
	}
	for _, link := range c.Links {
		w.pending.Links = append(w.pending.Links, link)
		if err := w.added(len(link)); err != nil {
			return err
		}
	}
	for _, link := range c.Orphans {
		w.pending.Orphans = append(w.pending.Orphans, link)
		if err := w.added(len(link)); err != nil {
			return err
		}
	}
	return nil
}

// Partition implements Sink.
func (w *Writer) Partition(number int, head []byte) error {
	if w.kind != Backup {
		return errors.New("snapshot: this file is a " + w.kind.String())
	}
	return w.begin(&countersignv1.SnapshotPartition{Head: head}, number)
}

// Document implements Sink.
func (w *Writer) Document(appID string, raw []byte) error {
	w.pending.Documents = append(w.pending.Documents, &countersignv1.SnapshotDocument{AppId: appID, Data: raw})
	return w.added(len(appID) + len(raw))
}

// Entry implements Sink.
func (w *Writer) Entry(entry record.RawEntry) error {
	w.pending.Log = append(w.pending.Log, &countersignv1.SnapshotLogEntry{
		Revision: entry.Revision, Data: entry.Data, EpochStart: entry.EpochStart,
	})
	return w.added(len(entry.Data))
}

// Audit implements Sink.
func (w *Writer) Audit(sequence uint64, raw []byte) error {
	w.pending.Audit = append(w.pending.Audit, &countersignv1.SnapshotAuditRow{Sequence: sequence, Data: raw})
	return w.added(len(raw))
}

// Close writes the end of the file. It fails when partitions are missing.
func (w *Writer) Close() error {
	if w.partitions != w.codec.Partitions() {
		return errOrder
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.pending.End = true
	return w.flush()
}
