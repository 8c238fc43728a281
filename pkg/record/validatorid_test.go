package record

import (
	"strings"
	"testing"
)

// TestValidatorIDs: two names that look the same would be two validators in a receipt.
func TestValidatorIDs(t *testing.T) {
	for _, bad := range []string{
		"", " v", "v ", "v\u200b", "v\u202e1", "\ufeffv", "v\x00", "v\xff",
		strings.Repeat("v", MaxValidatorIDLength+1),
	} {
		if ValidValidatorID(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
	for _, good := range []string{"v", "v 1", "pod-7.example:7071", strings.Repeat("é", MaxValidatorIDLength)} {
		if !ValidValidatorID(good) {
			t.Errorf("%q is not taken", good)
		}
	}
}
