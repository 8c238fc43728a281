package record

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"fmt"

	"google.golang.org/protobuf/proto"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Tag names one change, so that two changes with one revision can be told apart.
type Tag [16]byte

// NewTag returns a random tag.
func NewTag() (t Tag) {
	_, _ = rand.Read(t[:]) // never fails since Go 1.24
	return t
}

// MaxPosition is the highest epoch, revision and audit row number. Every number up to it is exact as a
// float64 too, which is how metrics and JavaScript hold numbers.
const MaxPosition = 1<<53 - 1

// MaxJump bounds how far an unproven position may be beyond the known ones: a position from a report, or from
// an operator. A restoration adds a thousandth of it to a revision. It is 1/8,192 of MaxPosition, so forged
// positions cannot use up the numbers.
const MaxJump = 1 << 40

// MaxStart is the highest epoch, and the highest revision, at which an operator's epoch may begin. MaxJump
// changes fit after it.
const MaxStart = MaxPosition - MaxJump

// Cursor names one change in the order of a partition's changes. It is comparable with ==.
type Cursor struct {
	Epoch    uint64
	Revision uint64
	Tag      Tag
}

// String returns epoch, revision and the start of the tag, for logs.
func (c Cursor) String() string { return fmt.Sprintf("%d/%d/%x", c.Epoch, c.Revision, c.Tag[:3]) }

// Position is a cursor with its store and partition. A consistency token is an encoded Position.
type Position struct {
	StoreID   string
	Partition int
	Cursor
}

// MaxPositionLength bounds the characters of a consistency token.
const MaxPositionLength = 512

// EncodePosition returns the consistency token of a position.
func EncodePosition(p Position) string {
	data, err := proto.Marshal(&countersignv1.Position{
		StoreId: p.StoreID, Partition: uint32(p.Partition), Epoch: p.Epoch, Revision: p.Revision, Tag: p.Tag[:],
	})
	if err != nil {
		panic(fmt.Sprintf("record: position: %v", err)) // five plain fields, store id checked to be ASCII
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// DecodePosition reads a consistency token. A token is a reference and no credential: a made-up token can
// only make its own caller wait. The error is ErrMalformed.
func DecodePosition(token string) (Position, error) {
	if len(token) > MaxPositionLength {
		return Position{}, fmt.Errorf("%w consistency token: longer than %d", ErrMalformed, MaxPositionLength)
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil {
		return Position{}, fmt.Errorf("%w consistency token: not base64url", ErrMalformed)
	}
	var m countersignv1.Position
	if err := proto.Unmarshal(data, &m); err != nil {
		return Position{}, fmt.Errorf("%w consistency token: does not parse", ErrMalformed)
	}
	cursor, err := cursorOf(m.GetEpoch(), m.GetRevision(), m.GetTag())
	if err != nil || m.GetPartition() >= MaxPartitions {
		return Position{}, fmt.Errorf("%w consistency token", ErrMalformed)
	}
	return Position{StoreID: m.GetStoreId(), Partition: int(m.GetPartition()), Cursor: cursor}, nil
}

// NewCursor checks a cursor that came over the network. The error is ErrMalformed.
func NewCursor(epoch, revision uint64, tag []byte) (Cursor, error) {
	return cursorOf(epoch, revision, tag)
}

// Plausible reports whether an unproven position can belong to a store that was at a known position. It can
// be at most MaxJump beyond in epoch and in revision.
func (c Cursor) Plausible(known Cursor) bool {
	return c.Epoch <= known.Epoch+MaxJump && c.Revision <= known.Revision+MaxJump
}

// Valid reports whether a record may hold the cursor.
func (c Cursor) Valid() bool {
	return c.Epoch > 0 && c.Epoch <= MaxPosition && c.Revision <= MaxPosition
}

// check rejects a cursor that must not be sealed, because the record would never open again.
func (c Cursor) check() error {
	if !c.Valid() {
		return fmt.Errorf("%w: epoch %d, revision %d: want an epoch from 1, both at most %d",
			ErrMalformed, c.Epoch, c.Revision, uint64(MaxPosition))
	}
	return nil
}

// Compare orders cursors by epoch, then by revision: it returns -1 when c comes before d, and +1 when it
// comes after d. It returns 0 for one position, also when the tags differ (see Conflicts).
func (c Cursor) Compare(d Cursor) int {
	return cmp.Or(cmp.Compare(c.Epoch, d.Epoch), cmp.Compare(c.Revision, d.Revision))
}

// Before reports whether c comes before d (see Compare).
func (c Cursor) Before(d Cursor) bool { return c.Compare(d) < 0 }

// Conflicts reports whether two cursors name different changes at one position: their histories have forked.
func (c Cursor) Conflicts(d Cursor) bool { return c != d && c.Compare(d) == 0 }

// Highest returns the highest epoch and the highest revision among cursors, each for itself. The tag is
// zero.
func Highest(cursors ...Cursor) (top Cursor) {
	for _, c := range cursors {
		top.Epoch, top.Revision = max(top.Epoch, c.Epoch), max(top.Revision, c.Revision)
	}
	return top
}

func cursorOf(epoch, revision uint64, tag []byte) (Cursor, error) {
	c := Cursor{Epoch: epoch, Revision: revision}
	if copy(c.Tag[:], tag) != len(c.Tag) || len(tag) != len(c.Tag) {
		return Cursor{}, fmt.Errorf("%w: cursor", ErrMalformed)
	}
	if err := c.check(); err != nil {
		return Cursor{}, err
	}
	return c, nil
}
