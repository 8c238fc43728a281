package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/services/internal/cmdline"
)

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
