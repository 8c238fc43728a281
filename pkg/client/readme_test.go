package client_test

import (
	"os"
	"strings"
	"testing"
)

// The Go code in the README is part of an example, so that it compiles.
func TestReadmeCodeCompiles(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("example_dial_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(readme), "```go\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("the README has no Go code")
	}
	for _, block := range blocks {
		code, _, closed := strings.Cut(block, "```")
		var indented strings.Builder
		for line := range strings.Lines(code) {
			indented.WriteString("\t" + line)
		}
		if !closed || !strings.Contains(string(example), indented.String()) {
			t.Errorf("no example has this code of the README:\n%s", code)
		}
	}
}
