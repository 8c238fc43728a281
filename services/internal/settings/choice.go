package settings

import (
	"errors"
	"slices"
	"strings"
)

// choice is a flag's value that is one of a few words.
type choice struct {
	value string
	from  []string
}

// Type is how the help text calls the value.
func (c *choice) Type() string { return "word" }

// String returns the word.
func (c *choice) String() string { return c.value }

// Set takes one of the words.
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
