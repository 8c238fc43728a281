// Package cmdlinetest tests command lines: it has commands for scripts (testscript), and checks of help
// texts. This package is not part of the public API and may change in any release.
package cmdlinetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// Exits is the command "exits CODE PROGRAM ARGUMENT...": it runs a program that must end with the exit code.
func Exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program argument...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := ExitCode(ts, ts.Exec(args[1], args[2:]...)); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// ExitCode returns the exit code of a program that testscript ran. Other errors end the script.
func ExitCode(ts *testscript.TestScript, err error) int {
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return ended.ExitCode()
	}
	ts.Check(err)
	return 0
}

// JSON is the command "json PATH [VALUE]": it compares a value of the JSON document on stdout. A path is
// names and indices with dots between them; the name length is the length of a list. Without VALUE the value
// must be the empty text.
func JSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: json path [value]")
	}
	want := strings.Join(args[1:], "")
	var at any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &at))
	for step := range strings.SplitSeq(args[0], ".") {
		switch inside := at.(type) {
		case map[string]any:
			value, there := inside[step]
			if !there {
				ts.Fatalf("%s: there is no %q", args[0], step)
			}
			at = value
		case []any:
			if step == "length" {
				at = len(inside)
				continue
			}
			index, err := strconv.Atoi(step)
			ts.Check(err)
			if index >= len(inside) {
				ts.Fatalf("%s: there are only %d", args[0], len(inside))
			}
			at = inside[index]
		default:
			ts.Fatalf("%s: nothing is inside of %v", args[0], at)
		}
	}
	if got := fmt.Sprint(at); got != want {
		ts.Fatalf("%s is %q, want %q", args[0], got, want)
	}
}
