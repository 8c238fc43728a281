package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// event is one line of `go test -json`; see `go doc test2json` and `go help buildjson`.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

// testID names a test, or a whole package when Test is empty.
type testID struct {
	Package, Test string
}

// report gathers events. The output of a test is held back until its outcome is known, and printed only if
// it failed.
type report struct {
	out     io.Writer
	pending map[testID]*strings.Builder
	running map[string]bool // packages that have started and not ended

	passed, packages int
	skipped          []testID
	failed           []testID
	lines            []string // the closing line of each package: "ok ..." or "FAIL ..."
}

func newReport(out io.Writer) *report {
	return &report{out: out, pending: map[testID]*strings.Builder{}, running: map[string]bool{}}
}

// read consumes all events. A line that is none, such as a message of the go command itself, is passed on.
func (r *report) read(in io.Reader) error {
	br := bufio.NewReader(in)
	for {
		line, err := br.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil || e.Action == "" {
				fmt.Fprintf(r.out, "%s\n", strings.TrimRight(string(line), "\n"))
			} else {
				r.take(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading test events: %w", err)
		}
	}
}

func (r *report) take(e event) {
	id := testID{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "start":
		r.running[e.Package] = true
	case "output":
		b := r.pending[id]
		if b == nil {
			b = &strings.Builder{}
			r.pending[id] = b
		}
		b.WriteString(e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(id, e.Action)
		} else {
			r.endTest(id, e.Action)
		}
	}
}

func (r *report) endTest(id testID, action string) {
	switch action {
	case "pass":
		r.passed++
	case "skip":
		r.skipped = append(r.skipped, id)
		r.print(id) // it says why
	case "fail":
		r.failed = append(r.failed, id)
		r.print(id)
	}
	delete(r.pending, id)
}

func (r *report) endPackage(id testID, action string) {
	delete(r.running, id.Package)
	if action == "fail" {
		// A test that neither passed nor failed was cut short: a panic, os.Exit or the timeout.
		for other := range r.pending {
			if other.Package == id.Package && other.Test != "" {
				r.failed = append(r.failed, other)
				r.print(other)
			}
		}
		r.print(id)
	}
	last := lastLine(r.pending[id])
	delete(r.pending, id)
	switch action {
	case "fail":
		r.packages++
		r.failed = append(r.failed, id)
		if !strings.HasPrefix(last, "FAIL") {
			last = "FAIL\t" + id.Package
		}
		r.lines = append(r.lines, last)
	case "pass":
		r.packages++
		r.lines = append(r.lines, last)
		fmt.Fprintln(r.out, last)
	}
}

func (r *report) print(id testID) {
	if b := r.pending[id]; b != nil {
		fmt.Fprint(r.out, b.String())
	}
}

func lastLine(b *strings.Builder) string {
	if b == nil {
		return ""
	}
	s := strings.TrimRight(b.String(), "\n")
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// finish prints the closing lines and reports whether the run counts as passed.
func (r *report) finish(noSkips bool) bool {
	for pkg := range r.running {
		r.failed = append(r.failed, testID{Package: pkg})
		r.lines = append(r.lines, "FAIL\t"+pkg+" (no result)")
	}
	for _, id := range r.skipped {
		fmt.Fprintf(r.out, "--- SKIP: %s (%s)\n", id.Test, id.Package)
	}
	ok := len(r.failed) == 0 && (len(r.skipped) == 0 || !noSkips)
	if r.packages == 0 && ok {
		fmt.Fprintln(r.out, "no package was tested")
		ok = false
	}
	if len(r.failed) > 0 {
		fmt.Fprintln(r.out)
		for _, id := range r.failed {
			if id.Test != "" {
				fmt.Fprintf(r.out, "--- FAIL: %s (%s)\n", id.Test, id.Package)
			}
		}
		for _, line := range r.lines {
			fmt.Fprintln(r.out, line)
		}
	}
	word := "PASS"
	if !ok {
		word = "FAIL"
	}
	failedTests := 0
	for _, id := range r.failed {
		if id.Test != "" {
			failedTests++
		}
	}
	fmt.Fprintf(r.out, "%s: %d packages, %d tests passed, %d failed, %d skipped\n",
		word, r.packages, r.passed, failedTests, len(r.skipped))
	return ok
}
