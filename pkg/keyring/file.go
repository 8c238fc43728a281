package keyring

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/countersign/countersign/pkg/strictjson"
)

// idForm is the form of a key's id. A key of KeySize bytes does not match it in any encoding. So a key that
// is mistaken for an id is rejected, and not shown.
var idForm = regexp.MustCompile(`^[0-9A-Za-z_-]{1,32}$`)

// file is the format of a key ring file: keys in base64, by id.
type file struct {
	Current string            `json:"current"`
	Keys    map[string][]byte `json:"keys"`
}

// known reports whether the file format has a JSON key: its own two, and any id.
func known(path []string, key string) bool {
	return len(path) == 0 && (key == "current" || key == "keys") || len(path) == 1 && path[0] == "keys"
}

// Parse parses the contents of a key ring file. Its errors never hold a key.
func Parse(data []byte) (*Ring, error) {
	// encoding/json would take the later of two keys with one id. What the earlier key signed could not be
	// verified.
	if err := strictjson.Check(data, known); err != nil {
		return nil, fmt.Errorf(`keyring: want {"current": id, "keys": {id: base64 of %d bytes}}: %w`, KeySize, err)
	}
	var f file
	if json.Unmarshal(data, &f) != nil {
		return nil, fmt.Errorf(`keyring: want {"current": id, "keys": {id: base64 of %d bytes}}: not of that form`, KeySize)
	}
	if !idForm.MatchString(f.Current) {
		return nil, errors.New("keyring: current: want the id of a key, 1 to 32 characters of A-Z a-z 0-9 - _")
	}
	for id, key := range f.Keys {
		if !idForm.MatchString(id) {
			return nil, errors.New("keyring: want ids of 1 to 32 characters of A-Z a-z 0-9 - _")
		}
		if len(key) != KeySize {
			return nil, fmt.Errorf("keyring: key %q has %d bytes, want %d", id, len(key), KeySize)
		}
	}
	if f.Keys[f.Current] == nil {
		return nil, fmt.Errorf("keyring: current key %q is not among the keys", f.Current)
	}
	return newRing(f.Current, f.Keys), nil
}

// Load reads a key ring file.
func Load(path string) (*Ring, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ring, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ring, nil
}

// Create writes the ring to a new file that only its owner can read, and syncs it to disk. It fails when the
// file exists.
func (r *Ring) Create(path string) error {
	data, err := json.MarshalIndent(file{Current: r.current, Keys: r.keys()}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(append(data, '\n')); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}
