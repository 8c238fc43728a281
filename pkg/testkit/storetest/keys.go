package storetest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
)

// Successor returns a ring with all keys of another ring, and a new key as the current one.
func Successor(tb testing.TB, ring *keyring.Ring) *keyring.Ring {
	tb.Helper()
	was, is := readRing(tb, ring), readRing(tb, keyring.Generate())
	for id, key := range was.Keys {
		is.Keys[id] = key
	}
	data, err := json.Marshal(is)
	if err != nil {
		tb.Fatalf("storetest: %v", err)
	}
	next, err := keyring.Parse(data)
	if err != nil {
		tb.Fatalf("storetest: %v", err)
	}
	return next
}

// RingFile returns a key ring file with some keys of a ring. The first one is the current key.
func RingFile(tb testing.TB, ring *keyring.Ring, ids ...string) []byte {
	tb.Helper()
	all, some := readRing(tb, ring), ringFile{Current: ids[0], Keys: map[string][]byte{}}
	for _, id := range ids {
		some.Keys[id] = all.Keys[id]
	}
	data, err := json.Marshal(some)
	if err != nil {
		tb.Fatalf("storetest: %v", err)
	}
	return data
}

// ringFile is the form of a key ring file.
type ringFile struct {
	Current string            `json:"current"`
	Keys    map[string][]byte `json:"keys"`
}

func readRing(tb testing.TB, ring *keyring.Ring) (f ringFile) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "keyring.json")
	if err := ring.Create(path); err != nil {
		tb.Fatalf("storetest: %v", err)
	}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &f)
	}
	if err != nil {
		tb.Fatalf("storetest: %v", err)
	}
	return f
}

// Resign makes the store sign with another ring from now on. Existing records stay as they are.
func (s *Store) Resign(ring *keyring.Ring) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring, s.codec = ring, record.NewCodec(ring, s.meta)
}
