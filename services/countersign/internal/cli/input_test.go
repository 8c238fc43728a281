package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestB11_ImportLines: a line is exactly one object of known fields, each once; nothing in it is dropped.
func TestB11_ImportLines(t *testing.T) {
	const good = `{"name":"a","secret":"x"}`
	if _, err := parseImport([]byte(`{"name":"a","scopes":["events"],"secret":"x"}`)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		good + "]" + good, good + "}}} words", good + " " + good, good + "\x00", "\ufeff" + good, "{}", "null", "[" + good + "]",
		`{"name":"a","secret":"x","scopes":["events"],"scopes":[]}`, `{"name":"a","secret":"x","secret":"y"}`,
		`{"Name":"a","secret":"x"}`, `{"name":"a","secret":null}`, `{"name":"a","secret":"x","scopes":null}`,
		`{"name":"a","secret":"x","scopes":[null]}`, `{"name":"a","secret":"x","more":1}`, `{"secret":"x"}`,
		"{\"name\":\"a\xff\",\"secret\":\"x\"}", `{"name":"\ud800","secret":"x"}`,
	} {
		if item, err := parseImport([]byte(bad)); err == nil {
			t.Errorf("%q is taken as %v", bad, item)
		}
	}
}

// TestArgumentsThatAreNotUTF8 are a wrong command line, which is named and not repeated.
func TestArgumentsThatAreNotUTF8(t *testing.T) {
	for want, line := range map[string][]string{
		"--name: want UTF-8":       {"token", "create", "--app=a", "--name", "Caf\xe9"},
		"--note: want UTF-8":       {"token", "update", "--app=a", "--token=tok_mq4ys3xkpe5rj2ha", "--note", "\xff"},
		"--app: want UTF-8":        {"app", "get", "--app", "a\x80"},
		"argument 1: want UTF-8":   {"fleet", "forget", "validator\xff", "--yes"},
		"--request-id: want UTF-8": {"token", "revoke", "--app=a", "--token=tok_mq4ys3xkpe5rj2ha", "--request-id", "\xc0"},
	} {
		if got := run(t, line...); got.code != exitMisused || got.out != "" || !strings.HasPrefix(got.errors, "countersign: "+want+"\n") {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

// TestEmptyFlags: a flag that is given has a value.
func TestEmptyFlags(t *testing.T) {
	for _, line := range [][]string{
		{"token", "create", "--app=a", "--name=n", "--secret-file", ""},
		{"token", "create", "--app=a", "--name=n", "--expires=0001-01-01T00:00:00Z"},
		{"token", "create", "--app=a", "--name", ""},
		{"authorize", "--app=a", "--scope=events", "--secret-file", ""},
		{"app", "enforce", "--app=a", "--scopes=events", "--until=0001-01-01T00:00:00Z"},
	} {
		got := run(t, line...)
		if got.code != exitMisused || got.out != "" || !strings.Contains(got.errors, "want a value") {
			t.Errorf("%q: %+v", line, got)
		}
	}
	path := filepath.Join(t.TempDir(), "none")
	if got := run(t, "token", "update", "--app=a", "--token=tok_mq4ys3xkpe5rj2ha", "--note", "", "--authority=127.0.0.1:1", "--admin-key-file", path); strings.Contains(got.errors, "want a value") {
		t.Errorf("an empty note removes it: %+v", got)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a file was made")
	}
}
