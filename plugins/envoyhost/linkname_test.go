//go:build !wasip1

package envoyhost

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const sdk = "github.com/proxy-wasm/proxy-wasm-go-sdk"

// TestLinkedFunctions: the linker puts a function of the SDK in the place of ours by its name alone. That both have the same
// parameters and results nobody else sees.
func TestLinkedFunctions(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", sdk).Output()
	if err != nil {
		t.Fatal(err)
	}
	ours, links := functions(t, ".")
	linked := 0
	for name, target := range links {
		dot := strings.LastIndexByte(target, '.')
		dir, ok := strings.CutPrefix(target[:dot], sdk+"/")
		if !ok {
			continue
		}
		linked++
		theirs, _ := functions(t, filepath.Join(strings.TrimSpace(string(out)), dir))
		if got, want := ours[name], theirs[target[dot+1:]]; got == "" || got != want {
			t.Errorf("%s is func%s, the SDK's %s is func%s", name, got, target[dot+1:], want)
		}
	}
	if linked < 3 {
		t.Errorf("%d linked functions: the test does not see them", linked)
	}
}

// functions are the signatures of the functions in a directory's source for Wasm, without the names of parameters, and what
// they are linked to where they are.
func functions(t *testing.T, dir string) (signatures, links map[string]string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	signatures, links = map[string]string{}, map[string]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				signatures[f.Name.Name] = "(" + typesOf(f.Type.Params) + ") (" + typesOf(f.Type.Results) + ")"
			}
		}
		for _, group := range file.Comments {
			for _, c := range group.List {
				if fields := strings.Fields(c.Text); len(fields) == 3 && fields[0] == "//go:linkname" {
					links[fields[1]] = fields[2]
				}
			}
		}
	}
	return signatures, links
}

// typesOf are the types of a list of parameters, one for each.
func typesOf(list *ast.FieldList) string {
	var all []string
	if list != nil {
		for _, f := range list.List {
			for range max(1, len(f.Names)) {
				all = append(all, types.ExprString(f.Type))
			}
		}
	}
	return strings.Join(all, ", ")
}
