// Package adminkeys reads and writes the file of named admin keys (B26). The authority reads it, the command
// line adds to it. The file holds digests. A key itself is only in the file that was written when the key was
// made. This package is not part of the public API and may change in any release.
package adminkeys

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/countersign/countersign/pkg/atomicfile"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/strictjson"
	"github.com/countersign/countersign/pkg/visible"
)

// Role is a role of an identity, as the file names it.
type Role string

// The roles. Each may do only its own part, except that an admin may read too.
const (
	Viewer    Role = "viewer"    // read
	Admin     Role = "admin"     // read and change
	Validator Role = "validator" // report to the fleet
)

// Known tells whether the role exists.
func (r Role) Known() bool { return r == Viewer || r == Admin || r == Validator }

// MaxNameLength is the most characters that an identity's name may have.
const MaxNameLength = 100

// File is the content of an admin keys file.
type File struct {
	Keys []Entry `json:"keys"`
}

// Entry is one admin key.
type Entry struct {
	// Name is the identity: 1 to MaxNameLength characters, unique in the file.
	Name string `json:"name"`
	Role Role   `json:"role"`
	// SHA256 is the digest of the key in hexadecimal digits, unique in the file.
	SHA256 string `json:"sha256"`
}

// Digest returns the digest of the entry's key. The entry must come from Parse or Load.
func (e Entry) Digest() (d secret.Digest) {
	raw, _ := hex.DecodeString(e.SHA256)
	copy(d[:], raw)
	return d
}

// Parse reads and checks the content of an admin keys file.
func Parse(data []byte) (File, error) {
	const form = `want {"keys": [{"name": ..., "role": "viewer", "admin" or "validator", "sha256": hex}]}`
	var file File
	decoder := json.NewDecoder(bytes.NewReader(data))
	err := decoder.Decode(&file)
	// Data after the object would be lost when the file is written again, as when two files were joined.
	if _, end := decoder.Token(); err == nil && !errors.Is(end, io.EOF) {
		return File{}, errors.New("want one JSON object: something follows it, as in two files that were joined; put all keys " +
			"into one list")
	}
	// The decoder would take the second of two lists with the same key, and drop the first.
	if err := strictjson.Check(data, known); err != nil {
		return File{}, fmt.Errorf("%s: %w", form, err)
	}
	if err != nil {
		return File{}, errors.New(form + ": not of that form")
	}
	return file, file.check()
}

// known tells whether the format has a JSON key.
func known(path []string, key string) bool {
	switch len(path) {
	case 0:
		return key == "keys"
	case 1:
		return key == "name" || key == "role" || key == "sha256"
	}
	return false
}

func (f File) check() error {
	names := map[string]bool{}
	digests := map[secret.Digest]bool{}
	for i, entry := range f.Keys {
		switch raw, err := hex.DecodeString(entry.SHA256); {
		case strings.TrimSpace(entry.Name) == "" || utf8.RuneCountInString(entry.Name) > MaxNameLength ||
			!visible.Name(entry.Name):
			return fmt.Errorf("keys[%d].name: want 1 to %d characters that can be seen: no control, zero-width or bidirectional ones",
				i, MaxNameLength)
		case names[entry.Name]:
			return fmt.Errorf("keys[%d].name: %q is there twice", i, entry.Name)
		case !entry.Role.Known():
			return fmt.Errorf("keys[%d].role: want %s, %s or %s", i, Viewer, Admin, Validator)
		case err != nil || len(raw) != len(secret.Digest{}):
			return fmt.Errorf("keys[%d].sha256: want 64 hexadecimal digits", i)
		case digests[entry.Digest()]:
			return fmt.Errorf("keys[%d].sha256: the same key is there twice", i)
		}
		names[entry.Name], digests[entry.Digest()] = true, true
	}
	return nil
}

// Load reads an admin keys file.
func Load(path string) (File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return File{}, err
	}
	file, err := Parse(data)
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	return file, nil
}

// ErrNameTaken says that the file has an identity with that name.
var ErrNameTaken = errors.New("there is an admin key of that name")

// Add mints an admin key, adds its digest to a file, and returns the key. It makes the file if it is missing.
// It replaces the file as a whole, so that a reader never sees half of it, and keeps owner, group and mode.
// Several processes may add at once.
func Add(path, name string, role Role) (secret.Secret, error) {
	key := secret.MintAdminKey()
	if err := AddKey(path, name, role, key); err != nil {
		return secret.Secret{}, err
	}
	return key, nil
}

// AddKey is Add with a key that was minted before.
func AddKey(path, name string, role Role, key secret.Secret) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	unlock, err := atomicfile.Lock(path)
	if err != nil {
		return err
	}
	defer unlock()
	file, err := Load(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range file.Keys {
		if entry.Name == name {
			return fmt.Errorf("%w: %q", ErrNameTaken, name)
		}
	}
	digest := key.Digest()
	file.Keys = append(file.Keys, Entry{Name: name, Role: role, SHA256: hex.EncodeToString(digest[:])})
	if err := file.check(); err != nil {
		return err
	}
	data, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	return WritePrivate(path, append(data, '\n'))
}

// WritePrivate replaces a file. A new file can be read by its owner only. It makes the folder if that is
// missing.
func WritePrivate(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(path, data, atomicfile.Options{Mode: 0o600})
}
