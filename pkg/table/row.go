package table

import (
	"encoding/binary"
	"time"
	"unsafe"

	"github.com/countersign/countersign/pkg/policy"
)

// Row is an Entry packed into bytes that it shares with the table. As long as the row, or anything that it
// returns, is in use, that part of the table stays in memory. The zero value is the row of an app without a
// document. The bytes are:
//
//	size of the app id (uvarint) | app id | flags (1) | revision (8) |
//	[revision of the policy (8) | since (8)] |
//	[size of the policy (4) | policy] | [size of the stored policy (4) | stored policy]
type Row struct {
	raw string
	at  int // index of the flags
}

const (
	flagBehind = 1 << iota // the revision of the policy and the time since follow
	flagPolicy
	flagStored
	flagWall // the time since is by the wall clock
)

// origin is the base of times that have a monotonic reading, so that they keep it.
var origin = time.Now()

// rowSize returns how many bytes an entry takes.
func rowSize(appID string, e *Entry) int {
	size := binary.PutUvarint(make([]byte, binary.MaxVarintLen64), uint64(len(appID))) + len(appID) + 1 + 8
	if e.marked() {
		size += 16
	}
	for _, p := range []*policy.Policy{e.Policy, e.Stored} {
		if p != nil {
			size += 4 + len(p.Packed())
		}
	}
	return size
}

// marked reports whether the row needs the revision of the policy and the time since.
func (e *Entry) marked() bool { return e.PolicyRevision != e.Revision || !e.Since.IsZero() }

// appendRow appends an entry. The slice must have room for it.
func appendRow(b []byte, appID string, e *Entry) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(appID))), appID...)
	flags := len(b)
	b = append(b, 0)
	b = binary.LittleEndian.AppendUint64(b, e.Revision)
	if e.marked() {
		b[flags] |= flagBehind
		since := int64(never)
		switch wall := e.Since.Round(0); {
		case e.Since.IsZero():
		case e.Since == wall: // without a monotonic reading; see package time
			b[flags] |= flagWall
			since = wall.UnixNano()
		default:
			since = int64(e.Since.Sub(origin))
		}
		b = binary.LittleEndian.AppendUint64(b, e.PolicyRevision)
		b = binary.LittleEndian.AppendUint64(b, uint64(since))
	}
	b = appendPolicy(b, flags, flagPolicy, e.Policy)
	return appendPolicy(b, flags, flagStored, e.Stored)
}

// never stands for the zero time.
const never = -1 << 63

func appendPolicy(b []byte, flags int, flag byte, p *policy.Policy) []byte {
	if p == nil {
		return b
	}
	b[flags] |= flag
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.Packed())))
	return append(b, p.Packed()...)
}

// rowAt returns the row at an offset.
func rowAt(b []byte, at uint32) Row {
	b = b[at:]
	flags := flagsAt(b)
	size := flags + 1 + 8
	if b[flags]&flagBehind != 0 {
		size += 16
	}
	if b[flags]&flagPolicy != 0 {
		size += 4 + int(binary.LittleEndian.Uint32(b[size:]))
	}
	if b[flags]&flagStored != 0 {
		size += 4 + int(binary.LittleEndian.Uint32(b[size:]))
	}
	return Row{unsafe.String(unsafe.SliceData(b), size), flags}
}

// Known reports whether the app has a document.
func (r *Row) Known() bool { return r.raw != "" }

// appID returns the app id of the row.
func (r *Row) appID() string {
	prefix := 1
	if r.raw[0] >= 0x80 {
		_, prefix = binary.Uvarint(bytesOf(r.raw))
	}
	return r.raw[prefix:r.at]
}

// body returns the part after the app id.
func (r *Row) body() string { return r.raw[r.at:] }

// flagsAt returns the index of a row's flags.
func flagsAt(b []byte) int {
	if b[0] < 0x80 {
		return 1 + int(b[0]) // one byte is enough for every id that may have a token
	}
	return flagsAfter(b)
}

func flagsAfter(b []byte) int {
	size, prefix := binary.Uvarint(b)
	return prefix + int(size)
}

// bytesOf returns the bytes of a string. They must not be written to.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// Revision returns the entry's Revision.
func (r *Row) Revision() uint64 { return number(r.body()[1:]) }

// Behind returns what the entry's Behind returns.
func (r *Row) Behind() bool {
	b := r.body()
	return b[0]&flagBehind != 0 && b[0]&flagPolicy != 0 && number(b[9:]) != number(b[1:])
}

// PolicyRevision returns the entry's PolicyRevision.
func (r *Row) PolicyRevision() uint64 {
	b := r.body()
	if b[0]&flagBehind == 0 {
		return number(b[1:])
	}
	return number(b[9:])
}

// Since returns the entry's Since.
func (r *Row) Since() time.Time {
	b := r.body()
	if b[0]&flagBehind == 0 || int64(number(b[17:])) == never {
		return time.Time{}
	}
	if b[0]&flagWall != 0 {
		return time.Unix(0, int64(number(b[17:])))
	}
	return origin.Add(time.Duration(number(b[17:])))
}

// Kept returns what the entry's Kept returns.
func (r *Row) Kept() bool { return r.body()[0]&flagStored != 0 }

// Policy returns the entry's policy; false when there is none.
func (r *Row) Policy() (policy.Policy, bool) {
	if r.body()[0]&flagPolicy == 0 {
		return policy.Policy{}, false
	}
	data, _ := cut(r.policies())
	return policy.Unpack(data), true
}

// policies returns the part after the numbers.
func (r *Row) policies() string {
	b := r.body()
	if b[0]&flagBehind != 0 {
		return b[25:]
	}
	return b[9:]
}

// Entry returns the entry; nil for the zero row. Its policies share memory with the table.
func (r *Row) Entry() *Entry {
	if !r.Known() {
		return nil
	}
	e := &Entry{Revision: r.Revision(), PolicyRevision: r.PolicyRevision(), Since: r.Since()}
	rest := r.policies()
	for _, part := range []struct {
		flag byte
		to   **policy.Policy
	}{{flagPolicy, &e.Policy}, {flagStored, &e.Stored}} {
		if r.body()[0]&part.flag != 0 {
			var data string
			data, rest = cut(rest)
			p := policy.Unpack(data)
			*part.to = &p
		}
	}
	return e
}

// cut returns the text at the start of b, whose size precedes it, and the rest.
func cut(b string) (text, rest string) {
	end := 4 + int(binary.LittleEndian.Uint32(bytesOf(b)))
	return b[4:end], b[end:]
}

func number(b string) uint64 { return binary.LittleEndian.Uint64(bytesOf(b)) }
