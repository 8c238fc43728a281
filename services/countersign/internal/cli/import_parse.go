package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

var (
	errLine = errors.New(`want one object and nothing after it: {"name": ..., "scopes": [...], "secret": ...},` +
		` or "sha256" instead of "secret"`)
	errUTF8   = errors.New("want UTF-8: a byte is no part of a character")
	errBOM    = errors.New("the line starts with a byte order mark; save the file as UTF-8 without one")
	errString = errors.New("want a string")
)

// byteOrderMark is U+FEFF in UTF-8, which some editors put before the text.
var byteOrderMark = []byte("\xef\xbb\xbf")

// decodeImport reads a line as exactly one object. It reads token by token, because decoding into a struct
// would accept duplicate keys, keys in another case, null, and bytes that are not UTF-8. Errors never contain
// text of the line.
func decodeImport(data []byte) (importLine, error) {
	var line importLine
	switch {
	case bytes.HasPrefix(data, byteOrderMark):
		return line, errBOM
	case !utf8.Valid(data):
		return line, errUTF8
	case !json.Valid(data): // valid means that the whole line is one value
		return line, errLine
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return line, errLine
	}
	seen := map[string]bool{}
	for decoder.More() {
		key, err := stringToken(decoder)
		if err != nil {
			return line, errLine
		}
		column := decoder.InputOffset() + 1 - int64(len(key)) - 1
		if seen[key] {
			return line, fmt.Errorf("column %d: this field appears twice", column)
		}
		seen[key] = true
		if err := line.field(decoder, key); err != nil {
			return line, fmt.Errorf("column %d: %w", column, err)
		}
	}
	if (line.Secret == nil) == (line.SHA256 == nil) || !seen["name"] {
		return line, errLine
	}
	return line, nil
}

// field reads the value of one field.
func (l *importLine) field(decoder *json.Decoder, key string) (err error) {
	switch key {
	case "name":
		l.Name, err = stringToken(decoder)
	case "secret", "sha256":
		var text string
		if text, err = stringToken(decoder); key == "secret" {
			l.Secret = &text
		} else {
			l.SHA256 = &text
		}
	case "scopes":
		l.Scopes, err = stringsToken(decoder)
	default:
		return errors.New("unknown field; want name, scopes, and secret or sha256, in lower case")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
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
