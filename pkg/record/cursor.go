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

// MaxPosition is the highest epoch, revision and number of an audit row. Up to it every number is exact as
// a floating point number too, which is how metrics and JavaScript hold it.
const MaxPosition = 1<<53 - 1

// MaxJump is how far a position may be beyond what is known when nothing proves it: a report, or a number
// that an operator gives. It is 1,000 times what a restoration adds to a revision, and 1/8,192 of what
// there is: whoever makes positions up cannot use them up.
const MaxJump = 1 << 40

// MaxStart is the highest epoch, and the highest revision, with which an operator may begin an epoch:
// MaxJump changes fit behind it.
const MaxStart = MaxPosition - MaxJump

// Cursor is a place in the order of a partition's changes. It is comparable with ==.
type Cursor struct {
	Epoch    uint64
	Revision uint64
	Tag      Tag
}

// String returns epoch, revision and the start of the tag, for logs.
func (c Cursor) String() string { return fmt.Sprintf("%d/%d/%x", c.Epoch, c.Revision, c.Tag[:3]) }

// Position is a cursor with the store and partition that it belongs to: what a consistency token holds.
type Position struct {
	StoreID   string
	Partition int
	Cursor
}

// MaxPositionLength is the most characters a consistency token may have.
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

// DecodePosition reads a consistency token. A token is a reference, not a credential: one made up can only
// make its owner wait.
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

// NewCursor returns the cursor that came over the network, or ErrMalformed.
func NewCursor(epoch, revision uint64, tag []byte) (Cursor, error) {
	return cursorOf(epoch, revision, tag)
}

// Plausible tells whether a position that nothing proves may be one of a store that is known to have been
// at another one: it is at most MaxJump beyond.
func (c Cursor) Plausible(known Cursor) bool {
	return c.Epoch <= known.Epoch+MaxJump && c.Revision <= known.Revision+MaxJump
}

// Valid tells whether a cursor is one that a record may hold.
func (c Cursor) Valid() bool {
	return c.Epoch > 0 && c.Epoch <= MaxPosition && c.Revision <= MaxPosition
}

// check returns an error when a cursor cannot be sealed: it would never open again.
func (c Cursor) check() error {
	if !c.Valid() {
		return fmt.Errorf("%w: epoch %d, revision %d: want an epoch from 1, both at most %d", ErrMalformed, c.Epoch, c.Revision, uint64(MaxPosition))
	}
	return nil
}

// Compare orders cursors by epoch, then by revision: it returns -1 when c comes before d, and +1 when it
// comes after d. It returns 0 for one position, also when the tags differ (see Conflicts).
func (c Cursor) Compare(d Cursor) int {
	return cmp.Or(cmp.Compare(c.Epoch, d.Epoch), cmp.Compare(c.Revision, d.Revision))
}

// Before tells whether a cursor comes before another one (see Compare).
func (c Cursor) Before(d Cursor) bool { return c.Compare(d) < 0 }

// Conflicts tells whether two cursors name different changes at one position: their histories have forked.
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
