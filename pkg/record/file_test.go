package record_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
)

// TestFileRecordOpensOnlyInItsPlace: a file record opens unchanged, under its number, in its file and store.
func TestFileRecordOpensOnlyInItsPlace(t *testing.T) {
	c, ring := newCodec(t), fixedRing(t)
	otherStore := record.NewCodec(ring, record.Meta{StoreID: storeID[1:] + "0", Partitions: 64})
	otherKeys := record.NewCodec(keyring.Generate(), c.Meta())
	file, other := record.NewFileID(), record.NewFileID()
	for _, payload := range [][]byte{[]byte("payload"), {}} {
		raw := c.SealFileRecord(file, 3, payload)
		if got, err := c.OpenFileRecord(file, 3, raw); err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("%q, %v", got, err)
		}
		for name, open := range map[string]func([]byte) ([]byte, error){
			"another number": func(raw []byte) ([]byte, error) { return c.OpenFileRecord(file, 4, raw) },
			"another file":   func(raw []byte) ([]byte, error) { return c.OpenFileRecord(other, 3, raw) },
			"another store":  func(raw []byte) ([]byte, error) { return otherStore.OpenFileRecord(file, 3, raw) },
			"other keys":     func(raw []byte) ([]byte, error) { return otherKeys.OpenFileRecord(file, 3, raw) },
			"as a header": func(raw []byte) ([]byte, error) {
				payload, _, err := record.OpenFileHeader(ring, raw)
				return payload, err
			},
		} {
			if got, err := open(raw); !refusal(err) || got != nil {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		for first := range 256 {
			long := append([]byte{byte(first)}, make([]byte, 400)...)
			if _, err := c.OpenFileRecord(file, 3, long); !refusal(err) {
				t.Errorf("key id of %d bytes: %v", first, err)
			}
		}
		for bit := range 8 * len(raw) {
			flipped := bytes.Clone(raw)
			flipped[bit/8] ^= 1 << (bit % 8)
			if _, err := c.OpenFileRecord(file, 3, flipped); !refusal(err) {
				t.Errorf("bit %d flipped: %v", bit, err)
			}
		}
		for n := range raw {
			if _, err := c.OpenFileRecord(file, 3, raw[:n]); !refusal(err) {
				t.Errorf("cut to %d: %v", n, err)
			}
		}
		if _, err := c.OpenFileRecord(file, 3, append(bytes.Clone(raw), 0)); !refusal(err) {
			t.Errorf("extended: %v", err)
		}
	}
	header := record.SealFileHeader(ring, []byte("header"))
	if got, keyID, err := record.OpenFileHeader(ring, header); err != nil || string(got) != "header" ||
		keyID != ring.Current() {
		t.Errorf("%q of key %q, %v", got, keyID, err)
	}
	if _, err := c.OpenFileRecord(record.FileID{}, 0, header); !refusal(err) {
		t.Errorf("a header as a record: %v", err)
	}
}

// TestHiddenSumIsRevealedInItsPlace: elsewhere it reveals nothing.
func TestHiddenSumIsRevealedInItsPlace(t *testing.T) {
	c := newCodec(t)
	file, other := record.NewFileID(), record.NewFileID()
	sum := c.Add(record.Sum{}, 5, "app", 1)
	hide := func(file record.FileID, partition int, s record.Sum) []byte {
		raw, _ := c.HideSum(file, partition, s)
		return raw
	}
	hidden, keyID := c.HideSum(file, 5, sum)
	if got, err := c.RevealSum(file, 5, hidden, keyID); err != nil || got != sum {
		t.Errorf("%v, %v; want %v", got, err, sum)
	}
	for name, again := range map[string][]byte{"another file": hide(other, 5, sum), "another partition": hide(file, 6, sum)} {
		if bytes.Equal(again, hidden) {
			t.Errorf("%s hides it in the same way", name)
		}
	}
	if bytes.Equal(hide(file, 5, record.Sum{}), make([]byte, 32)) {
		t.Error("a sum of 0 shows")
	}
	if _, err := c.RevealSum(file, 5, hidden[1:], keyID); !refusal(err) {
		t.Errorf("cut: %v", err)
	}
	if _, err := c.RevealSum(file, 5, hidden, "unknown"); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("under a key that is not in the ring: %v", err)
	}
}
