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

// Partition holds the policies of one partition: rows in chunks of memory, and slots that point to them. A
// row is never written once a slot points to it. A change appends a row and sets the slot, and the earlier
// row becomes garbage. When there is enough garbage, all rows are copied. A reader of the earlier copy keeps
// it in memory meanwhile.
type Partition struct {
	revision atomic.Uint64
	content  atomic.Pointer[content]
	// missing are apps that had a policy and that the store has lost. It is set before the partition is
	// shown.
	missing map[string]bool
	// order is nil when no list is needed. It is set before the partition is shown.
	order *order
	// Only the writer uses the rest. used are the used bytes of the last chunk, all the used bytes of all
	// chunks, and garbage the bytes among them to which no slot points.
	count, used, garbage, all int
	between                   func()
}

// content is the slots and chunks of a partition.
type content struct {
	// slots is a hash table with linear probing (Knuth, The Art of Computer Programming, 6.4). An empty slot
	// is 0.
	slots []atomic.Uint64
	// chunks are set before a slot points to them. The first last+1 are in use.
	chunks [maxChunks]atomic.Pointer[[]byte]
	last   int // only the writer uses it
}

const (
	// A chunk for changes has chunkSize bytes, or 1/chunkShare of all bytes, or the size of one row,
	// whichever is largest.
	chunkSize  = 16 << 10
	chunkShare = 32
	maxChunks  = 128
	// Everything is copied when more than a quarter of all bytes, and more than minGarbage bytes, are
	// garbage.
	minGarbage = 64 << 10
	// A builder allocates 1.5 slots per app. Slots are rebuilt below 1.2 per app.
	minSlots = 8
)

// A slot holds a bit that it is taken, 15 bits of the app's key, which avoid most reads of other apps' rows,
// the number of cache lines that the row covers, at most maxLines, the number of the chunk, and the offset in
// it.
const (
	taken      = 1 << 63
	tagShift   = 48
	linesShift = 39
	maxLines   = 1<<(tagShift-linesShift) - 1
	chunkShift = 32
	chunkMask  = 1<<(linesShift-chunkShift) - 1
)

// key is the hash of an app. It decides the first slot of a search, and the tag.
type key uint64

// keyOf uses other bytes of the hash than the choice of the partition does.
func keyOf(hash *policy.AppHash) key { return key(binary.BigEndian.Uint64(hash[8:])) }

func (k key) tag() uint64 { return taken | uint64(k)<<tagShift&^taken }

// first returns the first of n slots to search (Lemire, Fast Random Integer Generation in an Interval, 2019).
func (k key) first(n int) int {
	high, _ := bits.Mul64(uint64(k), uint64(n))
	return int(high)
}

// NewPartition returns a partition with the given entries, which holds every change up to a revision.
func NewPartition(entries map[string]*Entry, revision uint64) *Partition {
	return Build(entries, revision, func() {})
}

// Build does what NewPartition does. It calls between after each small piece of work, since a large build
// takes long and the caller may want to pause it.
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

// slotOf returns the slot for a row.
func slotOf(k key, chunk, at, size int) uint64 {
	return k.tag() | linesOf(at, size)<<linesShift | uint64(chunk)<<chunkShift | uint64(at)
}

// row returns the row that a slot points to.
func (c *content) row(slot uint64) Row {
	return rowAt(*c.chunks[slot>>chunkShift&chunkMask].Load(), uint32(slot))
}

// seek returns the row of an app and the index of its slot. For an unknown app it returns the zero Row and
// the index of the free slot.
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

// Get returns the entry of an app, or nil. It is safe for concurrent use.
func (p *Partition) Get(appID string) *Entry {
	hash := policy.HashApp(appID)
	row := p.find(keyOf(&hash), appID)
	return row.Entry()
}

// Put sets the entry of an app for all readers. Only the partition's writer may call it.
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

// room returns a content with room for size bytes in its last chunk, and for one more app in its slots.
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

// Between makes the writer call between after each small piece of work when it copies everything. It must be
// called before the partition is shown.
func (p *Partition) Between(between func()) { p.between = between }

// compact copies all rows without garbage, with slots for a number of apps.
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

// Lacks marks apps as missing: they had a policy, and the partition has none. It ignores apps that the
// partition has, and returns the number of missing apps. It must be called before the partition is shown.
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

// Missing returns the apps that had a policy and are not in the partition, in no order.
func (p *Partition) Missing() []string {
	var missing []string
	for appID := range p.missing {
		if p.Get(appID) == nil {
			missing = append(missing, appID)
		}
	}
	return missing
}

// SetRevision records that the partition holds every change up to a revision. Only the partition's writer may
// call it, after those changes.
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

// All yields every app and its entry, in no order. It may or may not include apps that are added meanwhile.
func (p *Partition) All() iter.Seq2[string, *Entry] {
	return func(yield func(string, *Entry) bool) {
		for row := range p.content.Load().rows() {
			if !yield(row.appID(), row.Entry()) {
				return
			}
		}
	}
}
