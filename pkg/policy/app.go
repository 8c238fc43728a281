package policy

import (
	"crypto/sha256"
	"encoding/binary"
)

// MaxAppIDLength is the most characters of an app id.
const MaxAppIDLength = 64

// ValidAppID reports whether a text is an app id: 1 to MaxAppIDLength characters of A-Z a-z 0-9 - _.
func ValidAppID(id string) bool {
	if id == "" || len(id) > MaxAppIDLength {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// AppHash is the SHA-256 of an app id. It spreads apps over partitions.
type AppHash [sha256.Size]byte

// HashApp returns the hash of an app id. It does not allocate.
func HashApp(id string) AppHash { return sha256.Sum256(view(id)) }

// Partition returns the app's partition among n: the first 4 bytes, big-endian, mod n.
func (h *AppHash) Partition(n int) int { return int(binary.BigEndian.Uint32(h[:4]) % uint32(n)) }
