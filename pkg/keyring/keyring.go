// Package keyring holds the keys that sign every record in the store. Authority and validators share them
// as a file; whoever can write Redis but has no key can forge nothing.
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

// KeySize is the length of a key in bytes: that of the output of SHA-256 (RFC 2104, section 3).
const KeySize = 32

// MACSize is the length of a MAC in bytes.
const MACSize = sha256.Size

// ErrUnknownKey says that a MAC was made with a key that the ring does not hold: not a forgery, perhaps an
// old ring.
var ErrUnknownKey = errors.New("keyring: unknown key")

// ErrMismatch says that a MAC does not belong to what it stands beside.
var ErrMismatch = errors.New("keyring: MAC does not match")

// Ring is a set of keys by id, one of which signs. It is immutable and safe for concurrent use, and formats
// as the ids of its keys only.
type Ring struct {
	// keys and signers are functions since fmt looks into a struct that holds a Ring past the methods that
	// keep the keys from it.
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

// signer makes MACs with one key. It is kept since preparing the key costs as much as a short MAC, and a
// validator that starts makes one or two for each app.
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

// Sign returns the MAC of some parts with the current key, and the key's id. Each part goes in with its
// length, so that no two lists of parts have the same MAC.
func (r *Ring) Sign(parts ...[]byte) (keyID string, mac [MACSize]byte) {
	return r.current, sum(r.signers()[r.current], parts)
}

// SignWith does what Sign does, with a key chosen by id.
func (r *Ring) SignWith(keyID string, parts ...[]byte) (mac [MACSize]byte, err error) {
	signers, ok := r.signers()[keyID]
	if !ok {
		return mac, fmt.Errorf("%w %q", ErrUnknownKey, keyID)
	}
	return sum(signers, parts), nil
}

// Verify returns nil when the MAC is that of the parts, ErrUnknownKey or ErrMismatch otherwise.
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

// Format keeps every verb away from the keys.
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
