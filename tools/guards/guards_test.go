package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

const root = "../.."

// TestGuardsAreInTheirFiles: each text that a guard removes occurs once, and removing it changes the file. It
// is quick, so that a change of the product notices at once what make guards would notice late.
func TestGuardsAreInTheirFiles(t *testing.T) {
	for _, g := range guards {
		data, err := os.ReadFile(filepath.Join(root, g.file))
		if err != nil {
			t.Errorf("%s: %v", g.name, err)
			continue
		}
		text, err := g.without(string(data))
		if err != nil {
			t.Errorf("%s: %v", g.name, err)
		} else if text == string(data) {
			t.Errorf("%s: the cuts change nothing in %s", g.name, g.file)
		}
	}
}

// TestGuardsHaveTests: a guard has a name of its own, and each part of its regular expression matches a test.
func TestGuardsHaveTests(t *testing.T) {
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	names := map[string]bool{}
	for _, g := range guards {
		if names[g.name] {
			t.Errorf("two guards are called %s", g.name)
		}
		names[g.name] = true
		var tests [][][]byte
		for _, folder := range g.packages {
			files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				tests = append(tests, declared.FindAllSubmatch(data, -1)...)
			}
		}
		for _, part := range regexp.MustCompile(`\|`).Split(g.tests, -1) {
			matcher, err := regexp.Compile(part)
			if err != nil {
				t.Errorf("%s: %v", g.name, err)
				continue
			}
			found := false
			for _, name := range tests {
				found = found || matcher.Match(name[1])
			}
			if !found {
				t.Errorf("%s: no test in %v matches %s", g.name, g.packages, part)
			}
		}
	}
}

func TestWithout(t *testing.T) {
	g := guard{file: "f", cuts: []cut{{"a", "b"}, {"c", ""}}}
	if got, err := g.without("a c"); got != "b " || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	for _, text := range []string{"c", "a a c", "a"} {
		if got, err := g.without(text); err == nil {
			t.Errorf("%q became %q, want an error", text, got)
		}
	}
}

func TestFailedTests(t *testing.T) {
	for output, want := range map[string]int{
		"--- FAIL: TestA (0.1s)\n    --- FAIL: TestA/sub (0.1s)\n--- FAIL: TestB (0s)\n": 2,
		"panic: x\n": 1,
		"ok\n":       0,
	} {
		if got := failedTests(output); len(got) != want {
			t.Errorf("%q: got %q, want %d", output, got, want)
		}
	}
}
