package policy_test

import (
	"crypto/sha256"
	"encoding/hex"
	"math/big"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/policy"
)

func TestB19_AppIDs(t *testing.T) {
	tests := []struct {
		name, id string
		want     bool
	}{
		{"usual", "pezwd5bre2xb", true},
		{"every kind of character", "azAZ09-_", true},
		{"shortest", "-", true},
		{"longest", strings.Repeat("a", 64), true},
		{"one longer", strings.Repeat("a", 65), false},
		{"empty", "", false},
		{"space", "my app", false},
		{"trailing newline", "app\n", false},
		{"NUL", "app\x00", false},
		{"dot", "com.example.app", false},
		{"slash", "apps/1", false},
		{"colon", "a:b", false},
		{"not ASCII", "\u00e4pp", false},
		{"full-width", "\uff41pp", false},
		{"invalid UTF-8", "app\xff", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := policy.ValidAppID(tt.id); got != tt.want {
				t.Errorf("ValidAppID(%q) = %v, want %v", tt.id, got, tt.want)
			}
		})
	}
	// Every byte, at each end and inside.
	pattern := regexp.MustCompile(`\A[A-Za-z0-9_-]{1,64}\z`)
	for c := range 256 {
		for _, id := range []string{string([]byte{byte(c)}), string([]byte{'a', byte(c)}), string([]byte{byte(c), 'a'})} {
			if got, want := policy.ValidAppID(id), pattern.MatchString(id); got != want {
				t.Errorf("ValidAppID(%q) = %v, want %v", id, got, want)
			}
		}
	}
}

// TestHashAppIsSHA256: the hash and the partition must never change, or a store's apps would be sought in
// other partitions.
func TestHashAppIsSHA256(t *testing.T) {
	hash := policy.HashApp("pezwd5bre2xb")
	if got := hex.EncodeToString(hash[:]); got != "fdeb3684d26aff3ce6df4d0888f66b489aeb1e21b865e8841ef92bcfe1df3f10" {
		t.Errorf("HashApp = %s", got)
	}
	for n, want := range map[int]int{1: 0, 7: 0, 64: 4, 256: 132} {
		if got := hash.Partition(n); got != want {
			t.Errorf("Partition(%d) = %d, want %d", n, got, want)
		}
	}
	for _, n := range []int{0, 1, 63, 64, 65, 300} {
		if id := strings.Repeat("a", n); policy.HashApp(id) != sha256.Sum256([]byte(id)) {
			t.Errorf("HashApp of %d bytes is not their SHA-256", n)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringN(0, 200, -1).Draw(t, "id")
		hash := policy.HashApp(id)
		if hash != sha256.Sum256([]byte(id)) {
			t.Fatalf("HashApp(%q) is not its SHA-256", id)
		}
		n := rapid.IntRange(1, 256).Draw(t, "partitions")
		want := new(big.Int).Mod(new(big.Int).SetBytes(hash[:4]), big.NewInt(int64(n))).Int64()
		if got := hash.Partition(n); int64(got) != want {
			t.Fatalf("Partition(%d) of %x = %d, want %d", n, hash, got, want)
		}
	})
}

func TestFindingAPartitionDoesNotAllocate(t *testing.T) {
	for _, id := range []string{"a", "pezwd5bre2xb", strings.Repeat("a", policy.MaxAppIDLength)} {
		n := testing.AllocsPerRun(100, func() {
			if policy.ValidAppID(id) {
				hash := policy.HashApp(id)
				hash.Partition(64)
			}
		})
		if n != 0 {
			t.Errorf("%v allocations for %q, want none", n, id)
		}
	}
}
