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
	"github.com/countersign/countersign/services/internal/adminkeys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Concurrent runs, as when a container is started twice, leave one ring, and one store that the ring has
// signed.
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
		t.Fatalf("the last run: %v, after %v", err, errs)
	}
	for i := range runs {
		// A run may fail because another is not done yet. No run may return another store.
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

// When another run has given its ring the final name meanwhile, prepareRing removes its own new ring.
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

// Where a symbolic link leads to no file yet, the ring and the key are created there, and the link stays.
func TestLinksToNoFileYet(t *testing.T) {
	redis := redistest.Start(t)
	folder := t.TempDir()
	link := func(name string) string {
		path := filepath.Join(folder, name)
		if err := os.Symlink(filepath.Join("volume", name), path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Mkdir(filepath.Join(folder, "volume"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := Store{RedisURL: redis.URL(), KeyringFile: link("ring.json"), Partitions: 1}
	if made, err := s.Init(t.Context()); err != nil || !made.NewKeyring {
		t.Errorf("%+v, %v", made, err)
	}
	key := AdminKey{Name: "a", Role: adminkeys.Admin, KeysFile: link("keys.json"), KeyFile: link("a.key")}
	if _, created, err := key.Create(); err != nil || !created {
		t.Errorf("created %t, %v", created, err)
	}
	for _, name := range []string{"ring.json", "keys.json", "a.key"} {
		real, err := os.Lstat(filepath.Join(folder, "volume", name))
		if err != nil || !real.Mode().IsRegular() || real.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, real, err)
		}
		if to, err := os.Readlink(filepath.Join(folder, name)); err != nil || to != filepath.Join("volume", name) {
			t.Errorf("%s leads to %q, %v", name, to, err)
		}
	}
}

// Concurrent runs with IfMissing end with one key, whose digest is known and which is in the file.
func TestAdminKeyAtOnce(t *testing.T) {
	folder := t.TempDir()
	key := AdminKey{
		Name: "a", Role: adminkeys.Admin, KeysFile: filepath.Join(folder, "keys.json"), KeyFile: filepath.Join(folder,
			"a.key"), IfMissing: true,
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, _, err := key.Create(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if _, created, err := key.Create(); created || err != nil {
		t.Errorf("afterwards: created %t, %v", created, err)
	}
}
