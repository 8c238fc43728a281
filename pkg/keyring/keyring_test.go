package keyring_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/keyring"
)

// key returns a key that is easy to find in a text.
func key(b byte) []byte { return bytes.Repeat([]byte{b}, keyring.KeySize) }

// ringFile is the contents of a key ring file.
func ringFile(current string, keys map[string][]byte) string {
	data, err := json.Marshal(map[string]any{"current": current, "keys": keys})
	if err != nil {
		panic(err)
	}
	return string(data)
}

func ring(t testing.TB, current string, keys map[string][]byte) *keyring.Ring {
	t.Helper()
	r, err := keyring.Parse([]byte(ringFile(current, keys)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// showsKey reports whether a text contains a key in any encoding that Go or a person would use.
func showsKey(text string, key []byte) bool {
	decimals := strings.Trim(fmt.Sprint(key[:4]), "[]")
	for _, form := range []string{
		string(key), base64.StdEncoding.EncodeToString(key)[:12], base64.URLEncoding.EncodeToString(key)[:12],
		hex.EncodeToString(key)[:12], strings.ToUpper(hex.EncodeToString(key)[:12]), decimals,
		strings.ReplaceAll(decimals, " ", ", "), strings.Trim(fmt.Sprintf("%q", key[:4]), `"`),
		fmt.Sprintf("%#x, %#x", key[0], key[1]),
	} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

// A key that is not random protects nothing. Every byte of it must differ between rings.
func TestGeneratedKeysAreRandom(t *testing.T) {
	type form struct {
		Current string
		Keys    map[string][]byte
	}
	names := map[string]bool{}
	var differ [keyring.KeySize]bool
	var first []byte
	for range 64 {
		path := filepath.Join(t.TempDir(), "ring")
		if err := keyring.Generate().Create(path); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var got form
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		key := got.Keys[got.Current]
		if len(key) != keyring.KeySize || len(got.Keys) != 1 {
			t.Fatalf("%d keys, the current one of %d bytes", len(got.Keys), len(key))
		}
		names[got.Current] = true
		if first == nil {
			first = key
		}
		for i := range key {
			differ[i] = differ[i] || key[i] != first[i]
		}
	}
	if len(names) < 63 { // of 2^32
		t.Errorf("64 rings have %d key ids", len(names))
	}
	for i, d := range differ {
		if !d {
			t.Errorf("byte %d is the same in 64 keys", i)
		}
	}
}

func TestGeneratedRingsDiffer(t *testing.T) {
	a, b := keyring.Generate(), keyring.Generate()
	_, macA := a.Sign([]byte("part"))
	id, macB := b.Sign([]byte("part"))
	if macA == macB || a.String() == b.String() {
		t.Error("two generated rings have one key or one id")
	}
	if err := a.Verify(id, macB[:], []byte("part")); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("the MAC of a foreign ring: %v, want ErrUnknownKey", err)
	}
}

func TestUnknownKeyIsNotAMismatch(t *testing.T) {
	r := ring(t, "b", map[string][]byte{"a": key('a'), "b": key('b')})
	id, mac := r.Sign([]byte("part"))
	if id != "b" {
		t.Errorf("signed with %q, want the current key", id)
	}
	old, err := r.SignWith("a", []byte("part"))
	if err != nil || old == mac {
		t.Errorf("signing with the other key: same MAC, or %v", err)
	}
	for _, tt := range []struct {
		name  string
		keyID string
		mac   []byte
		part  string
		want  error
	}{
		{"current key", "b", mac[:], "part", nil},
		{"previous key", "a", old[:], "part", nil},
		{"MAC of another key", "a", mac[:], "part", keyring.ErrMismatch},
		{"other part", "b", mac[:], "Part", keyring.ErrMismatch},
		{"cut MAC", "b", mac[:31], "part", keyring.ErrMismatch},
		{"no MAC", "b", nil, "part", keyring.ErrMismatch},
		{"longer MAC", "b", append(mac[:], 0), "part", keyring.ErrMismatch},
		{"unknown key", "c", mac[:], "part", keyring.ErrUnknownKey},
		{"no key", "", mac[:], "part", keyring.ErrUnknownKey},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := r.Verify(tt.keyID, tt.mac, []byte(tt.part))
			if !errors.Is(err, tt.want) || errors.Is(err, keyring.ErrMismatch) && errors.Is(err, keyring.ErrUnknownKey) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
	if _, err := r.SignWith("c"); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("SignWith an unknown key: %v", err)
	}
}

// TestMACIsHMACOfPrefixedParts pins the format: records that one release signed must verify in the next.
func TestMACIsHMACOfPrefixedParts(t *testing.T) {
	r := ring(t, "a", map[string][]byte{"a": key('a')})
	h := hmac.New(sha256.New, key('a'))
	h.Write([]byte("\x00\x00\x00\x00\x00\x00\x00\x02no\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01!"))
	if _, mac := r.Sign([]byte("no"), nil, []byte("!")); !bytes.Equal(mac[:], h.Sum(nil)) {
		t.Error("the MAC has another form")
	}
}

// TestNoTwoListsOfPartsHaveOneMAC splits one text into parts in two ways, and compares with other lists.
func TestNoTwoListsOfPartsHaveOneMAC(t *testing.T) {
	r := ring(t, "a", map[string][]byte{"a": key('a')})
	cut := func(t *rapid.T, text []byte, label string) (parts [][]byte) {
		for len(text) > 0 {
			n := rapid.IntRange(0, len(text)).Draw(t, label)
			parts, text = append(parts, text[:n]), text[n:]
		}
		return parts
	}
	rapid.Check(t, func(t *rapid.T) {
		// Few different bytes, zero and a length among them, so that parts look like prefixes.
		text := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 8, 'x'}), 0, 24).Draw(t, "text")
		one, other := cut(t, text, "one"), cut(t, text, "other")
		if rapid.Bool().Draw(t, "add") {
			other = append(other, rapid.SliceOfN(rapid.Just(byte(0)), 0, 8).Draw(t, "added"))
		}
		same := len(one) == len(other)
		for i := 0; same && i < len(one); i++ {
			same = bytes.Equal(one[i], other[i])
		}
		_, macOne := r.Sign(one...)
		_, macOther := r.Sign(other...)
		if (macOne == macOther) != same {
			t.Fatalf("%q and %q: same MAC is %v", one, other, macOne == macOther)
		}
	})
}

// TestB02_RingNeverShowsItsKeys, however it is printed or logged.
func TestB02_RingNeverShowsItsKeys(t *testing.T) {
	secrets := [][]byte{key(0xA7), []byte("a key that is a readable text...")}
	r := ring(t, "id-one", map[string][]byte{"id-one": secrets[0], "id-two": secrets[1]})
	type holder struct {
		Ring  *keyring.Ring
		Value keyring.Ring
		inner *keyring.Ring
		value keyring.Ring
	}
	held := holder{r, *r, r, *r}
	var logged bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&logged, nil), slog.NewJSONHandler(&logged, nil)} {
		slog.New(handler).Info("ring", "ring", r, "value", *r, "held", held, "pointer", &held, slog.Group("group", "ring", r))
	}
	texts := map[string]string{"slog": logged.String(), "String": r.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10s", "%t", "%p"} {
		for name, value := range map[string]any{
			"pointer": r, "value": *r, "struct": held, "struct pointer": &held, "slice": []*keyring.Ring{r},
			"map": map[string]keyring.Ring{"r": *r}, "error": fmt.Errorf("with %v", r),
		} {
			texts[verb+" "+name] = fmt.Sprintf(verb, value)
		}
	}
	for name, value := range map[string]any{"pointer": r, "value": *r, "struct": held} {
		data, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		texts["json "+name] = string(data)
	}
	for name, text := range texts {
		for _, secret := range secrets {
			if showsKey(text, secret) {
				t.Errorf("%s shows a key: %.200s", name, text)
			}
		}
	}
	if !strings.Contains(fmt.Sprint(r), "id-one") {
		t.Errorf("%v does not name the current key", r)
	}
}
