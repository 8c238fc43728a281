package main

import (
	"regexp"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/countersign/countersign/services/internal/cmdline/cmdlinetest"
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
		code := cmdlinetest.ExitCode(ts, ts.Exec("countersign", command...))
		shown := regexp.MustCompile(`(?s)Decision +(\w+).*Reason +(\w+)`).FindStringSubmatch(ts.ReadFile("stdout"))
		if shown == nil || shown[1] != args[0] || shown[2] != args[1] || code != want[args[0]] {
			ts.Fatalf("%s says %q with exit code %d, want %s %s", validator, shown, code, args[0], args[1])
		}
	}
}
