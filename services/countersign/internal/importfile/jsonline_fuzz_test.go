package importfile

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

// FuzzJSONLine: an accepted line loses nothing. Encoding the parsed line again gives as many JSON tokens
// and the same values.
func FuzzJSONLine(f *testing.F) {
	for _, seed := range []string{
		`{"app_id":"x","name":"a","scopes":["events","gdpr"],"secret":"x"}`, `{"name":"a","scopes":[],"sha256":"00"}`,
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
		line, err := parseJSON(text)
		if err != nil {
			return
		}
		var plain struct {
			AppID  *string   `json:"app_id"`
			Name   *string   `json:"name"`
			Scopes *[]string `json:"scopes"`
			Secret *string   `json:"secret"`
			SHA256 *string   `json:"sha256"`
		}
		if err := json.Unmarshal(text, &plain); err != nil {
			t.Fatalf("%q is accepted, and encoding/json says %v", text, err)
		}
		again := map[string]any{}
		if plain.AppID != nil {
			again["app_id"] = line.appID
		}
		if plain.Name != nil {
			again["name"] = line.name
		}
		if plain.Scopes != nil {
			again["scopes"] = append([]string{}, line.scopes...)
		}
		if line.secret != nil {
			again["secret"] = *line.secret
		}
		if line.sha256 != nil {
			again["sha256"] = *line.sha256
		}
		written, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		if has, had := tokens(t, written), tokens(t, text); has != had {
			t.Errorf("%q has %d tokens, what was read from it %d", text, had, has)
		}
		same := func(a, b *string) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
		if plain.Name != nil && *plain.Name != line.name || plain.AppID != nil && *plain.AppID != line.appID ||
			!same(plain.Secret, line.secret) || !same(plain.SHA256, line.sha256) ||
			plain.Scopes != nil && !slices.Equal(*plain.Scopes, line.scopes) {
			t.Errorf("%q is read as %+v", text, line)
		}
	})
}
