package replica_test

import (
	"encoding/binary"
	"testing"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
)

// TestHistoryKnowsItsPastAndNoOther, while it is short, full, and long after its beginning was dropped.
func TestHistoryKnowsItsPastAndNoOther(t *testing.T) {
	at := func(revision uint64) record.Cursor {
		c := record.Cursor{Epoch: 3, Revision: revision}
		binary.BigEndian.PutUint64(c.Tag[:], revision)
		return c
	}
	const base = 100
	for _, n := range []uint64{
		0, 1, 5, replica.HistoryLength - 1, replica.HistoryLength, replica.HistoryLength + 1,
		3*replica.HistoryLength + 7,
	} {
		h := replica.NewHistory(at(base))
		for r := uint64(base + 1); r <= base+n; r++ {
			h.Add(at(r), binary.BigEndian.AppendUint64(nil, r))
		}
		first := base + n - uint64(h.Len())
		if least, most := min(n, replica.HistoryLength),
			min(n, replica.HistoryLength+replica.HistorySlack); h.Base() != at(first) ||
			uint64(h.Len()) < least || uint64(h.Len()) > most {
			t.Fatalf("%d links: base %v and %d of them, want %d to %d", n, h.Base(), h.Len(), least, most)
		}
		for r := uint64(base) - 3; r <= base+n+3; r++ {
			other := at(r)
			other.Tag[15] = 1
			inside := r >= first && r <= base+n
			data, known := h.After(at(r))
			if known != inside || known && uint64(len(data)) != base+n-r {
				t.Fatalf("%d links, after %d: %d, known %v", n, r, len(data), known)
			}
			for i := range data {
				if known && binary.BigEndian.Uint64(data[i]) != r+uint64(i)+1 {
					t.Fatalf("%d links, after %d: link %d is %x", n, r, i, data[i])
				}
			}
			if got, want := h.Agrees(at(r)), r <= base+n; got != want {
				t.Fatalf("%d links: agrees with %d is %v", n, r, got)
			}
			// Another change with that revision: either known to be a different one, or too old to check.
			if got, want := h.Agrees(other), r < first; got != want {
				t.Fatalf("%d links: agrees with another %d is %v", n, r, got)
			}
			if _, known := h.After(other); known {
				t.Fatalf("%d links: another %d is known", n, r)
			}
		}
		later, earlier, before := at(base+n), at(base+n), at(first-1)
		later.Epoch, earlier.Epoch, before.Epoch = 4, 2, 2
		if h.Agrees(later) || h.Agrees(earlier) || !h.Agrees(before) {
			t.Fatalf("%d links: agrees with another epoch, or not with one from before it began", n)
		}
		if _, known := h.After(later); known {
			t.Fatalf("%d links: a later epoch is known", n)
		}
	}
}
