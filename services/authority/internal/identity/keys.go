package identity

import (
	"fmt"

	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

// Keys is the admin keys of a file. It is immutable and safe for concurrent use.
type Keys struct {
	byDigest map[secret.Digest]Identity
}

// LoadKeys reads an admin keys file. A file without keys is an error, since nobody could call.
func LoadKeys(path string) (*Keys, error) {
	file, err := adminkeys.Load(path)
	if err != nil {
		return nil, err
	}
	if len(file.Keys) == 0 {
		return nil, fmt.Errorf("%s: has no keys; make one with: countersign admin-key create", path)
	}
	keys := &Keys{byDigest: map[secret.Digest]Identity{}}
	for _, entry := range file.Keys {
		keys.byDigest[entry.Digest()] = Identity{Name: entry.Name, Role: entry.Role}
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
