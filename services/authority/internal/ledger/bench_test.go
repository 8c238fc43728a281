package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/usage"
	"github.com/countersign/countersign/services/store"
)

// BenchmarkAdd adds a batch with counts of 1,000 apps, through Redis.
func BenchmarkAdd(b *testing.B) {
	l := open(storageAt(b, redistest.Start(b).URL()), time.Now)
	b.Cleanup(run(l))
	var counts []usage.Count
	for i := range 1000 {
		counts = append(counts, usage.Count{
			AppID: fmt.Sprint("app-", i), TokenID: "tok_aaaaaaaaaaaaaaaa", Scope: 1, Reason: policy.TokenValid,
			Minute: time.Now(), N: 1,
		})
	}
	number := uint64(0)
	for b.Loop() {
		number++
		if n, err := l.Add(b.Context(), "one", batch(number, true, counts...)); n != number {
			b.Fatal(err)
		}
	}
}

// BenchmarkHistory decodes the counts of an app with 1,000 tokens over 35 days, and adds up 35 days.
func BenchmarkHistory(b *testing.B) {
	l := open(newMemory(), time.Now)
	raw := generated(1000, noon).stored(app)
	b.SetBytes(int64(len(raw.Running) + len(raw.Hours) + len(raw.Days)))
	for b.Loop() {
		a, _ := l.open(&raw)
		h := History{account: a, now: noon}
		if sums, _ := h.Sums(noon.Add(-35 * 24 * time.Hour)); len(sums) != 2000 || len(h.LastUses()) != 2000 {
			b.Fatal("wrong sums")
		}
	}
}

var _ Storage = (*store.Counts)(nil)
