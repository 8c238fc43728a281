package layering

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// widest is how many columns a line with nothing but a comment may have. A tab counts 4.
const widest = 110

// TestCommentsAreNarrow: a comment wider than 110 columns is hard to read. A line of one word, such as an
// address, cannot be broken.
func TestCommentsAreNarrow(t *testing.T) {
	for name, p := range list(t) {
		if inside(name, "proto") {
			continue
		}
		for _, file := range p.files() {
			data, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			for i, line := range slices.Collect(bytes.Lines(data)) {
				text := strings.TrimSpace(string(line))
				indent := len(line) - len(bytes.TrimLeft(line, "\t"))
				width := 4*indent + len([]rune(text))
				if strings.HasPrefix(text, "// ") && strings.Count(text, " ") > 1 && width > widest {
					t.Errorf("%s/%s:%d: the comment has %d columns, want at most %d", name, file, i+1, width, widest)
				}
			}
		}
	}
}

// TestPackagesAreDescribed: every package has a comment, and a line in CONTRIBUTING.md. The list there names
// no package that does not exist.
func TestPackagesAreDescribed(t *testing.T) {
	packages := list(t)
	text, err := os.ReadFile("../../../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z][a-z0-9/]*)` \\| .+ \\|$").FindAllSubmatch(text, -1) {
		name := string(row[1])
		if listed[name] {
			t.Errorf("CONTRIBUTING.md has two lines for %s", name)
		}
		listed[name] = true
		if _, there := packages[name]; !there {
			t.Errorf("CONTRIBUTING.md has a line for %s, which is no package", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		if !listed[name] {
			t.Errorf("CONTRIBUTING.md has no line for %s: add one to its list of packages", name)
		}
		p := packages[name]
		if !inside(name, "proto") && !slices.ContainsFunc(p.files(), func(file string) bool { return described(t, p, file) }) {
			t.Errorf("%s has no package comment", name)
		}
	}
}

// described reports whether a file has a package comment.
func described(t *testing.T, p goPackage, name string) bool {
	t.Helper()
	path := filepath.Join(p.Dir, name)
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly|parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return file.Doc != nil && docOf(file.Doc) != ""
}

// docOf returns the text of a comment without directives such as build tags.
func docOf(comment *ast.CommentGroup) string { return strings.TrimSpace(comment.Text()) }
