package faults

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// appendOnlyFile returns the file that a server appends to (Redis, Persistence: multi-part append-only
// files).
func (n *node) appendOnlyFile() (string, error) {
	folder := filepath.Join(n.server.Dir(), dataFolder)
	manifest, err := os.ReadFile(filepath.Join(folder, "appendonly.aof.manifest"))
	if err != nil {
		return "", err
	}
	path := ""
	for line := range strings.Lines(string(manifest)) {
		if words := strings.Fields(line); len(words) >= 6 && words[5] == "i" {
			path = filepath.Join(folder, words[1])
		}
	}
	if path == "" {
		return "", fmt.Errorf("the manifest names no file to append to: %s", manifest)
	}
	return path, nil
}

// tear damages an append-only file behind its first kept bytes, and returns the result and its name.
type tear func(file []byte, kept int, r *rand.Rand) (torn []byte, what string)

// tearAnywhere cuts the file at any byte. Redis drops a transaction without its end.
func tearAnywhere(file []byte, kept int, r *rand.Rand) ([]byte, string) {
	return file[:kept+r.IntN(len(file)-kept)], "anywhere"
}

// tearHalf cuts the file behind a command of a change and removes the MULTI before it, as a wrong repair by
// hand does. Redis then replays half of the change.
func tearHalf(file []byte, kept int, r *rand.Rand) ([]byte, string) {
	commands := commandsOf(file)
	var begins []int
	for i, c := range commands {
		if c.at >= kept && c.name == "MULTI" && i+3 < len(commands) && commands[i+1].name == "XADD" &&
			commands[i+2].name == "XADD" {
			begins = append(begins, i)
		}
	}
	if len(begins) == 0 {
		return tearAnywhere(file, kept, r)
	}
	i := oneOf(r, begins)
	cut := commands[i+1+r.IntN(3)].end // a change ends with its head
	return append(append([]byte{}, file[:commands[i].at]...), file[commands[i].end:cut]...), "within a change"
}

// logged is a command in an append-only file.
type logged struct {
	name    string
	at, end int
}

// commandsOf returns the complete commands of an append-only file, up to the first incomplete one.
func commandsOf(file []byte) (all []logged) {
	for at := 0; at < len(file); {
		c, ok := commandAt(file, at)
		if !ok {
			break
		}
		all = append(all, c)
		at = c.end
	}
	return all
}

// commandAt reads one command (the Redis serialization protocol: an array of bulk strings).
func commandAt(file []byte, at int) (c logged, ok bool) {
	c.at, c.end = at, at
	number := func(mark byte) (n int) {
		line, _, found := bytes.Cut(file[c.end:], []byte("\r\n"))
		if ok = ok && found && len(line) > 1 && line[0] == mark; !ok {
			return 0
		}
		n, err := strconv.Atoi(string(line[1:]))
		ok = err == nil && n >= 0
		c.end += len(line) + 2
		return n
	}
	ok = true
	for i := range number('*') {
		length := number('$')
		if ok = ok && c.end+length+2 <= len(file); !ok {
			return c, false
		}
		if i == 0 {
			c.name = strings.ToUpper(string(file[c.end : c.end+length]))
		}
		c.end += length + 2
	}
	return c, ok
}

// TestTearing: a tear changes nothing in the kept bytes. Half of a change lacks its MULTI and its head.
func TestTearing(t *testing.T) {
	one := func(words ...string) (text string) {
		text = fmt.Sprintf("*%d\r\n", len(words))
		for _, w := range words {
			text += fmt.Sprintf("$%d\r\n%s\r\n", len(w), w)
		}
		return text
	}
	multi, exec := one("MULTI"), one("EXEC")
	parts := []string{
		one("XADD", "log", "1-0", "l", "a\r\n*1\r\n$5\r\nMULTI\r\n"), one("XADD", "audit", "1-0", "e", ""),
		one("HSET", "policies", "a", "b"),
	}
	before, head := one("SELECT", "0"), one("SET", "head", "1")
	file := before + multi + one("HSET", "fleet", "a", "b") + one("SET", "x", "y") + exec + multi + strings.Join(parts, "") +
		head + exec
	kept := len(before)
	start := strings.LastIndex(file, multi+parts[0])
	wanted := map[string]bool{}
	for i := range parts {
		wanted[file[:start]+strings.Join(parts[:i+1], "")] = false
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		if torn, _ := tearAnywhere([]byte(file), kept, r); len(torn) < kept || len(torn) >= len(file) ||
			!strings.HasPrefix(file, string(torn)) {
			t.Fatalf("%q is not the beginning of %q", torn, file)
		}
		torn, what := tearHalf([]byte(file), kept, r)
		if _, possible := wanted[string(torn)]; !possible || what != "within a change" {
			t.Fatalf("%q, %s", torn, what)
		}
		wanted[string(torn)] = true
	}
	for torn, came := range wanted {
		if !came {
			t.Errorf("never came: %q", torn)
		}
	}
	if _, what := tearHalf([]byte(file), len(file)-len(exec), r); what != "anywhere" {
		t.Errorf("half of a change that is kept: %s", what)
	}
	for cut := range len(file) { // an incomplete command does not count
		all := commandsOf([]byte(file[:cut]))
		if len(all) > 0 && all[len(all)-1].end > cut {
			t.Fatalf("a command ends behind the file's end %d: %+v", cut, all)
		}
	}
	if got := len(commandsOf([]byte(file))); got != 11 {
		t.Errorf("%d commands, want 11", got)
	}
}
