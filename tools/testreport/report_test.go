package main

import (
	"strings"
	"testing"
)

// run feeds events, and answers what was printed and whether the run counts as passed.
func run(t *testing.T, noSkips bool, lines ...string) (string, bool) {
	t.Helper()
	var out strings.Builder
	r := newReport(&out)
	if err := r.read(strings.NewReader(strings.Join(lines, "\n"))); err != nil {
		t.Fatal(err)
	}
	ok := r.finish(noSkips)
	return out.String(), ok
}

func start(pkg string) string {
	return `{"Action":"start","Package":"` + pkg + `"}`
}

func output(pkg, test, text string) string {
	return `{"Action":"output","Package":"` + pkg + `","Test":"` + test + `","Output":"` + text + `\n"}`
}

func end(action, pkg, test string) string {
	return `{"Action":"` + action + `","Package":"` + pkg + `","Test":"` + test + `"}`
}

func TestReport(t *testing.T) {
	okPackage := []string{
		start("p"), output("p", "TestA", "quiet"), end("pass", "p", "TestA"), output("p", "", `ok  \tp\t0.1s`), end("pass", "p", ""),
	}
	skippedTest := []string{
		start("p"), output("p", "TestS", "no server"), end("skip", "p", "TestS"), output("p", "", `ok  \tp\t0.1s`), end("pass", "p", ""),
	}
	tests := []struct {
		name    string
		events  []string
		noSkips bool
		ok      bool
		want    []string
		wantNot string
	}{
		{
			name: "a passing test is silent", events: okPackage, noSkips: true, ok: true,
			want: []string{"ok  \tp\t0.1s\n", "PASS: 1 packages, 1 tests passed, 0 failed, 0 skipped\n"}, wantNot: "quiet",
		},
		{
			name: "a skip is named", events: skippedTest, ok: true,
			want: []string{"no server\n", "--- SKIP: TestS (p)\n", "PASS: 1 packages, 0 tests passed, 0 failed, 1 skipped\n"},
		},
		{
			name: "a skip fails where none may be", events: skippedTest, noSkips: true,
			want: []string{"--- SKIP: TestS (p)\n", "FAIL: 1 packages"},
		},
		{
			name: "a failing test shows its output, also at the end",
			events: []string{
				start("p"), output("p", "TestA", "loud"), end("fail", "p", "TestA"), output("p", "", `FAIL\tp\t0.1s`), end("fail", "p", ""),
			},
			want: []string{"loud\n", "--- FAIL: TestA (p)\nFAIL\tp\t0.1s\nFAIL: 1 packages, 0 tests passed, 1 failed, 0 skipped\n"},
		},
		{
			name: "a test that never ended",
			events: []string{
				start("p"), output("p", "TestA", "panic: x"), output("p", "", `FAIL\tp\t0.1s`), end("fail", "p", ""),
			},
			want: []string{"panic: x\n", "--- FAIL: TestA (p)\n"},
		},
		{
			name: "a package that does not build",
			events: []string{
				`{"ImportPath":"p","Action":"build-output","Output":"undefined: x\n"}`, `{"ImportPath":"p","Action":"build-fail"}`,
				start("p"), output("p", "", `FAIL\tp [build failed]`), end("fail", "p", ""),
			},
			want: []string{"undefined: x\n", "FAIL\tp [build failed]\n", "FAIL: 1 packages"},
		},
		{
			name: "events that end early", events: append(okPackage, start("q")),
			want: []string{"FAIL\tq (no result)\n", "FAIL: 1 packages"},
		},
		{
			name: "no test at all", events: []string{"go: no such package", start("p"), end("skip", "p", "")},
			want: []string{"go: no such package\n", "no package was tested\n", "FAIL: 0 packages"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := run(t, tt.noSkips, tt.events...)
			if ok != tt.ok {
				t.Errorf("passed = %v, want %v", ok, tt.ok)
			}
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("output lacks %q:\n%s", want, got)
				}
			}
			if tt.wantNot != "" && strings.Contains(got, tt.wantNot) {
				t.Errorf("output has %q:\n%s", tt.wantNot, got)
			}
		})
	}
}
