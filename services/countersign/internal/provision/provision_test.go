package provision

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Several at once, as when a container is started twice, leave one ring, and one store that it has signed.
func TestInitAtOnce(t *testing.T) {
	redis := redistest.Start(t)
	folder := t.TempDir()
	s := Store{RedisURL: redis.URL(), KeyringFile: filepath.Join(folder, "keys", "ring.json"), Partitions: 4}
	const runs = 8
	results := make([]Made, runs)
	errs := make([]error, runs)
	var all sync.WaitGroup
	for i := range runs {
		all.Go(func() { results[i], errs[i] = s.Init(t.Context()) })
	}
	all.Wait()

	last, err := s.Init(t.Context())
	if err != nil {
		t.Fatalf("afterwards: %v, after %v", err, errs)
	}
	for i := range runs {
		// One may be told that another is not done yet, and none anything else.
		if errs[i] == nil && results[i].StoreID != last.StoreID {
			t.Errorf("run %d made store %s, but there is %s", i, results[i].StoreID, last.StoreID)
		}
	}
	ring, err := keyring.Load(s.KeyringFile)
	if err != nil {
		t.Fatal(err)
	}
	client, err := redisfeed.Open(s.RedisURL, redisfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if meta, err := client.Meta(t.Context(), ring); err != nil || meta.StoreID != last.StoreID {
		t.Errorf("the store is %q, %v; want %q", meta.StoreID, err, last.StoreID)
	}
	left, err := os.ReadDir(filepath.Dir(s.KeyringFile))
	if err != nil || len(left) != 1 {
		t.Errorf("beside the ring is left %v, %v", left, err)
	}
}

// A ring that came to its name between two looks is taken, and the new one thrown away.
func TestPrepareRingYields(t *testing.T) {
	s := Store{KeyringFile: filepath.Join(t.TempDir(), "ring.json")}
	if err := keyring.Generate().Create(s.KeyringFile); err != nil {
		t.Fatal(err)
	}
	if ring, taken, err := s.prepareRing(); !taken || err != nil {
		t.Errorf("prepareRing() = %v, %t, %v", ring, taken, err)
	}
	if fileExists(s.newRing()) {
		t.Error("a ring that nothing needs is left")
	}
}

func TestPrepareRingGoesOn(t *testing.T) {
	s := Store{KeyringFile: filepath.Join(t.TempDir(), "ring.json")}
	first, _, err := s.prepareRing()
	if err != nil {
		t.Fatal(err)
	}
	second, taken, err := s.prepareRing()
	if err != nil || taken || second.String() != first.String() {
		t.Errorf("a second ring %v, %t, %v beside %v", second, taken, err, first)
	}
}
