package repocheck

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TinyGo's range over a map keeps keys that are no plain values behind pointers, and follows the pointer of what it finds after
// the last key, too: where the map is empty that is what happened to lie on the stack, and the VM traps. So nothing that is
// linked ranges over such a map.
func TestNoRangeOverKeysBehindPointers(t *testing.T) {
	packages := linkedPackages(t)
	ranges := 0
	for _, p := range packages {
		if p.Standard {
			continue // the compiler has its own of those, with its own tests
		}
		set := token.NewFileSet()
		var files []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		info := types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Instances: map[*ast.Ident]types.Instance{}}
		conf := types.Config{Importer: importer.ForCompiler(set, "gc", exports(packages, p)), Sizes: types.SizesFor("gc", "wasm")}
		if _, err := conf.Check(p.ImportPath, set, files, &info); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			ranges += reportRanges(t, set, f, &info)
		}
	}
	if ranges == 0 {
		t.Error("no range over a map: nothing was looked at")
	}
}

// goPackage is what the go command says of a package.
type goPackage struct {
	ImportPath, Dir, Export string
	Standard                bool
	GoFiles                 []string
	ImportMap               map[string]string
}

// linkedPackages are those of the Wasm build, by their paths.
func linkedPackages(t *testing.T) map[string]*goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-export", "-json=ImportPath,Dir,Export,Standard,GoFiles,ImportMap", "./plugins")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*goPackage{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := new(goPackage)
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
}

// exports finds what a package imports as the compiler wrote it.
func exports(packages map[string]*goPackage, of *goPackage) importer.Lookup {
	return func(path string) (io.ReadCloser, error) {
		if mapped, ok := of.ImportMap[path]; ok {
			path = mapped
		}
		return os.Open(packages[path].Export)
	}
}

// reportRanges reports the ranges in a file over maps with keys that are no plain values or that only a caller knows, and the
// uses of generic code with such maps. It returns how many ranges over maps it saw.
func reportRanges(t *testing.T, set *token.FileSet, file *ast.File, info *types.Info) (seen int) {
	t.Helper()
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.RangeStmt:
			m, ok := info.TypeOf(n.X).Underlying().(*types.Map)
			if !ok {
				return true
			}
			if seen++; !plain(m.Key()) {
				t.Errorf("%s: a range over a map with keys of type %s", set.Position(n.Pos()), m.Key())
			}
		case *ast.Ident:
			args := info.Instances[n].TypeArgs
			for i := range args.Len() {
				if m, ok := args.At(i).Underlying().(*types.Map); ok && !plain(m.Key()) {
					t.Errorf("%s: generic code for a map with keys of type %s", set.Position(n.Pos()), m.Key())
				}
			}
		}
		return true
	})
	return seen
}

// plain is whether TinyGo keeps keys of a type as they are: texts, and what can be compared byte by byte.
func plain(key types.Type) bool {
	if b, ok := key.Underlying().(*types.Basic); ok && b.Info()&types.IsString != 0 {
		return true
	}
	if _, ok := key.Underlying().(*types.Interface); ok {
		_, parameter := key.(*types.TypeParam)
		return !parameter // an interface is the pointer itself
	}
	return binary(key)
}

func binary(key types.Type) bool {
	switch key := key.Underlying().(type) {
	case *types.Basic:
		return key.Info()&(types.IsBoolean|types.IsInteger) != 0
	case *types.Pointer:
		return true
	case *types.Array:
		return binary(key.Elem())
	case *types.Struct:
		for f := range key.Fields() {
			if !binary(f.Type()) {
				return false
			}
		}
		return true
	}
	return false
}
