package layering

import (
	"encoding/json"
	"errors"
	"flag"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The public API is what these packages export and what their signatures show of others.
var entryPoints = []string{"pkg/client", "pkg/validator"}

// namesFile is written at a release, by `make api-baseline`.
var namesFile = flag.String("names", "", "`file` to write the public names to, a package and a name a line")

// notPublic is in the package comment of every package that has nothing public.
const notPublic = "This package is not part of the public API and may change in any release."

// TestPublicAPI: packages with public names and no others leave out that they are not public.
func TestPublicAPI(t *testing.T) {
	packages := listExports(t)
	s := newShown(t, packages)
	for _, name := range entryPoints {
		s.addPackage(s.load(module + name))
	}
	public := map[string]bool{}
	for line := range s.names {
		folder, _, _ := strings.Cut(line, " ")
		public[folder] = true
	}
	for _, p := range packages {
		folder, inModule := strings.CutPrefix(p.ImportPath, module)
		if !inModule || folder == generated || p.Name == "main" || len(p.GoFiles) == 0 {
			continue
		}
		switch says := strings.Contains(packageComment(t, p), notPublic); {
		case public[folder] && says:
			t.Errorf("%s: its comment says that it is not public, but a signature of the public API shows its types", folder)
		case !public[folder] && !says:
			t.Errorf("%s is not public: say in its package comment %q", folder, notPublic)
		}
	}
	if *namesFile != "" {
		text := strings.Join(slices.Sorted(maps.Keys(s.names)), "\n") + "\n"
		if err := os.WriteFile(*namesFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// packageInfo is what go list tells about a package.
type packageInfo struct {
	ImportPath, Name, Dir, Export string
	GoFiles                       []string
}

// listExports returns the module's packages and all that they import, with their export data. The flags are
// those of make build, so that both share the build cache.
func listExports(t *testing.T) map[string]packageInfo {
	t.Helper()
	command := exec.Command("go", "list", "-trimpath", "-export", "-deps", "-json=ImportPath,Name,Dir,Export,GoFiles",
		module+"...")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := map[string]packageInfo{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p packageInfo
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
}

// packageComment returns the package comment as one line.
func packageComment(t *testing.T, p packageInfo) string {
	t.Helper()
	var text strings.Builder
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(
			token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments,
		)
		if err != nil {
			t.Fatal(err)
		}
		if file.Doc != nil {
			text.WriteString(file.Doc.Text())
		}
	}
	return strings.Join(strings.Fields(text.String()), " ")
}

// shown collects the names that signatures show, such as "pkg/secret New".
type shown struct {
	t        *testing.T
	importer types.Importer
	names    map[string]bool
	visited  map[types.Type]bool
}

func newShown(t *testing.T, packages map[string]packageInfo) *shown {
	lookup := func(path string) (io.ReadCloser, error) { return os.Open(packages[path].Export) }
	return &shown{
		t: t, importer: importer.ForCompiler(token.NewFileSet(), "gc", lookup),
		names: map[string]bool{}, visited: map[types.Type]bool{},
	}
}

func (s *shown) load(path string) *types.Package {
	s.t.Helper()
	p, err := s.importer.Import(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// addPackage adds all exported names of a package.
func (s *shown) addPackage(p *types.Package) {
	for _, name := range p.Scope().Names() {
		if ast.IsExported(name) {
			s.addObject(p.Scope().Lookup(name))
		}
	}
}

func nameOf(o types.Object) string {
	return strings.TrimPrefix(o.Pkg().Path(), module) + " " + o.Name()
}

func (s *shown) addObject(o types.Object) {
	s.names[nameOf(o)] = true
	s.addType(o.Type())
}

// addType adds the names in a type, and in what a type of the module exports.
func (s *shown) addType(t types.Type) {
	if s.visited[t] {
		return
	}
	s.visited[t] = true
	switch t := t.(type) {
	case *types.Alias:
		if isOurs(t.Obj()) {
			s.names[nameOf(t.Obj())] = true
		}
		s.addType(types.Unalias(t))
	case *types.Named:
		for i := range t.TypeArgs().Len() {
			s.addType(t.TypeArgs().At(i))
		}
		if isOurs(t.Obj()) {
			s.addNamed(t)
		}
	case *types.Pointer:
		s.addType(t.Elem())
	case *types.Slice:
		s.addType(t.Elem())
	case *types.Array:
		s.addType(t.Elem())
	case *types.Chan:
		s.addType(t.Elem())
	case *types.Map:
		s.addType(t.Key())
		s.addType(t.Elem())
	case *types.Tuple:
		for i := range t.Len() {
			s.addType(t.At(i).Type())
		}
	case *types.Signature:
		s.addType(t.Params())
		s.addType(t.Results())
	case *types.Struct:
		for i := range t.NumFields() {
			if f := t.Field(i); f.Exported() {
				s.addType(f.Type())
			}
		}
	case *types.Interface:
		for i := range t.NumMethods() {
			if m := t.Method(i); m.Exported() {
				s.addType(m.Type())
			}
		}
	}
}

// addNamed adds a type of the module with its exported methods and fields, its constants, and the functions
// that make one of nothing but what the language and other modules have.
func (s *shown) addNamed(t *types.Named) {
	s.names[nameOf(t.Obj())] = true
	s.addType(t.Underlying())
	for i := range t.NumMethods() {
		if m := t.Method(i); m.Exported() {
			s.addType(m.Type())
		}
	}
	scope := s.load(t.Obj().Pkg().Path()).Scope() // what was loaded with other packages is only what they need
	for _, name := range scope.Names() {
		switch o := scope.Lookup(name).(type) {
		case *types.Const:
			if o.Exported() && types.Identical(o.Type(), t) {
				s.addObject(o)
			}
		case *types.Func:
			if o.Exported() && makes(o.Signature(), t) {
				s.addObject(o)
			}
		}
	}
}

// makes tells whether a function's first result is a type, and its parameters need nothing of the module.
func makes(f *types.Signature, t *types.Named) bool {
	if f.Results().Len() == 0 {
		return false
	}
	result := f.Results().At(0).Type()
	if pointer, is := result.(*types.Pointer); is {
		result = pointer.Elem()
	}
	if !types.Identical(result, t) {
		return false
	}
	for i := range f.Params().Len() {
		parameter := f.Params().At(i).Type()
		if pointer, is := parameter.(*types.Pointer); is {
			parameter = pointer.Elem()
		}
		if named, is := parameter.(*types.Named); is && isOurs(named.Obj()) {
			return false
		}
	}
	return true
}

// isOurs tells whether a type is the module's own, and not of the contract, which has a check of its own.
func isOurs(o *types.TypeName) bool {
	return o.Pkg() != nil && strings.HasPrefix(o.Pkg().Path(), module) && o.Pkg().Path() != module+generated
}
