package table

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/countersign/countersign/pkg/policy"
)

// Partition is the policies of one partition: rows in chunks of memory, and slots that say where they are.
// A row is never written to once a slot leads to it. A change appends a row and sets the slot; the row
// before is garbage, until there is so much of it that everything is copied. Whoever still reads what was
// copied keeps it in memory for that long.
type Partition struct {
	revision atomic.Uint64
	content  atomic.Pointer[content]
	// missing are apps that are known to have had a policy, of which the store knows nothing any more. It
	// is set before the partition is shown.
	missing map[string]bool
	// order is nil where no list is asked for. It is set before the partition is shown.
	order *order
	// The rest is the writer's alone. used are the bytes of the last chunk that are taken, garbage those of
	// all chunks that nothing leads to, all those of all chunks that are taken.
	count, used, garbage, all int
	between                   func()
}

// content is where the rows are.
type content struct {
	// slots are those of a hash table with linear probing (Knuth, The Art of Computer Programming, 6.4): 0,
	// or a slot.
	slots []atomic.Uint64
	// chunks are set before a slot leads to them; the first last+1 are.
	chunks [maxChunks]atomic.Pointer[[]byte]
	last   int // the writer's
}

const (
	// A chunk that takes changes has chunkSize bytes, or a chunkShare-th of what there is, or what one row
	// needs.
	chunkSize  = 16 << 10
	chunkShare = 32
	maxChunks  = 128
	// Garbage is cleared away when it is more than a quarter of all, and more than minGarbage bytes.
	minGarbage = 64 << 10
	// Slots are made 3 for 2 apps, and made anew when they are but 6 for 5.
	minSlots = 8
)

// A slot is a mark that it is taken, 15 bits of the key, which spare most looks at other apps' rows, how
// many cache lines the row lies on, or maxLines, the number of a chunk and the place in it.
const (
	taken      = 1 << 63
	tagShift   = 48
	linesShift = 39
	maxLines   = 1<<(tagShift-linesShift) - 1
	chunkShift = 32
	chunkMask  = 1<<(linesShift-chunkShift) - 1
)

// key is what an app is sought by: it says where to begin, and the tag.
type key uint64

// keyOf takes other bytes than those that choose the partition.
func keyOf(hash *policy.AppHash) key { return key(binary.BigEndian.Uint64(hash[8:])) }

func (k key) tag() uint64 { return taken | uint64(k)<<tagShift&^taken }

// first returns the slot of n to begin with (Lemire, Fast Random Integer Generation in an Interval, 2019).
func (k key) first(n int) int {
	high, _ := bits.Mul64(uint64(k), uint64(n))
	return int(high)
}

// NewPartition returns a partition with the given entries, complete up to a revision.
func NewPartition(entries map[string]*Entry, revision uint64) *Partition {
	return Build(entries, revision, func() {})
}

// Build does what NewPartition does, and calls between wherever others may be let through: it takes long
// when there is much.
func Build(entries map[string]*Entry, revision uint64, between func()) *Partition {
	size := 0
	for appID, e := range entries {
		between()
		size += rowSize(appID, e)
	}
	p := &Partition{count: len(entries), all: size, between: between}
	p.revision.Store(revision)
	b := newBuilder(len(entries), size)
	for appID, e := range entries {
		between()
		b.chunk = appendRow(b.begin(appID, rowSize(appID, e)), appID, e)
	}
	p.content.Store(b.end())
	p.used = len(b.chunk)
	return p
}

// slotOf returns the slot of a row of a size.
func slotOf(k key, chunk, at, size int) uint64 {
	return k.tag() | linesOf(at, size)<<linesShift | uint64(chunk)<<chunkShift | uint64(at)
}

// row returns the row that a slot leads to.
func (c *content) row(slot uint64) Row {
	return rowAt(*c.chunks[slot>>chunkShift&chunkMask].Load(), uint32(slot))
}

// seek returns the row of an app and the number of its slot, or the zero Row and that of the slot where it
// would be.
func (c *content) seek(k key, appID string) (Row, int) {
	i := k.first(len(c.slots))
	for {
		slot := c.slots[i].Load()
		if slot == 0 {
			return Row{}, i
		}
		if slot>>tagShift == k.tag()>>tagShift {
			if row := c.row(slot); row.appID() == appID {
				return row, i
			}
		}
		if i++; i == len(c.slots) {
			i = 0
		}
	}
}

func (p *Partition) find(k key, appID string) Row {
	row, _ := p.content.Load().seek(k, appID)
	return row
}

// Get returns the entry of an app, or nil.
func (p *Partition) Get(appID string) *Entry {
	hash := policy.HashApp(appID)
	row := p.find(keyOf(&hash), appID)
	return row.Entry()
}

// Put sets the entry of an app, for every reader from now on. Only the partition's writer may call it.
func (p *Partition) Put(appID string, e *Entry) {
	size := rowSize(appID, e)
	c := p.room(size)
	hash := policy.HashApp(appID)
	k := keyOf(&hash)
	old, slot := c.seek(k, appID)
	if old.Known() {
		p.garbage += len(old.raw)
	} else {
		p.count++
	}
	chunk := *c.chunks[c.last].Load()
	appendRow(chunk[:p.used], appID, e)
	c.slots[slot].Store(slotOf(k, c.last, p.used, size))
	p.used += size
	p.all += size
	p.order.put(appID, e)
}

// room returns a content whose last chunk has room for a number of bytes, and whose slots have room for one
// more app.
func (p *Partition) room(size int) *content {
	c := p.content.Load()
	if 6*(p.count+1) > 5*len(c.slots) || p.garbage > max(minGarbage, p.all/4) || c.last == maxChunks-1 {
		b := c.compact(p.count+1, p.between)
		c = b.end()
		p.used, p.all, p.garbage = len(b.chunk), p.all-p.garbage, 0
		p.content.Store(c)
	}
	if p.used+size > len(*c.chunks[c.last].Load()) {
		chunk := make([]byte, max(chunkSize, p.all/chunkShare, size))
		c.last++
		c.chunks[c.last].Store(&chunk)
		p.used = 0
	}
	return c
}

// Between makes the writer call between wherever others may be let through when it copies everything. It
// must be called before the partition is shown.
func (p *Partition) Between(between func()) { p.between = between }

// compact returns a content of the same rows, without garbage, with slots for a number of apps.
func (c *content) compact(apps int, between func()) *builder {
	size := 0
	for row := range c.rows() {
		between()
		size += len(row.raw)
	}
	b := newBuilder(apps, size)
	for row := range c.rows() {
		between()
		b.chunk = append(b.begin(row.appID(), len(row.raw)), row.raw...)
	}
	return b
}

func (c *content) rows() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for i := range c.slots {
			if slot := c.slots[i].Load(); slot != 0 && !yield(c.row(slot)) {
				return
			}
		}
	}
}

// Lacks says that apps which the partition does not have are known to have had a policy, and returns how
// many those are. It must be called before the partition is shown.
func (p *Partition) Lacks(apps []string) int {
	p.missing = nil
	for _, appID := range apps {
		if p.Get(appID) == nil {
			if p.missing == nil {
				p.missing = map[string]bool{}
			}
			p.missing[strings.Clone(appID)] = true
		}
	}
	return len(p.missing)
}

// Missing returns the apps that are known to have had a policy and are not there, in no order.
func (p *Partition) Missing() []string {
	var missing []string
	for appID := range p.missing {
		if p.Get(appID) == nil {
			missing = append(missing, appID)
		}
	}
	return missing
}

// SetRevision says that every change up to a revision is in the partition. Only the partition's writer may
// call it, after the changes.
func (p *Partition) SetRevision(revision uint64) { p.revision.Store(revision) }

// Len returns the number of apps. Only the partition's writer may call it.
func (p *Partition) Len() int { return p.count }

// Bytes returns how much memory the partition takes, in bytes.
func (p *Partition) Bytes() int {
	c := p.content.Load()
	size := int(unsafe.Sizeof(*c)) + 8*len(c.slots)
	for i := range c.chunks {
		if chunk := c.chunks[i].Load(); chunk != nil {
			size += len(*chunk)
		}
	}
	return size
}

// All yields every app and its entry, in no order. What is put meanwhile may or may not be among them.
func (p *Partition) All() iter.Seq2[string, *Entry] {
	return func(yield func(string, *Entry) bool) {
		for row := range p.content.Load().rows() {
			if !yield(row.appID(), row.Entry()) {
				return
			}
		}
	}
}
