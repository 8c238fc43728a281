// Command guards proves that the tests notice when a guard of the product is missing. It removes one guard
// at a time, in a copy of its file that only the compiler sees, and runs the tests of that guard. They must
// fail.
//
// Run it in the root of the module. With arguments, it tries only the guards whose names contain one of
// them. It exits with 1 when tests pass without a guard, or when the text of a guard is not in its file.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// atOnce is how many guards are tried at a time. Each builds one test binary and then mostly waits for Redis.
const atOnce = 2

// guard is one line of defence, and how to remove it.
type guard struct {
	name string
	// file is relative to the root of the module; each of the cuts is made in it.
	file string
	cuts []cut
	// tests is a regular expression of the tests that must fail, in packages, with the flags args.
	tests    string
	packages []string
	args     []string
}

// cut replaces a text that occurs exactly once in the file.
type cut struct{ from, to string }

func main() {
	var chosen []guard
	for _, g := range guards {
		named := func(part string) bool { return strings.Contains(g.name, part) }
		if len(os.Args) == 1 || slices.ContainsFunc(os.Args[1:], named) {
			chosen = append(chosen, g)
		}
	}
	var failed atomic.Bool
	var workers sync.WaitGroup
	next := make(chan guard)
	for range atOnce {
		workers.Go(func() {
			for g := range next {
				began := time.Now()
				found, err := try(g)
				if err != nil {
					failed.Store(true)
					fmt.Printf("FAIL  %-28s %v\n", g.name, err)
					continue
				}
				fmt.Printf("ok    %-28s without it %s failed (%.0f s)\n", g.name, found, time.Since(began).Seconds())
			}
		})
	}
	for _, g := range chosen {
		next <- g
	}
	close(next)
	workers.Wait()
	if failed.Load() {
		os.Exit(1)
	}
}

// try runs the tests of a guard without the guard, and returns which of them failed.
//
// One failure is enough, so the run stops at the first. Vet and debug information only cost time here. The
// other settings are those of make build and make model, so that all three share the build cache.
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
	args := []string{
		"test", "-overlay", overlay, "-trimpath", "-vet=off", "-ldflags=-s -w", "-count=1", "-failfast", "-timeout=5m",
		"-run", g.tests,
	}
	command := exec.Command("go", append(append(args, g.packages...), g.args...)...)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := command.CombinedOutput()
	text := string(output)
	switch {
	case strings.Contains(text, "[build failed]") || strings.Contains(text, "[setup failed]"):
		return "", fmt.Errorf("%s does not build without the guard:\n%s", g.file, text)
	case err == nil && strings.Contains(text, "no tests to run"):
		return "", fmt.Errorf("no test matches %s in %v", g.tests, g.packages)
	case err == nil:
		return "", fmt.Errorf("the tests pass without the guard: %s in %v", g.tests, g.packages)
	}
	failures := failedTests(text)
	if len(failures) == 0 {
		return "", fmt.Errorf("go test failed, and no test did:\n%s", text)
	}
	return strings.Join(failures, ", "), nil
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
		names = append(names, "with a panic, the tests")
	}
	return names
}

// without returns the text of a file after the cuts.
func (g guard) without(text string) (string, error) {
	for _, c := range g.cuts {
		if n := strings.Count(text, c.from); n != 1 {
			return "", fmt.Errorf("%s has this text %d times, want once:\n%s", g.file, n, c.from)
		}
		text = strings.Replace(text, c.from, c.to, 1)
	}
	return text, nil
}

// overlay writes the file without the guard, and the list that makes the compiler use it (go help build,
// -overlay). It returns the path of the list.
func (g guard) overlay(folder string) (string, error) {
	data, err := os.ReadFile(g.file)
	if err != nil {
		return "", err
	}
	text, err := g.without(string(data))
	if err != nil {
		return "", err
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
