package merge

import (
	"testing"

	"github.com/countersign/countersign/pkg/record"
)

// TestB30_UntilUnused: of two rotations of one token, the shorter time without a use counts.
func TestB30_UntilUnused(t *testing.T) {
	unused := func(millis int64) record.Token {
		return token("t", func(t *record.Token) { t.UntilUnusedMillis = millis })
	}
	for _, tt := range []struct{ ours, theirs, want int64 }{{0, 5, 5}, {5, 0, 5}, {5, 9, 5}, {9, 5, 5}, {0, 0, 0}} {
		ours := &record.Document{Tokens: []record.Token{unused(tt.ours)}}
		got, _ := Into(ours, Touched{All: true}, Side{Tokens: []record.Token{unused(tt.theirs)}})
		if got.Tokens[0].UntilUnusedMillis != tt.want {
			t.Errorf("%d and %d became %d", tt.ours, tt.theirs, got.Tokens[0].UntilUnusedMillis)
		}
	}
}
