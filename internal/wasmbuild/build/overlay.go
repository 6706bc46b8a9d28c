package build

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const pollOneoff = "poll_oneoff"

// replacement is the body that an imported function gets, or "" where the import stays.
//
// poll_oneoff: up to Envoy 1.38 the host answers ENOSYS, and traps the call inside a guest allocation. The Go runtime
// polls whenever it has a timer, the heap scavenger's included, and takes either for fatal. No event and no error is
// what it gets instead: it then looks at its timers and run queues again, which is all there is to wait for here (newer
// hosts return without waiting, too).
//
// WASI functions that the oldest host lacks fail with ENOSYS: there is no file system and no socket behind them anyway.
func replacement(name string, decl *ast.FuncDecl) (body string, err error) {
	if slices.Contains(wasiFunctions, name) {
		return "", nil
	}
	if decl.Type.Results.NumFields() != 1 {
		return "", errors.New("expected one result")
	}
	if name != pollOneoff {
		const enosys = 52
		return fmt.Sprintf("{ return %d }", enosys), nil
	}
	params := decl.Type.Params.List
	if len(params) == 0 {
		return "", errors.New("expected a parameter for the number of events")
	}
	last := params[len(params)-1]
	if _, pointer := last.Type.(*ast.StarExpr); !pointer || len(last.Names) != 1 {
		return "", errors.New("expected the last parameter to be the pointer to the number of events")
	}
	return fmt.Sprintf("{ *%s = 0; return 0 }", last.Names[0].Name), nil
}

// replaceImports returns the Go source with every WASI import that has a replacement turned into a function, and the
// names of those. Lines keep their numbers. file is used in errors only.
func replaceImports(file string, src []byte) (out []byte, replaced []string, err error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, file, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, err
	}
	offset := func(p token.Pos) int { return fset.Position(p).Offset }
	var at int
	for _, d := range tree.Decls {
		decl, ok := d.(*ast.FuncDecl)
		if !ok || decl.Body != nil || decl.Doc == nil {
			continue
		}
		name := wasiImport(decl.Doc)
		if name == "" {
			continue
		}
		body, err := replacement(name, decl)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: declaration of %s: %w", fset.Position(decl.Pos()), name, err)
		}
		if body == "" {
			continue
		}
		out = append(out, src[at:offset(decl.Doc.Pos())]...)
		// The directives are for a function without a body. The runtime's own code may not grow its stack everywhere.
		out = append(out, strings.Repeat("//\n", len(decl.Doc.List)-1)+"//go:nosplit\n"...)
		out = append(out, src[offset(decl.Pos()):offset(decl.End())]...)
		out = append(out, " "+body...)
		at = offset(decl.End())
		replaced = append(replaced, name)
	}
	return append(out, src[at:]...), replaced, nil
}

// replaceBodies returns the Go source with other bodies for some functions. It fails where the source has no such function.
func replaceBodies(file string, src []byte, bodies map[string]string) ([]byte, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, file, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	offset := func(p token.Pos) int { return fset.PositionFor(p, false).Offset }
	var out []byte
	at, done := 0, 0
	for _, d := range tree.Decls {
		decl, ok := d.(*ast.FuncDecl)
		if !ok || decl.Body == nil {
			continue
		}
		body, found := bodies[methodName(decl)]
		if !found {
			continue
		}
		out = append(append(out, src[at:offset(decl.Body.Pos())]...), body...)
		at = offset(decl.Body.End())
		done++
	}
	if done != len(bodies) {
		return nil, fmt.Errorf("%s: not all of these functions found: %v", file, slices.Sorted(maps.Keys(bodies)))
	}
	return append(out, src[at:]...), nil
}

// methodName is the name of a function, with that of its receiver's type before it where it is a method: "T.name".
func methodName(decl *ast.FuncDecl) string {
	if decl.Recv == nil {
		return decl.Name.Name
	}
	of := decl.Recv.List[0].Type
	if pointer, ok := of.(*ast.StarExpr); ok {
		of = pointer.X
	}
	if name, ok := of.(*ast.Ident); ok {
		return name.Name + "." + decl.Name.Name
	}
	return "" // of a generic type
}

// wasiImport returns the name of the WASI function that a declaration with this comment imports, or "".
func wasiImport(doc *ast.CommentGroup) string {
	for _, c := range doc.List {
		if f := strings.Fields(c.Text); len(f) == 3 && f[0] == "//go:wasmimport" && f[1] == wasiModule {
			return f[2]
		}
	}
	return ""
}

// overlay is a set of source files that the go command reads instead of others.
type overlay struct {
	dir      string            // where changed copies are
	replace  map[string]string // path of a file, there or not, to that of what is read in its place
	written  int               // files in dir
	replaced []string          // the WASI functions that are no imports any more, sorted
}

// makeOverlay looks through the standard library's part of the packages for imports to replace and idle functions to
// empty, and writes changed copies into dir. It fails where the runtime does not declare poll_oneoff, or an idle function,
// in the file where it is known to; where hostPoll, it leaves poll_oneoff as it is.
func makeOverlay(packages []goPackage, goroot, dir string, hostPoll bool) (*overlay, error) {
	ov := &overlay{dir: dir, replace: make(map[string]string)}
	src := filepath.Join(goroot, "src")
	pollFile := filepath.Join(src, "runtime", "os_wasip1.go")
	idle := idleFunctions(packages)
	polls := hostPoll
	for _, p := range packages {
		if !p.Standard { // The go command refuses to replace a file of a module. check finds what those import.
			continue
		}
		for _, name := range p.GoFiles {
			file := filepath.Join(p.Dir, name)
			rel, err := filepath.Rel(src, file)
			if err != nil {
				return nil, err
			}
			rel = filepath.ToSlash(rel)
			replaced, err := ov.change(file, rel, idle[rel], hostPoll && file == pollFile)
			if err != nil {
				return nil, err
			}
			delete(idle, rel)
			polls = polls || file == pollFile && slices.Contains(replaced, pollOneoff)
			ov.replaced = append(ov.replaced, replaced...)
		}
	}
	if !polls {
		return nil, fmt.Errorf("%s: no //go:wasmimport declaration of %s found: this Go release declares it elsewhere",
			pollFile, pollOneoff)
	}
	for rel := range idle {
		return nil, fmt.Errorf("%s/%s: no such file: this Go release has its functions elsewhere", src, rel)
	}
	slices.Sort(ov.replaced)
	ov.replaced = slices.Compact(ov.replaced)
	return ov, nil
}

// change puts a changed copy of a file, rel in the standard library, in its place where there is anything to change, and
// returns the WASI functions that are imports no more. Imports are left as they are if keepImports.
func (ov *overlay) change(file, rel string, idle map[string]string, keepImports bool) (replaced []string, err error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	out := src
	if !keepImports && bytes.Contains(src, []byte("//go:wasmimport")) {
		if out, replaced, err = replaceImports(file, src); err != nil {
			return nil, err
		}
	}
	if idle != nil {
		if out, err = replaceBodies(file, out, idle); err != nil {
			return nil, err
		}
	}
	inList, listed := inLists[rel]
	if listed {
		if out, err = inList.change(file, out); err != nil {
			return nil, err
		}
	}
	if replaced != nil || idle != nil || listed {
		ov.replace[file], err = ov.write(filepath.Base(file), out)
	}
	return replaced, err
}

// write writes a file into the overlay's directory and returns its path.
func (ov *overlay) write(name string, text []byte) (string, error) {
	path := filepath.Join(ov.dir, fmt.Sprintf("%d_%s", ov.written, name))
	ov.written++
	return path, os.WriteFile(path, text, 0o666)
}

// list writes what the go command's -overlay takes and returns its path.
func (ov *overlay) list() (string, error) {
	text, err := json.Marshal(struct{ Replace map[string]string }{ov.replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(ov.dir, "overlay.json")
	return path, os.WriteFile(path, text, 0o666)
}
