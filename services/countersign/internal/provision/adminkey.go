package provision

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/countersign/countersign/pkg/atomicfile"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

// AdminKey describes an admin key to create.
type AdminKey struct {
	Name string
	Role adminkeys.Role
	// KeysFile is the file of all admin keys, which the authority reads.
	KeysFile string
	// KeyFile is the file for the key itself. Without it, Create returns the key.
	KeyFile string
	// IfMissing makes an existing key no error.
	IfMissing bool
}

// Create creates an admin key. It returns the key when KeyFile is empty, and whether it created one.
//
// It writes the key file before it adds the digest to KeysFile. So an interrupted run leaves no name whose
// key is lost. With IfMissing, the next run continues with the key file that it finds.
func (a AdminKey) Create() (key secret.Secret, created bool, err error) {
	if a.KeyFile, err = atomicfile.Resolve(a.KeyFile); err != nil {
		return secret.Secret{}, false, fmt.Errorf("--admin-key-file: %w", err)
	}
	known, err := a.known()
	if err != nil {
		return secret.Secret{}, false, err
	}
	if known != nil {
		return secret.Secret{}, false, a.checkKnown(*known)
	}
	if a.KeyFile == "" {
		key, err = adminkeys.Add(a.KeysFile, a.Name, a.Role)
		return key, err == nil, err
	}
	key, written, err := a.writeKey()
	if err != nil {
		return secret.Secret{}, false, fmt.Errorf("--admin-key-file: %w", err)
	}
	if err := adminkeys.AddKey(a.KeysFile, a.Name, a.Role, key); err != nil {
		// A concurrent run may have found this key file and added its digest first.
		known, _ := a.known()
		same := known != nil && known.Digest() == key.Digest()
		if same && a.IfMissing {
			return secret.Secret{}, false, a.checkKnown(*known)
		}
		if written && !same {
			_ = os.Remove(a.KeyFile) // without its digest in KeysFile, the key is useless
		}
		return secret.Secret{}, false, err
	}
	return secret.Secret{}, true, nil
}

func (a AdminKey) known() (*adminkeys.Entry, error) {
	file, err := adminkeys.Load(a.KeysFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, entry := range file.Keys {
		if entry.Name == a.Name {
			return &entry, nil
		}
	}
	return nil, nil
}

// checkKnown checks that an existing entry equals the one to create.
func (a AdminKey) checkKnown(entry adminkeys.Entry) error {
	if !a.IfMissing {
		return fmt.Errorf("%w: %q in %s", adminkeys.ErrNameTaken, a.Name, a.KeysFile)
	}
	if entry.Role != a.Role {
		return fmt.Errorf("%q has role %s in %s, not %s", a.Name, entry.Role, a.KeysFile, a.Role)
	}
	if a.KeyFile == "" {
		return nil
	}
	remedy := fmt.Sprintf("put the key of %q there, or remove %[1]q from %s and repeat the command for a new key", a.Name,
		a.KeysFile)
	key, err := readAdminKey(a.KeyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%q is in %s, but %s is missing: %s", a.Name, a.KeysFile, a.KeyFile, remedy)
	case err != nil:
		return err
	case key.Digest() != entry.Digest():
		return fmt.Errorf("%q has another key in %s than in %s: %s", a.Name, a.KeysFile, a.KeyFile, remedy)
	}
	return nil
}

// writeKey writes the key file. With IfMissing it uses an existing one instead, of a run that was
// interrupted. written says which.
func (a AdminKey) writeKey() (key secret.Secret, written bool, err error) {
	key = secret.MintAdminKey()
	err = createWhole(a.KeyFile, func(path string) error {
		return adminkeys.WritePrivate(path, []byte(key.Reveal()+"\n"))
	})
	if !errors.Is(err, fs.ErrExist) {
		return key, true, err
	}
	if !a.IfMissing {
		return secret.Secret{}, false, fmt.Errorf("%s exists already and is not replaced", a.KeyFile)
	}
	key, err = readAdminKey(a.KeyFile)
	return key, false, err
}

func readAdminKey(path string) (secret.Secret, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return secret.Secret{}, err
	}
	text := strings.TrimSpace(string(data))
	if !secret.WellFormedAdminKey(text) {
		return secret.Secret{}, fmt.Errorf("%s holds no admin key", path)
	}
	return secret.New(text), nil
}
