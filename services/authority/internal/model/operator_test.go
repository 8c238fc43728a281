package model

import (
	"context"
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// operatorsJump is how far above all that is known an operator's epoch begins.
const operatorsJump = 1_000_000_000

// operate does what an operator may do at any time: take a backup, put it back, or take the store as it is,
// also while changes are made. Last, the store may be wiped, once it was restored.
func (w *world) operate() {
	switch n := w.intn(10); {
	case n < 3 || w.backup == nil:
		saved := w.redis.Save()
		if slices.ContainsFunc(saved.(data).partitions, func(p contents) bool { return len(p.head) == 0 }) {
			return // `store backup` refuses a store of which a head is missing
		}
		w.say("a backup is taken")
		w.backup = saved
	case n < 7:
		w.say("the backup is put back")
		w.tally.restored++
		w.restored = true
		for p := range partitions {
			w.redis.Replace(p, w.backup, func(now, saved []byte) ([]byte, record.RawEntry) { return w.restore(p, now, saved) })
		}
	case n < 9:
		w.say("the store is taken as it is")
		for p := range partitions {
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			var above []record.Cursor
			for _, m := range w.members {
				at := m.replica.Cursors()[p]
				at.Revision += operatorsJump - 1
				above = append(above, at)
			}
			if _, err := w.members[w.intn(authorities)].store.Adopt(ctx, p, above,
				countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED); err == nil {
				w.tally.adopted++
			}
			cancel()
		}
	case w.restored:
		p := w.intn(partitions)
		w.say("partition %d is wiped", p)
		w.tally.wiped++
		w.redis.Wipe(p)
	}
}

// restore returns the head and the entry with which the epoch of a restoration begins: above all that is
// known.
func (w *world) restore(p int, now, saved []byte) ([]byte, record.RawEntry) {
	head := check.Must(w.codec.OpenHead(p, saved))(w)
	top := head.Cursor
	raise := func(c record.Cursor) {
		top.Epoch, top.Revision = max(top.Epoch, c.Epoch), max(top.Revision, c.Revision)
	}
	if is, err := w.codec.OpenHead(p, now); err == nil {
		raise(is.Cursor)
	}
	for _, m := range w.members {
		raise(m.replica.Cursors()[p])
	}
	start := record.EpochStart{
		Cursor:   record.Cursor{Epoch: top.Epoch + 1, Revision: top.Revision + operatorsJump, Tag: record.NewTag()},
		Previous: head.Cursor, Cause: countersignv1.EpochCause_EPOCH_CAUSE_RESTORED, CommitMillis: time.Now().UnixMilli(),
	}
	head = head.Begin(start.Cursor)
	head.Unhealed = true
	return check.Must(w.codec.SealHead(p, head))(w), record.RawEntry{
		Revision: start.Revision,
		Data:     check.Must(w.codec.SealEpoch(p, start))(w), EpochStart: true,
	}
}

// lacking returns how many entries a member lacks of those that lead to the end of the store's log without
// a gap. A store that was wiped is made again from what members hold. An entry that was trimmed may be
// back, after a failover, when the member has read the log.
func (w *world) lacking(m *member, p int) (n int) {
	held := map[string]bool{}
	for _, raw := range m.replica.Links(p) {
		held[string(raw)] = true
	}
	w.redis.mu.Lock()
	defer w.redis.mu.Unlock()
	var next record.Cursor
	for _, e := range slices.Backward(w.redis.master.data.partitions[p].log) {
		at, previous := w.places(p, e)
		if next != (record.Cursor{}) && at != next || w.redis.trimmed[string(e.Data)] {
			break
		}
		if next = previous; !held[string(e.Data)] {
			n++
		}
	}
	return n
}

// places returns the places of an entry of the log and of the one before it.
func (w *world) places(p int, e record.RawEntry) (at, previous record.Cursor) {
	if e.EpochStart {
		start := check.Must(w.codec.OpenEpoch(p, e.Data))(w)
		return start.Cursor, start.Previous
	}
	link := check.Must(w.codec.OpenLink(p, e.Data))(w)
	return link.Cursor, link.Previous()
}
