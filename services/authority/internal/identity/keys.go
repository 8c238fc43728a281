package identity

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/countersign/countersign/pkg/reload"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

// adminKeys is the admin keys of a file. It is immutable and safe for concurrent use.
type adminKeys struct {
	byDigest map[secret.Digest]Identity
	// names has a text for each key in the order of the file: its name and its role.
	names []string
}

// roles has the role of each role in a file of admin keys.
var roles = map[adminkeys.Role]Role{
	adminkeys.Viewer: Viewer, adminkeys.Admin: Admin, adminkeys.Validator: Validator,
}

// parseKeys reads the contents of an admin keys file. A file without keys is an error, since no caller could
// call.
func parseKeys(data []byte) (*adminKeys, error) {
	file, err := adminkeys.Parse(data)
	if err != nil {
		return nil, err
	}
	if len(file.Keys) == 0 {
		return nil, errors.New("has no keys; make one with: countersign admin-key create")
	}
	keys := &adminKeys{byDigest: map[secret.Digest]Identity{}}
	for _, entry := range file.Keys {
		keys.byDigest[entry.Digest()] = Identity{Name: entry.Name, Role: roles[entry.Role]}
		keys.names = append(keys.names, fmt.Sprintf("%s (%s)", entry.Name, entry.Role))
	}
	return keys, nil
}

// find returns the identity of a key; false when the file does not have the key.
func (k *adminKeys) find(key string) (Identity, bool) {
	if !secret.WellFormedAdminKey(key) {
		return Identity{}, false
	}
	id, known := k.byDigest[secret.DigestOf(key)]
	return id, known
}

// LogValue shows the names of the keys with their roles.
func (k *adminKeys) LogValue() slog.Value { return slog.AnyValue(k.names) }

// LoadKeys returns a Source of the keys in an admin keys file. With files that are reloaded (nil for none) it
// follows changes of the file: a key that was added becomes known, a key that was removed unknown.
func LoadKeys(files *reload.Files, path string) (Source, error) {
	parse := func(contents [][]byte) (*adminKeys, error) { return parseKeys(contents[0]) }
	now, err := reload.Read(files, "admin-keys-file", parse, path)
	if err != nil {
		return nil, err
	}
	return Bearer(func(key string) (Identity, bool) { return now.Get().find(key) }), nil
}
