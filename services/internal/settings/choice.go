package settings

import (
	"errors"
	"slices"
	"strings"
)

// choice is the value of a flag that accepts only some words.
type choice struct {
	value string
	from  []string
}

// Type returns the placeholder of the value in help texts.
func (c *choice) Type() string { return "word" }

// String returns the word.
func (c *choice) String() string { return c.value }

// Set accepts one of the words.
func (c *choice) Set(value string) error {
	if !slices.Contains(c.from, value) {
		return errors.New("want " + c.list())
	}
	c.value = value
	return nil
}

func (c *choice) list() string {
	last := len(c.from) - 1
	return strings.Join(c.from[:last], ", ") + " or " + c.from[last]
}
