package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/services/internal/cmdline"
)

// TestB11_ImportLines: a line is exactly one object of known fields, each once. Nothing in it is dropped.
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
		`{"name":"a","secret":"x","scopes":` + strings.Repeat("[", 1e5) + strings.Repeat("]", 1e5) + "}",
		`{"name":"a","secret":"x","scopes":[["events"]]}`, `{"name":{"name":"a"},"secret":"x"}`,
	} {
		if item, err := parseImport([]byte(bad)); err == nil {
			t.Errorf("%q is accepted as %v", bad, item)
		}
	}
}

// TestArgumentsThatAreNotUTF8: the command names such a flag or argument and does not repeat its value.
func TestArgumentsThatAreNotUTF8(t *testing.T) {
	for want, line := range map[string][]string{
		"--name: want UTF-8":       {"token", "create", "--app=a", "--name", "Caf\xe9"},
		"--note: want UTF-8":       {"token", "update", "--app=a", "--token=tok_mq4ys3xkpe5rj2ha", "--note", "\xff"},
		"--app: want UTF-8":        {"app", "get", "--app", "a\x80"},
		"argument 1: want UTF-8":   {"fleet", "forget", "validator\xff", "--yes"},
		"--request-id: want UTF-8": {"token", "revoke", "--app=a", "--token=tok_mq4ys3xkpe5rj2ha", "--request-id", "\xc0"},
	} {
		if got := run(t, line...); got.code != cmdline.ExitMisused || got.out != "" ||
			!strings.HasPrefix(got.errors, "countersign: "+want+"\n") {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

// TestEmptyFlags: a flag that is given must have a value.
func TestEmptyFlags(t *testing.T) {
	for _, line := range [][]string{
		{"token", "create", "--app=a", "--name=n", "--secret-file", ""},
		{"token", "create", "--app=a", "--name=n", "--expires=0001-01-01T00:00:00Z"},
		{"token", "create", "--app=a", "--name", ""},
		{"authorize", "--app=a", "--scope=events", "--secret-file", ""},
		{"app", "enforce", "--app=a", "--scopes=events", "--until=0001-01-01T00:00:00Z"},
	} {
		got := run(t, line...)
		if got.code != cmdline.ExitMisused || got.out != "" || !strings.Contains(got.errors, "want a value") {
			t.Errorf("%q: %+v", line, got)
		}
	}
	for _, name := range []string{"AUTHORITY", "VALIDATOR", "TIMEOUT", "OUTPUT", "TLS", "PLAINTEXT"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("COUNTERSIGN_"+name, "")
			if got := run(t, "version"); got.code != cmdline.ExitMisused ||
				!strings.Contains(got.errors, "(COUNTERSIGN_"+name+"): the variable is set but empty") {
				t.Errorf("%+v", got)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "none")
	if got := run(t, "token", "update", "--app=a", "--token=tok_mq4ys3xkpe5rj2ha", "--note", "", "--authority=127.0.0.1:1",
		"--admin-key-file", path); strings.Contains(got.errors, "want a value") {
		t.Errorf("an empty note removes it: %+v", got)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a file was created")
	}
}

// Imports beyond a limit are rejected with the line number, before the whole file is read.
func TestB11_ImportBounds(t *testing.T) {
	line := func(i int) string {
		return fmt.Sprintf(`{"name":"%d","scopes":["events"],"secret":"%032x"}`, i, i) + "\n"
	}
	var many strings.Builder
	for i := range maxImports + 1 {
		many.WriteString(line(i))
	}
	for name, tt := range map[string]struct{ text, want string }{
		"too many": {many.String() + "no object", "--file: line 1001: want at most 1000 tokens at once; split the file"},
		"a line too long": {
			line(0) + "\n" + strings.Repeat(" ", maxLine+1) + "\n" + line(1),
			"--file: line 3: longer than 256 KiB",
		},
	} {
		path := filepath.Join(t.TempDir(), "imports")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got := run(t, "token", "import", "--app=a", "--file", path, "--authority=127.0.0.1:1")
		if got.code != cmdline.ExitFailed || !strings.Contains(got.errors, tt.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
