// Package keyring holds the keys that sign every record in the store. Authorities and validators share them
// as a file. An attacker who can write to Redis and has no key cannot forge a record.
//
// The names that signatures of pkg/client and pkg/validator show are part of the public API. Others may
// change in any release.
package keyring

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// KeySize is the length of a key in bytes, the output size of SHA-256 (RFC 2104, section 3).
const KeySize = 32

// MACSize is the length of a MAC in bytes.
const MACSize = sha256.Size

// ErrUnknownKey says that a MAC names a key that the ring does not hold. The ring may be too old.
var ErrUnknownKey = errors.New("keyring: unknown key")

// ErrMismatch says that a MAC does not match the signed parts.
var ErrMismatch = errors.New("keyring: MAC does not match")

// Ring is a set of keys by id, one of which signs. It is immutable and safe for concurrent use. It never
// prints its keys.
type Ring struct {
	// keys and signers are functions, because fmt prints the unexported fields of a struct that holds a Ring
	// without calling the Ring's methods.
	keys    func() map[string][]byte
	signers func() map[string]*sync.Pool // of *signer
	current string
}

func newRing(current string, keys map[string][]byte) *Ring {
	signers := make(map[string]*sync.Pool, len(keys))
	for id, key := range keys {
		signers[id] = &sync.Pool{New: func() any { return &signer{keyed: hmac.New(sha256.New, key)} }}
	}
	return &Ring{
		keys:    func() map[string][]byte { return keys },
		signers: func() map[string]*sync.Pool { return signers },
		current: current,
	}
}

// signer makes MACs with one key. It is reused, since preparing the key costs as much as a short MAC, and a
// starting validator checks one or two for each app.
type signer struct {
	keyed  hash.Hash
	length [8]byte
	mac    [MACSize]byte
}

// Generate returns a ring with one new key.
func Generate() *Ring {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails since Go 1.24
	id := make([]byte, 4)
	_, _ = rand.Read(id)
	name := hex.EncodeToString(id)
	return newRing(name, map[string][]byte{name: key})
}

// Sign returns the MAC of some parts with the current key, and the key's id. It signs each part with its
// length, so that no two lists of parts have the same input.
func (r *Ring) Sign(parts ...[]byte) (keyID string, mac [MACSize]byte) {
	return r.current, sum(r.signers()[r.current], parts)
}

// SignWith is Sign with the key of a given id. It returns ErrUnknownKey when the ring does not hold that key.
func (r *Ring) SignWith(keyID string, parts ...[]byte) (mac [MACSize]byte, err error) {
	signers, ok := r.signers()[keyID]
	if !ok {
		return mac, fmt.Errorf("%w %q", ErrUnknownKey, keyID)
	}
	return sum(signers, parts), nil
}

// Verify returns nil when the MAC matches the parts. Otherwise it returns ErrUnknownKey or ErrMismatch.
func (r *Ring) Verify(keyID string, mac []byte, parts ...[]byte) error {
	want, err := r.SignWith(keyID, parts...)
	if err != nil {
		return err
	}
	if !hmac.Equal(mac, want[:]) {
		return ErrMismatch
	}
	return nil
}

// Current returns the id of the key that signs.
func (r *Ring) Current() string { return r.current }

// IDs returns the ids of all keys, ascending.
func (r *Ring) IDs() []string { return slices.Sorted(maps.Keys(r.keys())) }

// String returns the current key's id; never a key.
func (r *Ring) String() string { return "keyring " + r.current }

// Format prints the current key's id for every verb.
func (r *Ring) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(r.String())) }

// LogValue logs the current key's id.
func (r *Ring) LogValue() slog.Value { return slog.StringValue(r.String()) }

func sum(signers *sync.Pool, parts [][]byte) [MACSize]byte {
	s := signers.Get().(*signer)
	defer signers.Put(s)
	s.keyed.Reset()
	for _, part := range parts {
		binary.BigEndian.PutUint64(s.length[:], uint64(len(part)))
		s.keyed.Write(s.length[:])
		s.keyed.Write(part)
	}
	s.keyed.Sum(s.mac[:0])
	return s.mac
}
