// Package layering tests how the module is laid out: which package may import which, that CONTRIBUTING.md
// lists every package, and how wide comments are.
package layering

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

const (
	module    = "github.com/countersign/countersign/"
	generated = "proto/gen/countersign/v1"
	redis     = "github.com/redis/go-redis/"
)

// mayImport lists, for each package of the core, the packages of the module that it may import directly.
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
	"pkg/snapshot": {
		"pkg/atomicfile", "pkg/keyring", "pkg/policy", "pkg/record", "pkg/replica", "pkg/secret", "pkg/table", generated,
	},
	"pkg/validator": {
		"pkg/apierr", "pkg/grpcclient", "pkg/keyring", "pkg/policy", "pkg/record", "pkg/redisfeed", "pkg/replica", "pkg/secret",
		"pkg/snapshot", "pkg/usage", "pkg/validator/internal/access", "pkg/validator/internal/fleet",
	},
	"pkg/validator/internal/fleet": {
		"pkg/apierr", "pkg/clockskew", "pkg/grpcclient", "pkg/policy", "pkg/record", "pkg/replica", "pkg/secret", "pkg/usage",
		generated,
	},
	"pkg/validator/internal/access": {"pkg/replica", "pkg/usage"},
	"pkg/validator/inside": {
		"pkg/replica", "pkg/usage", "pkg/validator", "pkg/validator/internal/access", "pkg/validator/internal/fleet",
	},
	"pkg/clockskew": {},
	"pkg/apierr":    {},
	"pkg/bearer":    {"pkg/secret"},
	"pkg/client": {
		"pkg/apierr", "pkg/bearer", "pkg/client/internal/spread", "pkg/grpcclient", "pkg/policy", "pkg/secret", generated,
	},

	"pkg/client/internal/spread": {"pkg/apierr", generated},

	"pkg/reload":     {},
	"pkg/grpcserver": {"pkg/apierr", "pkg/reload"},
	"pkg/grpcclient": {"pkg/reload", "pkg/secret"},

	"services/authority/internal/rules": {"pkg/policy", "pkg/record", "pkg/secret"},
	"services/authority/internal/readiness": {
		"pkg/policy", "pkg/record", "services/authority/internal/contract", "services/authority/internal/ledger", generated,
	},
	"services/authority/internal/evidence": {
		"services/authority/internal/fleet", "services/authority/internal/ledger", "services/authority/internal/readiness",
	},
	"services/authority/internal/notify": {generated},
}

// standardOnly are packages that import only the standard library and what mayImport lists.
var standardOnly = []string{
	"pkg/atomicfile", "pkg/strictjson", "pkg/secret", "pkg/bearer", "pkg/clockskew", "pkg/keyring", "pkg/policy", "pkg/reload",
	"pkg/table", "pkg/usage", "pkg/visible",
}

// libraries are the exceptions to standardOnly. btree holds the apps in order, in processes that list them.
// x/sys has the file lock of Windows, which the standard library lacks.
var libraries = map[string][]string{
	"pkg/table":      {"github.com/tidwall/btree"},
	"pkg/atomicfile": {"golang.org/x/sys/windows"},
}

// only lists the wings that may import a library directly. The keys are prefixes of import paths.
var only = map[string][]string{
	redis:                           {"pkg/redisfeed", "services/store", "services/benchmark/internal/serve"},
	"github.com/alicebob/miniredis": {"services/store/embedded"},
}

// walls are pairs of wings: no package of the first may reach a package of the second, directly or through
// other packages.
var walls = []struct{ from, to, why string }{
	{"proto", "pkg", "generated code needs nothing of ours"},
	{"proto", "services", "generated code needs nothing of ours"},
	{"pkg", "services", "other programs build on pkg alone"},
	{"services/validator", "services/store", "a validator reads the store and never writes to it"},
	{"services/validator", "services/authority", "a validator works without an authority"},
	{"services/authority", "services/validator", "an authority works without a validator"},
	{"services/store", "services/authority", "the store is used by services and uses none"},
	{"services/store", "services/validator", "the store is used by services and uses none"},
	{"services/internal", "services/store", "what all services share knows none of them"},
	{"services/internal", "services/authority", "what all services share knows none of them"},
	{"services/internal", "services/validator", "what all services share knows none of them"},
}

// alone are wings that no package outside of them may import. They measure and test the product.
// services/countersign is here because it is a command: its tests and its main use it, and nobody else.
var alone = []string{"services/benchmark", "services/test", "services/countersign"}

func TestLayering(t *testing.T) {
	packages := list(t)
	for name := range mayImport {
		if _, there := packages[name]; !there {
			t.Errorf("mayImport names %s, which does not exist", name)
		}
	}
	for _, problem := range problems(imports(packages)) {
		t.Error(problem)
	}
}

// TestLayeringIsEnforced adds one forbidden import at a time to the module and expects a complaint about it.
func TestLayeringIsEnforced(t *testing.T) {
	graph := imports(list(t))
	for _, bad := range []struct{ from, to, complaint string }{
		{"pkg/replica", "services/store", "pkg/replica reaches services/store"},
		{"pkg/policy", "google.golang.org/protobuf/proto", "only the standard library"},
		{"pkg/policy", "pkg/record", "mayImport"},
		{"pkg/table", generated, "mayImport"},
		{"pkg/replica", redis + "v9", "only for"},
		{"services/validator/server", redis + "v9", "only for"},
		{"services/authority/server", redis + "v9", "only for"},
		{"services/countersign/internal/dev", "github.com/alicebob/miniredis/v2", "only for"},
		{"services/validator/server", "services/store", "services/validator/server reaches services/store"},
		{"services/validator/server", "services/store/tools", "services/validator reaches services/store/tools"},
		{"services/authority/server", "services/validator/server", "services/authority reaches services/validator/server"},
		{"services/validator/server", "services/authority/server", "reaches services/authority/server"},
		{"services/store", "services/authority/server", "services/store/tools reaches services/authority/server"},
		// Through others: the validator uses daemon, and pkg/validator uses table.
		{"services/internal/daemon", "services/store", "services/validator reaches services/store"},
		{"pkg/table", "services/internal/settings", "pkg/validator reaches services/internal/settings"},
		{"services/store/tools", "services/test/cluster", "only services/test imports it"},
		{"services/countersign/internal/cli", "services/benchmark/internal/x", "only services/benchmark imports it"},
		{"services/authority/server", "services/countersign/internal/cli", "only services/countersign imports it"},
	} {
		worse := maps.Clone(graph)
		worse[bad.from] = append(slices.Clone(worse[bad.from]), bad.to)
		if got := problems(worse); !slices.ContainsFunc(got, func(p string) bool { return strings.Contains(p, bad.complaint) }) {
			t.Errorf("%s imports %s: got %q, want a complaint with %q", bad.from, bad.to, got, bad.complaint)
		}
	}
}

// problems returns a line for each rule that the imports break. Packages of the module go by their folder.
func problems(graph map[string][]string) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(graph)) {
		for _, imported := range graph[name] {
			for _, rule := range broken(name, imported) {
				all = append(all, name+" imports "+imported+": "+rule)
			}
		}
		for _, w := range walls {
			if !inside(name, w.from) {
				continue
			}
			for _, reached := range reach(graph, name) {
				if inside(reached, w.to) {
					all = append(all, name+" reaches "+reached+": "+w.why)
				}
			}
		}
	}
	return all
}

// broken returns the rules that a direct import breaks.
func broken(name, imported string) (rules []string) {
	if allowed, core := mayImport[name]; core && ours(imported) && !slices.Contains(allowed, imported) {
		rules = append(rules, "mayImport does not list it")
	}
	library := strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") && !ours(imported)
	if library && slices.Contains(standardOnly, name) && !slices.Contains(libraries[name], imported) {
		rules = append(rules, "only the standard library")
	}
	for what, who := range only {
		allowed := func(wing string) bool { return inside(name, wing) }
		if strings.HasPrefix(imported, what) && !slices.ContainsFunc(who, allowed) {
			rules = append(rules, "only for "+strings.Join(who, ", "))
		}
	}
	for _, wing := range alone {
		if inside(imported, wing) && !inside(name, wing) {
			rules = append(rules, "only "+wing+" imports it")
		}
	}
	return rules
}

// reach returns the packages of the module that a package imports, directly or through others.
func reach(graph map[string][]string, name string) []string {
	reached := map[string]bool{}
	for next := []string{name}; len(next) > 0; next = next[1:] {
		for _, imported := range graph[next[0]] {
			if ours(imported) && !reached[imported] {
				reached[imported] = true
				next = append(next, imported)
			}
		}
	}
	return slices.Sorted(maps.Keys(reached))
}

// inside reports whether a package is in a wing: the folder itself or one below it.
func inside(name, wing string) bool { return name == wing || strings.HasPrefix(name, wing+"/") }

// ours reports whether a package belongs to the module.
func ours(name string) bool {
	return inside(name, "pkg") || inside(name, "services") || inside(name, "proto") || inside(name, "deploy")
}
