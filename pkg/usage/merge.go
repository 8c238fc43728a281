package usage

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Merge adds up counts of the same kind and minute, and returns one count for each. It changes the order, and
// uses the memory of its argument. A sum is at most the largest number.
func Merge(counts []Count) []Count {
	slices.SortFunc(counts, compare)
	merged := counts[:0]
	for _, c := range counts {
		if n := len(merged); n > 0 && compare(merged[n-1], c) == 0 {
			merged[n-1].N = AddUp(merged[n-1].N, c.N)
		} else {
			merged = append(merged, c)
		}
	}
	clear(counts[len(merged):])
	return merged
}

// AddUp returns a sum of two numbers, at most the largest number.
func AddUp(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// compare orders counts by everything but N.
func compare(a, b Count) int {
	if c := cmp.Or(strings.Compare(a.AppID, b.AppID), strings.Compare(a.TokenID, b.TokenID), a.Minute.Compare(b.Minute),
		cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Reason, b.Reason)); c != 0 || a.Enforced == b.Enforced {
		return c
	}
	if b.Enforced {
		return -1
	}
	return 1
}
