package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"

	"github.com/countersign/countersign/services/test/cluster"
)

// environment returns the environment of a command that calls a cluster.
func environment(c *cluster.Cluster) []string {
	return append(os.Environ(), "COUNTERSIGN_AUTHORITY="+c.Authority, "COUNTERSIGN_ADMIN_KEY_FILE="+c.AdminKeyFile,
		"GORACE=atexit_sleep_ms=0")
}

// command runs the program without a terminal, and returns its standard output.
func command(t *testing.T, c *cluster.Cluster, args ...string) string {
	t.Helper()
	cmd := exec.Command("countersign", args...)
	cmd.Env = environment(c)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return string(out)
}

// gaveUp is written to the terminal when nothing has happened for too long.
const gaveUp = "(gave up)"

// typist simulates a person at a terminal in which the program runs.
type typist struct {
	t        *testing.T
	cmd      *exec.Cmd
	terminal *os.File // the person's side
	inside   *os.File // the command's side
	seen     bytes.Buffer
}

func atTerminal(t *testing.T, c *cluster.Cluster, args ...string) *typist {
	t.Helper()
	cmd := exec.Command("countersign", args...)
	cmd.Env = environment(c)
	terminal, inside, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close(); _ = inside.Close() })
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inside, inside, inside
	cmd.SysProcAttr = controlling()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// A command that hangs fails the test.
	stuck := time.AfterFunc(time.Minute, func() {
		_ = cmd.Process.Kill()
		_, _ = io.WriteString(inside, gaveUp)
	})
	t.Cleanup(func() {
		stuck.Stop()
		_ = cmd.Process.Kill()
	})
	return &typist{t: t, cmd: cmd, terminal: terminal, inside: inside}
}

// see reads the terminal's output until it contains text.
func (p *typist) see(text string) {
	p.t.Helper()
	for part := make([]byte, 1024); !strings.Contains(p.seen.String(), text); {
		n, err := p.terminal.Read(part)
		if err != nil {
			p.t.Fatalf("%v: no %q in %q", err, text, &p.seen)
		}
		if p.seen.Write(part[:n]); strings.Contains(p.seen.String(), gaveUp) {
			p.t.Fatalf("no %q in %q", text, &p.seen)
		}
	}
}

func (p *typist) types(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.terminal, text); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits for the command to end with an exit code, and returns everything that the terminal has shown.
func (p *typist) ends(code int) string {
	p.t.Helper()
	// The mark follows everything that the command has written.
	ended := make(chan error, 1)
	go func() {
		err := p.cmd.Wait()
		_, _ = io.WriteString(p.inside, "\n(ended)")
		ended <- err
	}()
	p.see("(ended)")
	err := <-ended
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		p.t.Fatal(err)
	}
	if got != code {
		p.t.Errorf("exit code %d, want %d: %q", got, code, &p.seen)
	}
	return p.seen.String()
}

// At a terminal the command hides secrets that are typed, and asks before actions that cannot be undone.
func TestTerminal(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Validators: 1, Report: true})
	file := filepath.Join(t.TempDir(), "leaked")
	command(t, c, "token", "create", "--app", "terminal", "--name", "backend", "--scopes", "events", "--secret-file", file)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	leaked := strings.TrimSpace(string(raw))
	state := func() string { return command(t, c, "token", "list", "--app", "terminal", "--all", "-o", "json") }

	t.Run("B02 interrupted at the secret", func(t *testing.T) {
		p := atTerminal(t, c, "token", "revoke", "--secret-file", "-")
		before, err := term.GetState(int(p.inside.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		p.see("Secret (not shown): ")
		p.types(leaked[:20] + "\x03")
		if said := p.ends(1); strings.Contains(said, leaked[:10]) || !strings.Contains(said, "nothing was changed") {
			t.Errorf("%q", said)
		}
		after, err := term.GetState(int(p.inside.Fd()))
		if err != nil || *after != *before {
			t.Errorf("the terminal is left without echo: %v", err)
		}
	})
	t.Run("B10 not confirmed", func(t *testing.T) {
		p := atTerminal(t, c, "token", "revoke", "--secret-file", "-")
		p.see("Secret (not shown): ")
		p.types("\n  " + leaked + "\n")
		p.see("This revokes the secret for ever, in every app that has it, at " + c.Authority + ". Go on? [y/N] ")
		p.types("\n")
		if said := p.ends(1); strings.Contains(said, leaked[:10]) ||
			!strings.Contains(said, "countersign: not confirmed; nothing was changed") {
			t.Errorf("%q", said)
		}
		if is := state(); !strings.Contains(is, "ACTIVE") {
			t.Error(is)
		}
	})
	t.Run("lines to import are not shown", func(t *testing.T) {
		p := atTerminal(t, c, "token", "import", "--app", "terminal", "--file", "-")
		p.see("Lines (not shown; end with Ctrl-D): ")
		p.types(`{"name": "old", "scopes": ["events"], "secret": "41d9b2c1e0f84c5aa1d0b7c6d5e4f3a2"}` + "\n" +
			`{"name": "41d9b2c1e0f8`)
		p.types("\x03")
		if said := p.ends(1); strings.Contains(said, "41d9b2c1e0f8") || !strings.Contains(said, "nothing was changed") {
			t.Errorf("%q", said)
		}
	})
	// Each command asks, and "no" changes nothing.
	id := regexp.MustCompile(`tok_\w+`).FindString(state())
	for name, args := range map[string][]string{
		"revoke":         {"token", "revoke", "--app", "terminal", "--token", id},
		"disable":        {"token", "update", "--app", "terminal", "--token", id, "--state", "disabled"},
		"rotate at once": {"token", "rotate", "--app", "terminal", "--token", id, "--overlap", "0s"},
		"delete":         {"app", "delete", "--app", "terminal"},
		"enforce":        {"app", "enforce", "--app", "terminal", "--scopes", "events", "--allow-rejections"},
		"forget":         {"fleet", "forget", "validator-1"},
	} {
		t.Run(name, func(t *testing.T) {
			before := state() + command(t, c, "app", "get", "--app", "terminal", "-o", "json")
			p := atTerminal(t, c, args...)
			p.see(" on? [y/N] ") // go on, or turn on
			p.types("n\n")
			p.ends(1)
			if after := state() + command(t, c, "app", "get", "--app", "terminal", "-o", "json"); after != before {
				t.Errorf("%s\nwas\n%s", after, before)
			}
		})
	}
	t.Run("B10 confirmed", func(t *testing.T) {
		p := atTerminal(t, c, "token", "revoke", "--secret-file", "-")
		p.see("Secret (not shown): ")
		p.types(leaked + "\n")
		p.see("Go on? [y/N] ")
		p.types("y\n")
		if said := p.ends(0); strings.Contains(said, leaked[:10]) || !strings.Contains(said, "REVOKED") {
			t.Errorf("%q", said)
		}
	})
	t.Run("--yes", func(t *testing.T) {
		p := atTerminal(t, c, "token", "revoke", "--app", "terminal", "--token", id, "--yes")
		if said := p.ends(0); strings.Contains(said, "Go on?") {
			t.Errorf("%q", said)
		}
	})
}

// B02: a secret is shown only once, so the command writes it before it waits for the receipt. An interrupt
// says that the change is made, and the JSON output is still one valid document.
func TestB02_InterruptWhileWaiting(t *testing.T) {
	c := cluster.Start(t, cluster.Options{}) // no validator reports, so the receipt never comes
	create := []string{"token", "create", "--app", "waits", "--scopes", "events", "--wait=60s", "--name"}
	made := command(t, c, "token", "create", "--app", "waits", "--scopes", "events", "--name", "turned", "-o", "json")
	var turned struct{ Token struct{ TokenID string } }
	if err := json.Unmarshal([]byte(made), &turned); err != nil {
		t.Fatal(err)
	}
	rotate := []string{"token", "rotate", "--app", "waits", "--token", turned.Token.TokenID, "--wait=60s"}
	file := filepath.Join(t.TempDir(), "new.secret")
	for _, tt := range []struct {
		name, shows string
		args        []string
	}{
		{"create", "cannot be shown again", append(create, "text")},
		{"create in JSON", `"secret": "cs_`, append(create, "json", "-o", "json")},
		{"create with a file", "in " + file, append(create, "file", "--secret-file", file)},
		{"rotate in JSON", `"secret": "cs_`, append(rotate, "-o", "json")},
		{"import in JSON", `"tokenId": "tok_`, []string{
			"token", "import", "--app", "waits", "--name", "old", "--scopes", "events",
			"--sha256", strings.Repeat("4f", 32), "--wait=60s", "-o", "json",
		}},
		{"revoke", "REVOKED", []string{"token", "revoke", "--app", "waits", "--token", turned.Token.TokenID, "--wait=60s"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("countersign", tt.args...)
			cmd.Env = environment(c)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			cmd.Stderr = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var shown bytes.Buffer
			for part := make([]byte, 4096); !strings.Contains(shown.String(), tt.shows); {
				n, err := out.Read(part)
				if shown.Write(part[:n]); err != nil {
					t.Fatalf("%v: %q, %q", err, &shown, &said)
				}
			}
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			if _, err := shown.ReadFrom(out); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 4 ||
				!strings.HasPrefix(said.String(), "countersign: the change is made; ") {
				t.Errorf("exit code %d, %q", code, &said)
			}
			if strings.HasSuffix(tt.name, "JSON") && !json.Valid(shown.Bytes()) {
				t.Errorf("no JSON document: %s", &shown)
			}
		})
	}
	if raw, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(raw), "cs_") {
		t.Errorf("the secret's file: %v", err)
	}
}
