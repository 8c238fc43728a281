// Command guards shows that the tests bite: it takes one guard of the product away at a time, in a copy of
// its file that only the compiler sees, and runs the tests that are there for it. They must fail.
//
// It is run in the root of the module. With arguments, only the guards whose names hold one of them are
// tried. It exits with 1 when tests pass without a guard, or when a guard is no longer where it is
// expected.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// guard is one line of defence, and how to take it away.
type guard struct {
	name string
	// file is relative to the root of the module; each of the cuts is made in it.
	file string
	cuts []cut
	// tests is a regular expression of the tests that must fail, in packages; args are flags of theirs.
	tests    string
	packages []string
	args     []string
}

// cut replaces a text that stands exactly once.
type cut struct{ from, to string }

func main() {
	failed := false
	for _, g := range guards {
		if len(os.Args) > 1 && !slices.ContainsFunc(os.Args[1:], func(part string) bool { return strings.Contains(g.name, part) }) {
			continue
		}
		began := time.Now()
		found, err := try(g)
		if err != nil {
			failed = true
			fmt.Printf("FAIL  %-28s %v\n", g.name, err)
			continue
		}
		fmt.Printf("ok    %-28s without it %s (%.0f s)\n", g.name, found, time.Since(began).Seconds())
	}
	if failed {
		os.Exit(1)
	}
}

// try runs the tests of a guard without it, and returns which failed.
func try(g guard) (found string, err error) {
	folder, err := os.MkdirTemp("", "guards")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(folder)
	overlay, err := g.overlay(folder)
	if err != nil {
		return "", err
	}
	args := append([]string{"test", "-overlay", overlay, "-count=1", "-timeout=5m", "-run", g.tests}, g.packages...)
	output, err := exec.Command("go", append(args, g.args...)...).CombinedOutput()
	text := string(output)
	switch {
	case strings.Contains(text, "[build failed]") || strings.Contains(text, "[setup failed]"):
		return "", fmt.Errorf("it cannot be taken away like this:\n%s", text)
	case err == nil && strings.Contains(text, "no tests to run"):
		return "", fmt.Errorf("no test is called %s in %v", g.tests, g.packages)
	case err == nil:
		return "", fmt.Errorf("the tests pass without it: %s in %v", g.tests, g.packages)
	}
	failures := failedTests(text)
	if len(failures) == 0 {
		return "", fmt.Errorf("no test failed, and yet:\n%s", text)
	}
	return strings.Join(failures, ", ") + " failed", nil
}

// failedTests returns the names of top-level tests that failed.
func failedTests(output string) (names []string) {
	for line := range strings.Lines(output) {
		rest, is := strings.CutPrefix(line, "--- FAIL: ")
		if name, _, _ := strings.Cut(rest, " "); is && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 && strings.Contains(output, "panic: ") {
		names = append(names, "a panic:")
	}
	return names
}

// overlay writes the file without the guard, and what tells the compiler to take it (go help build,
// -overlay).
func (g guard) overlay(folder string) (string, error) {
	data, err := os.ReadFile(g.file)
	if err != nil {
		return "", err
	}
	text := string(data)
	for _, c := range g.cuts {
		if n := strings.Count(text, c.from); n != 1 {
			return "", fmt.Errorf("%s has this %d times, want once:\n%s", g.file, n, c.from)
		}
		text = strings.Replace(text, c.from, c.to, 1)
	}
	replaced := filepath.Join(folder, filepath.Base(g.file))
	if err := os.WriteFile(replaced, []byte(text), 0o600); err != nil {
		return "", err
	}
	original, err := filepath.Abs(g.file)
	if err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {original: replaced}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, "overlay.json")
	return path, os.WriteFile(path, list, 0o600)
}
