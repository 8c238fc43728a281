package importfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

var (
	errLine = errors.New(`want one object and nothing after it: {"app_id": ..., "name": ..., "scopes": [...], ` +
		`"secret": ...}, or "sha256" instead of "secret"`)
	errUTF8   = errors.New("want UTF-8: a byte is no part of a character")
	errString = errors.New("want a string")
)

// parseJSON reads a line as exactly one object. It reads token by token, because decoding into a struct would
// accept duplicate keys, keys in another case, null, and bytes that are not UTF-8. Errors never contain text
// of the line.
func parseJSON(data []byte) (fields, error) {
	var f fields
	switch {
	case !utf8.Valid(data):
		return f, errUTF8
	case !json.Valid(data): // valid means that the whole line is one value
		return f, errLine
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return f, errLine
	}
	seen := map[string]bool{}
	for decoder.More() {
		key, err := stringToken(decoder)
		if err != nil {
			return f, errLine
		}
		column := decoder.InputOffset() + 1 - int64(len(key)) - 1
		switch {
		case !slices.Contains(knownColumns, key):
			return f, fmt.Errorf("column %d: unknown field; %s, in lower case", column, wantColumns)
		case seen[key]:
			return f, wrong(key, "the line has this field twice")
		}
		seen[key] = true
		if err := f.value(decoder, key); err != nil {
			return f, wrong(key, "%s", err)
		}
	}
	return f, nil
}

// value reads the value of one field.
func (f *fields) value(decoder *json.Decoder, key string) (err error) {
	if key == "scopes" {
		f.scopes, err = stringsToken(decoder)
		return err
	}
	text, err := stringToken(decoder)
	switch key {
	case "app_id":
		f.appID = text
	case "name":
		f.name = text
	case "secret":
		f.secret = &text
	case "sha256":
		f.sha256 = &text
	}
	return err
}

func stringToken(decoder *json.Decoder) (string, error) {
	token, err := decoder.Token()
	text, ok := token.(string)
	switch {
	case err != nil || !ok:
		return "", errString
	case bytes.ContainsRune([]byte(text), utf8.RuneError):
		return "", errors.New("want no U+FFFD and no half of a surrogate pair: a character was lost before")
	}
	return text, nil
}

func stringsToken(decoder *json.Decoder) ([]string, error) {
	if token, err := decoder.Token(); err != nil || token != json.Delim('[') {
		return nil, errors.New("want an array of strings")
	}
	var texts []string
	for decoder.More() {
		text, err := stringToken(decoder)
		if err != nil {
			return nil, errors.New("want an array of strings")
		}
		texts = append(texts, text)
	}
	_, err := decoder.Token()
	return texts, err
}
