package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/services/test/cluster"
)

// Commands that replace, repair or accept a store ask at a terminal. "no" leaves every key as it is; "yes",
// or --yes without a question, goes ahead.
func TestTerminalAsksAboutTheStore(t *testing.T) {
	c := cluster.Start(t, cluster.Options{})
	command(t, c, "token", "create", "--app", "kept", "--name", "backend", "--scopes", "events", "--secret-file",
		filepath.Join(t.TempDir(), "secret"))
	where := []string{"--redis-url", c.OperatorURL, "--keyring-file", c.RingFile}
	backup := filepath.Join(t.TempDir(), "store.backup")
	command(t, c, append([]string{"store", "backup", backup}, where...)...)
	// A running authority would heal the restored store on its own: stop it, so that only the commands change
	// the store.
	for _, p := range c.AuthorityProcesses {
		p.Stop()
	}
	do := func(args ...string) any {
		t.Helper()
		answer, err := c.Redis.Do(args...)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return answer
	}
	// state returns the head of every partition, and whether cs:meta exists.
	state := func() string {
		text := fmt.Sprint(do("EXISTS", "cs:meta"))
		for partition := range 64 {
			text += fmt.Sprintln(do("GET", fmt.Sprintf("cs:{cs%02x}:head", partition)))
		}
		return text
	}
	for _, tt := range []struct {
		name   string
		args   []string
		shows  string // text before the question
		damage []string
		// changes says whether going ahead changes the store.
		changes bool
	}{
		{"restore", []string{"store", "restore", backup, "--replace"}, " by " + backup + ". Go on?", nil, true},
		{"adopt", []string{"store", "adopt"}, "This accepts the store at ", nil, true},
		{"repair", []string{"store", "repair", "--from", backup}, "This repairs the store at ", []string{"DEL", "cs:meta"}, true},
		{"init", []string{"store", "init", "--new-store"}, "every token is lost", nil, false},
	} {
		args := append(append([]string{}, tt.args...), where...)
		for _, answer := range []string{"n", "", "y", "--yes"} {
			t.Run(tt.name+" "+answer, func(t *testing.T) {
				if tt.damage != nil {
					do(tt.damage...)
				}
				before := state()
				goesOn := answer == "y" || answer == "--yes"
				code := map[bool]int{true: 0, false: 1}[goesOn]
				var said string
				if answer == "--yes" {
					said = atTerminal(t, c, append(args, answer)...).ends(code)
				} else {
					p := atTerminal(t, c, args...)
					p.see("Go on? [y/N] ")
					p.types(answer + "\n")
					said = p.ends(code)
				}
				if asked := strings.Contains(said, tt.shows) && strings.Contains(said, "Go on?"); asked != (answer != "--yes") {
					t.Errorf("asked: %t: %q", asked, said)
				}
				if !goesOn && !strings.Contains(said, "countersign: not confirmed; nothing was changed") {
					t.Errorf("%q", said)
				}
				if changed := state() != before; changed != (goesOn && tt.changes) {
					t.Errorf("the store is changed: %t", changed)
				}
			})
		}
	}
}
