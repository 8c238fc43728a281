package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/services/store"
)

func floorOf(t *testing.T, ring *keyring.Ring, storeID string) string {
	t.Helper()
	floor := record.Floor{StoreID: storeID, Cursors: make([]record.Cursor, record.DefaultPartitions), Written: time.Now()}
	floor.Cursors[3] = record.Cursor{Epoch: 1, Revision: 5}
	raw, err := record.SealFloor(ring, floor)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "floor")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFloorFileThatCannotBeUsed: an authority with a floor file that it cannot use does not start. The error
// names the cause and what to do.
func TestFloorFileThatCannotBeUsed(t *testing.T) {
	ring := keyring.Generate()
	damaged := floorOf(t, ring, "store")
	raw, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(damaged, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		path  string
		words []string
	}{
		"damaged":          {damaged, []string{damaged, "damaged", "remove the file"}},
		"another key ring": {floorOf(t, keyring.Generate(), "store"), []string{"key ring", "remove the file"}},
		"no such folder":   {filepath.Join(t.TempDir(), "none", "floor"), []string{"no such file or directory"}},
		"a folder":         {t.TempDir(), []string{"remove the file"}},
	} {
		_, err := New(config("127.0.0.1:0", func(c *Config) { c.InsecureDev, c.Ring, c.FloorFile = true, ring, tt.path }))
		if err == nil {
			t.Errorf("%s: the authority starts, want an error", name)
			continue
		}
		for _, words := range append(tt.words, "--floor-file") {
			if !strings.Contains(err.Error(), words) {
				t.Errorf("%s: got error %q, want %q in it", name, err, words)
			}
		}
	}
}

// TestFloorFileOfAnotherStore: an authority whose floor file is of another store stops with an error that
// names the cause.
func TestFloorFileOfAnotherStore(t *testing.T) {
	redis, ring := redistest.Start(t), keyring.Generate()
	client, err := redisfeed.Open(redis.URL(), redisfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	meta, _, err := store.Init(t.Context(), client, ring, record.DefaultPartitions)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(config("127.0.0.1:0", func(c *Config) {
		c.InsecureDev, c.Ring, c.RedisURL, c.FloorFile = true, ring, redis.URL(), floorOf(t, ring, "another")
	}))
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(t.Context())
	for _, words := range []string{"--floor-file", "is of store another", "holds store " + meta.StoreID, "remove the file"} {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("got error %v, want %q in it", err, words)
		}
	}
}
