package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"testing"
)

// tokens counts the JSON tokens of a text: values, keys and brackets.
func tokens(t *testing.T, text []byte) (n int) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	for {
		switch _, err := decoder.Token(); {
		case errors.Is(err, io.EOF):
			return n
		case err != nil:
			t.Fatalf("%q is accepted, and is not JSON: %v", text, err)
		}
		n++
	}
}

// FuzzImportLine: an accepted line loses nothing. Encoding the parsed line again gives as many JSON tokens
// and the same values.
func FuzzImportLine(f *testing.F) {
	for _, seed := range []string{
		`{"name":"a","scopes":["events","gdpr"],"secret":"x"}`, `{"name":"a","scopes":[],"sha256":"00"}`,
		` {"secret" : "\u0041" , "name" : ""} `,
		`{"name":"a","secret":"x"}]{"name":"b","secret":"y"}`, `{"name":"a","secret":"x"}}}} words`,
		`{"name":"a","secret":"x","secret":"y"}`,
		`{"name":"a","Name":"b","secret":"x"}`, `{"name":"a","scopes":["events"],"scopes":null,"secret":"x"}`,
		`{"name":"\ud800","secret":"x"}`,
		`{"name":"a","secret":"x","scopes":[[[[]]]]}`, "\ufeff{}", "{\"name\":\"\xff\",\"secret\":\"x\"}", "null", "[]", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		line, err := decodeImport(text)
		if err != nil {
			return
		}
		var plain struct {
			Name           string
			Scopes         *[]string
			Secret, SHA256 *string
		}
		if err := json.Unmarshal(text, &plain); err != nil {
			t.Fatalf("%q is accepted, and encoding/json says %v", text, err)
		}
		again := map[string]any{"name": line.Name}
		if plain.Scopes != nil {
			again["scopes"] = append([]string{}, line.Scopes...)
		}
		if line.Secret != nil {
			again["secret"] = *line.Secret
		}
		if line.SHA256 != nil {
			again["sha256"] = *line.SHA256
		}
		written, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		if has, had := tokens(t, written), tokens(t, text); has != had {
			t.Errorf("%q has %d tokens, what was read from it %d", text, had, has)
		}
		same := func(a, b *string) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
		if plain.Name != line.Name || !same(plain.Secret, line.Secret) || !same(plain.SHA256, line.SHA256) ||
			plain.Scopes != nil && !slices.Equal(*plain.Scopes, line.Scopes) {
			t.Errorf("%q is read as %+v", text, line)
		}
	})
}
