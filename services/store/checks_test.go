package store

import (
	"fmt"
	"math"
	"testing"

	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/redistest"
)

// TestStreamIdsAreComparedExactly: scripts distinguish stream ids that are equal as floating point numbers,
// for the log and for the audit trail.
func TestStreamIdsAreComparedExactly(t *testing.T) {
	client, err := redisfeed.Open(redistest.Start(t).URL(), redisfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	const edge = 1 << 53
	numbers := []uint64{
		0, 1, 9, 10, 99, 100, edge - 1, edge, edge + 1, 10*edge - 1, 10 * edge, math.MaxInt64,
		math.MaxInt64 + 1, math.MaxUint64 - 1, math.MaxUint64,
	}
	for i, last := range numbers {
		key := fmt.Sprintf("cs:{cs00}:stream-%d", i)
		if err := client.Do(t.Context(), "XADD", key, fmt.Sprintf("%d-1", last), "l", "x").Err(); err != nil {
			t.Fatal(err)
		}
		for _, next := range numbers {
			got, err := client.Eval(t.Context(), checks+"return ends_before(KEYS[1], ARGV[1]) and 1 or 0", []string{key}, next).Int()
			if err != nil || (got == 1) != (last < next) {
				t.Errorf("a stream that ends at %d ends before %d: %d, %v", last, next, got, err)
			}
		}
	}
	if got, err := client.Eval(t.Context(), checks+"return ends_before(KEYS[1], ARGV[1]) and 1 or 0",
		[]string{"cs:{cs00}:none"}, 0).Int(); err != nil || got != 1 {
		t.Errorf("a stream that is not there: %d, %v", got, err)
	}
}
