package redisacl_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/countersign/countersign/deploy/redisacl"
)

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestAccountsAreThoseOfTheDocumentation: the documentation and docker-compose.yml use the accounts of
// users.acl, and there are no others.
func TestAccountsAreThoseOfTheDocumentation(t *testing.T) {
	page, compose, file := read(t, "../../docs/deployment.md"), read(t, "../../docker-compose.yml"), read(t, "users.acl")
	loader, _, _ := strings.Cut(file, "\n")
	if !strings.HasPrefix(loader, "user default ") || !strings.Contains(page, "`"+loader+"`") {
		t.Errorf("docs/deployment.md does not have %q, which keeps the data on a restart", loader)
	}
	for _, user := range all {
		if !strings.Contains(page, "\n| `"+user+"` | ") {
			t.Errorf("docs/deployment.md does not say what the account %q is for", user)
		}
	}
	for name, text := range map[string]string{"docs/deployment.md": page, "docker-compose.yml": compose} {
		if strings.Contains(text, "+hscan") || strings.Contains(text, "redis://redis:") {
			t.Errorf("%s defines its own accounts, or uses none", name)
		}
		for _, user := range []string{redisacl.Authority, redisacl.Validator, redisacl.Operator} {
			if !strings.Contains(text, "redis://"+user+":") || !strings.Contains(text, strings.ToUpper(user)+"_PASSWORD") {
				t.Errorf("%s does not use the account %q", name, user)
			}
		}
	}
	if strings.Count(file, "\n") != len(all)+1 {
		t.Errorf("there are other accounts than %v and the default user", all)
	}
}

var all = []string{redisacl.Authority, redisacl.Validator, redisacl.Operator, redisacl.Replica, redisacl.Sentinel}

// fill runs fill.sh with some passwords.
func fill(t *testing.T, passwords map[string]string) string {
	t.Helper()
	command := exec.Command("sh", "fill.sh")
	for user, password := range passwords {
		command.Env = append(command.Env, strings.ToUpper(user)+"_PASSWORD="+password)
	}
	command.Env = append(command.Env, "PATH=/usr/bin:/bin")
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// TestFillIsFile: the script for operators prints the same file as File, which tests use, whatever characters
// a password has.
func TestFillIsFile(t *testing.T) {
	passwords := map[string]string{}
	for _, user := range all {
		passwords[user] = user + ` "it's" $HOME \n * & | / # ü`
	}
	file := redisacl.File(passwords)
	if got := fill(t, passwords); got != file {
		t.Errorf("fill.sh prints\n%s\nwant\n%s", got, file)
	}
	for _, user := range all {
		if strings.Contains(file, passwords[user]) || !strings.Contains(file, redisacl.Rules(user)) {
			t.Errorf("the account %s contains its password, or lacks its rules: %s", user, file)
		}
	}
}

// TestFillLeavesOutWhatHasNoPassword: an unused account must not keep a password that everybody knows.
func TestFillLeavesOutWhatHasNoPassword(t *testing.T) {
	got := strings.TrimSpace(fill(t, map[string]string{redisacl.Validator: "v", redisacl.Replica: ""}))
	lines := strings.Split(got, "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "user default off ") ||
		!strings.HasPrefix(lines[1], "user validator on #") {
		t.Errorf("fill.sh prints\n%s\nwant the default user and the validator's account", got)
	}
}
