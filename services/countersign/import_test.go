package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/services/test/cluster"
)

// TestB11_KilledImport: an import that is killed in the middle, interrupted in the middle, and then resumed,
// has imported every token exactly once.
func TestB11_KilledImport(t *testing.T) {
	const apps, each = 60, 40
	c := cluster.Start(t, cluster.Options{})
	file := filepath.Join(t.TempDir(), "tokens.csv")
	var text strings.Builder
	text.WriteString("secret,name,scopes,app_id\n")
	for i := range apps * each {
		fmt.Fprintf(&text, "%x,token %d,events,many%d\n", sha256.Sum256([]byte{byte(i), byte(i >> 8)}), i, i%apps)
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, end := range []os.Signal{os.Kill, os.Interrupt} {
		cmd := exec.Command("countersign", "token", "import", "--resume", "--file", file)
		cmd.Env = environment(c)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		before := importedApps(t, c)
		for deadline := time.Now().Add(30 * time.Second); importedApps(t, c) < before+3; {
			if cmd.ProcessState != nil || time.Now().After(deadline) {
				break
			}
		}
		_ = cmd.Process.Signal(end)
		_ = cmd.Wait()
	}
	t.Logf("resuming with %d of %d apps", importedApps(t, c), apps)
	command(t, c, "token", "import", "--resume", "--file", file)
	seen := map[string]int{}
	for app := range apps {
		list := command(t, c, "token", "list", "--app", fmt.Sprint("many", app), "-o", "json")
		lines := bufio.NewScanner(strings.NewReader(list))
		for lines.Scan() {
			if _, name, is := strings.Cut(lines.Text(), `"name": `); is {
				seen[name]++
			}
		}
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s was imported %d times", name, n)
		}
	}
	if len(seen) != apps*each {
		t.Errorf("%d tokens, want %d", len(seen), apps*each)
	}
}

func importedApps(t *testing.T, c *cluster.Cluster) int {
	t.Helper()
	return strings.Count(command(t, c, "app", "list"), "many")
}
