// Package strictjson rejects JSON that encoding/json accepts but reads with a loss: a repeated key, a key in
// another case, bytes that are not UTF-8, and data after the value. This package is not part of the public
// API and may change in any release.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// maxDepth is how deep objects and arrays may be nested, far more than any Countersign file needs.
const maxDepth = 16

// Errors of Check. None holds any of the data, which may be a secret.
var (
	ErrForm = errors.New("not one JSON value with nothing after it")
	ErrUTF8 = errors.New("a byte is not part of any character of UTF-8")
	ErrBOM  = errors.New("starts with a byte order mark; save the file as UTF-8 without one")
	ErrDeep = errors.New("nested too deep")
)

// Check fails unless data is one JSON value that encoding/json reads without a loss. known reports whether an
// object may have a key. path holds the keys that lead to the object, without indices of arrays.
func Check(data []byte, known func(path []string, key string) bool) error {
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return ErrBOM
	case !utf8.Valid(data):
		return ErrUTF8
	case !json.Valid(data):
		return ErrForm
	}
	w := walker{data: data, decoder: json.NewDecoder(bytes.NewReader(data)), known: known}
	return w.value(nil, 0)
}

type walker struct {
	data    []byte
	decoder *json.Decoder
	known   func(path []string, key string) bool
}

// at adds the line number to an error.
func (w *walker) at(what string) error {
	return fmt.Errorf("line %d: %s", 1+bytes.Count(w.data[:w.decoder.InputOffset()], []byte("\n")), what)
}

func (w *walker) value(path []string, depth int) error {
	token, err := w.decoder.Token()
	if err != nil {
		return ErrForm
	}
	if depth > maxDepth {
		return ErrDeep
	}
	switch token {
	case json.Delim('{'):
		seen := map[string]bool{}
		for w.decoder.More() {
			token, err := w.decoder.Token()
			key, isKey := token.(string)
			switch {
			case err != nil || !isKey:
				return ErrForm
			case seen[key]:
				return w.at("a key is there twice")
			case !w.known(path, key):
				return w.at("an unknown key; keys are written in small letters")
			}
			seen[key] = true
			if err := w.value(append(path[:len(path):len(path)], key), depth+1); err != nil {
				return err
			}
		}
	case json.Delim('['):
		for w.decoder.More() {
			if err := w.value(path, depth+1); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	_, err = w.decoder.Token() // the end of the object or the array
	return err
}
