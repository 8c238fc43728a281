package secret_test

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/secret"
)

// TestB11_LongDigestsDoNotAllocate: imported secrets have up to MaxLength bytes, and an app that has one
// digests the token of every request.
func TestB11_LongDigestsDoNotAllocate(t *testing.T) {
	for _, n := range []int{129, 500, secret.MaxLength} {
		text := strings.Repeat("k", n)
		if got := testing.AllocsPerRun(100, func() { secret.DigestOf(text) }); got != 0 {
			t.Errorf("DigestOf %d bytes allocates %v times", n, got)
		}
	}
}
