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

// goPackage is what `go list` says about a package.
type goPackage struct {
	ImportPath string
	Dir        string
	Imports    []string // of the production code
	// All files of Go, with the tests and with files that other systems or build tags build.
	GoFiles, TestGoFiles, XTestGoFiles, IgnoredGoFiles []string
}

// files returns the names of all files of a package.
func (p goPackage) files() []string {
	return slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles, p.IgnoredGoFiles)
}

// list returns all packages of the module, by folder.
func list(t *testing.T) map[string]goPackage {
	t.Helper()
	fields := "-json=ImportPath,Dir,Imports,GoFiles,TestGoFiles,XTestGoFiles,IgnoredGoFiles"
	out, err := exec.Command("go", "list", fields, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := map[string]goPackage{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages[strings.TrimPrefix(p.ImportPath, module)] = p
	}
	if len(packages) < len(mayImport) {
		t.Fatalf("go list found only %d packages", len(packages))
	}
	return packages
}

// imports returns the direct imports of the production code of each package. Packages of the module go by
// their folder.
func imports(packages map[string]goPackage) map[string][]string {
	graph := map[string][]string{}
	for name, p := range packages {
		for _, imported := range p.Imports {
			graph[name] = append(graph[name], strings.TrimPrefix(imported, module))
		}
	}
	return graph
}
