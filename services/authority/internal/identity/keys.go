package identity

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/countersign/countersign/pkg/reload"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

// Keys is the admin keys of a file. It is immutable and safe for concurrent use.
type Keys struct {
	byDigest map[secret.Digest]Identity
	// names are those of the keys with their roles, in the order of the file.
	names []string
}

// parseKeys reads the contents of an admin keys file. A file without keys is an error, since nobody could
// call.
func parseKeys(data []byte) (*Keys, error) {
	file, err := adminkeys.Parse(data)
	if err != nil {
		return nil, err
	}
	if len(file.Keys) == 0 {
		return nil, errors.New("has no keys; make one with: countersign admin-key create")
	}
	keys := &Keys{byDigest: map[secret.Digest]Identity{}}
	for _, entry := range file.Keys {
		keys.byDigest[entry.Digest()] = Identity{Name: entry.Name, Role: entry.Role}
		keys.names = append(keys.names, fmt.Sprintf("%s (%s)", entry.Name, entry.Role))
	}
	return keys, nil
}

// Identify implements Source.
func (k *Keys) Identify(credential string) (Identity, bool) {
	if !secret.WellFormedAdminKey(credential) {
		return Identity{}, false
	}
	id, known := k.byDigest[secret.DigestOf(credential)]
	return id, known
}

// LogValue shows whose keys there are.
func (k *Keys) LogValue() slog.Value { return slog.AnyValue(k.names) }

// keysFile is the Source of an admin keys file as it is now.
type keysFile struct{ now *reload.Value[*Keys] }

// LoadKeys reads an admin keys file, and again when it changes, if there are files that are read again: a
// key that was taken out is unknown then, one that was added is known.
func LoadKeys(files *reload.Files, path string) (Source, error) {
	now, err := reload.Read(files, "admin-keys-file", func(contents [][]byte) (*Keys, error) { return parseKeys(contents[0]) }, path)
	if err != nil {
		return nil, err
	}
	return keysFile{now}, nil
}

// Identify implements Source.
func (f keysFile) Identify(credential string) (Identity, bool) {
	return f.now.Get().Identify(credential)
}
