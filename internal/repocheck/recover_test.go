package repocheck

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// On the way of a request nothing is deferred that asks for a panic but where one can be recovered from: TinyGo puts on the
// heap what a deferred function captures, which made a request of its artefact twice as dear.
func TestRecoverIsAskedOnlyWhereItCanBe(t *testing.T) {
	guarded := 0
	for _, dir := range []string{"../../plugins/vm", "../../shared/engine"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					return n.Name.Name != "recovered" // it runs after a panic only
				case *ast.IfStmt:
					if c, ok := n.Cond.(*ast.SelectorExpr); ok && c.Sel.Name == "Recovers" {
						guarded++
						return false
					}
				case *ast.DeferStmt:
					if _, literal := n.Call.Fun.(*ast.FuncLit); literal {
						t.Errorf("%s: what is deferred is not within `if host.Recovers`", set.Position(n.Pos()))
					}
				}
				return true
			})
		}
	}
	if guarded == 0 {
		t.Error("nothing is guarded: nothing was looked at")
	}
}
