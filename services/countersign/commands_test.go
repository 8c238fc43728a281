package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// capture VARIABLE FILE REGEXP sets a variable to the first match in a file, stdout or stderr. If the
// expression has a group, the variable gets the group.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: capture variable file regexp")
	}
	expression, err := regexp.Compile("(?m)" + args[2])
	ts.Check(err)
	match := expression.FindStringSubmatch(ts.ReadFile(args[1]))
	if match == nil {
		ts.Fatalf("no match for %s in %s", args[2], args[1])
	}
	ts.Setenv(args[0], match[len(match)-1])
}

// decide DECISION REASON FLAG... asks both validators, which must agree. When the variable AT holds a
// consistency token, the decision must include that change, which takes some milliseconds to arrive.
func decide(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: decide decision reason flag...")
	}
	want := map[string]int{"ALLOW": 0, "DENY": 3}
	for _, validator := range []string{ts.Getenv("VALIDATOR_1"), ts.Getenv("VALIDATOR_2")} {
		command := append([]string{"authorize", "--validator", validator}, args[2:]...)
		if at := ts.Getenv("AT"); at != "" {
			command = append(command, "--min-revision", at)
		}
		code := exitCode(ts, ts.Exec("countersign", command...))
		shown := regexp.MustCompile(`(?s)Decision +(\w+).*Reason +(\w+)`).FindStringSubmatch(ts.ReadFile("stdout"))
		if shown == nil || shown[1] != args[0] || shown[2] != args[1] || code != want[args[0]] {
			ts.Fatalf("%s says %q with exit code %d, want %s %s", validator, shown, code, args[0], args[1])
		}
	}
}

// json PATH VALUE compares a value of the JSON document on stdout. A path is names and indices separated by
// dots; "length" is the length of a list. Without VALUE, the value must be empty.
func jsonValue(ts *testscript.TestScript, neg bool, args []string) {
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
