// Package layering holds the direction of the arrows between packages: who may import whom (the README's
// picture, from top to bottom).
package layering

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	module    = "github.com/countersign/countersign/"
	generated = "proto/gen/countersign/v1"
	redis     = "github.com/redis/go-redis/"
)

// mayImport is, for each package of the core, every package of the module that it may import itself.
var mayImport = map[string][]string{
	"pkg/atomicfile": {},
	"pkg/strictjson": {},

	"pkg/secret":    {},
	"pkg/keyring":   {"pkg/strictjson"},
	"pkg/visible":   {},
	"pkg/policy":    {"pkg/secret"},
	"pkg/table":     {"pkg/internal/prefetch", "pkg/policy"},
	"pkg/usage":     {"pkg/internal/prefetch", "pkg/policy"},
	"pkg/record":    {"pkg/keyring", "pkg/policy", "pkg/visible", generated},
	"pkg/replica":   {"pkg/keyring", "pkg/policy", "pkg/record", "pkg/secret", "pkg/table"},
	"pkg/redisfeed": {"pkg/keyring", "pkg/record", "pkg/replica"},
	"pkg/snapshot":  {"pkg/atomicfile", "pkg/keyring", "pkg/policy", "pkg/record", "pkg/replica", "pkg/secret", "pkg/table", generated},
	"pkg/validator": {"pkg/apierr", "pkg/keyring", "pkg/policy", "pkg/record", "pkg/redisfeed", "pkg/replica", "pkg/secret", "pkg/snapshot", "pkg/usage", "pkg/grpcclient", "pkg/validator/internal/fleet", "pkg/validator/internal/access"},
	"pkg/clockskew": {},
	"pkg/apierr":    {},
	"pkg/bearer":    {"pkg/secret"},
	"pkg/client":    {"pkg/apierr", "pkg/bearer", "pkg/client/internal/spread", "pkg/grpcclient", "pkg/policy", "pkg/secret", generated},

	"pkg/validator/internal/fleet":  {"pkg/apierr", "pkg/clockskew", "pkg/grpcclient", "pkg/policy", "pkg/record", "pkg/replica", "pkg/secret", generated},
	"pkg/validator/internal/access": {"pkg/replica", "pkg/usage"},
	"pkg/validator/inside":          {"pkg/replica", "pkg/usage", "pkg/validator", "pkg/validator/internal/access", "pkg/validator/internal/fleet"},

	"pkg/client/internal/spread": {"pkg/apierr", generated},

	"pkg/reload":     {},
	"pkg/grpcserver": {"pkg/apierr", "pkg/reload"},
	"pkg/grpcclient": {"pkg/reload", "pkg/secret"},

	"services/authority/internal/rules": {"pkg/apierr", "pkg/policy", "pkg/record", "pkg/secret"},
}

// standardOnly are packages that import nothing but the standard library and what mayImport lists.
var standardOnly = []string{"pkg/atomicfile", "pkg/strictjson", "pkg/secret", "pkg/bearer", "pkg/clockskew", "pkg/keyring", "pkg/policy", "pkg/reload", "pkg/table", "pkg/usage", "pkg/visible"}

// libraries are those that such packages may import all the same. btree holds the apps in order, in
// processes that list them; x/sys has the lock of files that the standard library lacks.
var libraries = map[string][]string{"pkg/table": {"github.com/tidwall/btree"}, "pkg/atomicfile": {"golang.org/x/sys/windows"}}

// only says which packages may import something themselves; the keys are prefixes of import paths.
var only = map[string][]string{
	redis:                           {"pkg/redisfeed", "services/store", "services/store/tools", "services/countersign/internal/bench/serve"},
	"github.com/alicebob/miniredis": {"services/store/embedded"},
}

func TestLayering(t *testing.T) {
	packages := list(t)
	for name := range mayImport {
		if _, there := packages[name]; !there {
			t.Errorf("mayImport names %s, which does not exist", name)
		}
	}
	for name, imports := range packages {
		for _, imported := range imports {
			for _, broken := range broken(name, imported) {
				t.Errorf("%s imports %s: %s", name, imported, broken)
			}
		}
	}
}

// TestLayeringIsEnforced makes sure that the rules refuse what they are there for.
func TestLayeringIsEnforced(t *testing.T) {
	for _, bad := range [][2]string{
		{"pkg/replica", "services/store"},
		{"pkg/policy", "google.golang.org/protobuf/proto"},
		{"pkg/policy", "pkg/record"},
		{"pkg/table", generated},
		{"pkg/replica", redis + "v9"},
		{"services/validator/server", redis + "v9"},
		{"services/validator/server", "services/store"},
		{"services/authority/server", "services/validator/server"},
	} {
		if len(broken(bad[0], bad[1])) == 0 {
			t.Errorf("%s may import %s", bad[0], bad[1])
		}
	}
	if got := broken("pkg/policy", "pkg/secret"); len(got) != 0 {
		t.Errorf("pkg/policy may not import pkg/secret: %v", got)
	}
}

// broken returns the rules that an import breaks. Packages of the module go by their folder.
func broken(name, imported string) (rules []string) {
	ours := strings.HasPrefix(imported, "pkg/") || strings.HasPrefix(imported, "services/") || strings.HasPrefix(imported, "proto/")
	if allowed, core := mayImport[name]; core && ours && !slices.Contains(allowed, imported) {
		rules = append(rules, "it is not among the packages that this one may import")
	}
	if slices.Contains(standardOnly, name) && !ours && !slices.Contains(libraries[name], imported) && strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") {
		rules = append(rules, "only the standard library")
	}
	if strings.HasPrefix(name, "pkg/") && strings.HasPrefix(imported, "services/") {
		rules = append(rules, "pkg never imports services")
	}
	for _, pair := range [][2]string{{"services/authority/", "services/validator/"}, {"services/validator/", "services/authority/"}} {
		if strings.HasPrefix(name, pair[0]) && strings.HasPrefix(imported, pair[1]) {
			rules = append(rules, "one service does not import the other")
		}
	}
	if (name == "services/validator" || strings.HasPrefix(name, "services/validator/")) && strings.HasPrefix(imported+"/", "services/store/") {
		rules = append(rules, "a validator only reads the store")
	}
	for what, who := range only {
		if strings.HasPrefix(imported, what) && !slices.Contains(who, name) {
			rules = append(rules, "only for "+strings.Join(who, ", "))
		}
	}
	return rules
}

// list returns what every package of the module imports itself, tests aside.
func list(t *testing.T) map[string][]string {
	t.Helper()
	command := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...")
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := map[string][]string{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, imported := range p.Imports {
			name := strings.TrimPrefix(p.ImportPath, module)
			packages[name] = append(packages[name], strings.TrimPrefix(imported, module))
		}
	}
	if len(packages) < len(mayImport) {
		t.Fatalf("go list found only %d packages", len(packages))
	}
	return packages
}
