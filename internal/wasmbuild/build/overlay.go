package build

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
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

// wasiImport returns the name of the WASI function that a declaration with this comment imports, or "".
func wasiImport(doc *ast.CommentGroup) string {
	for _, c := range doc.List {
		if f := strings.Fields(c.Text); len(f) == 3 && f[0] == "//go:wasmimport" && f[1] == wasiModule {
			return f[2]
		}
	}
	return ""
}

// overlay is a set of source files that the go command reads instead of the installed ones.
type overlay struct {
	path     string   // of the file for -overlay
	replaced []string // the WASI functions that are no imports any more, sorted
}

// makeOverlay looks through the source files given for imports to replace, and writes changed copies and the list of
// them into tmp. It fails where the runtime does not declare poll_oneoff in the file where it is known to.
func makeOverlay(files []string, goroot, tmp string) (overlay, error) {
	var list struct{ Replace map[string]string }
	list.Replace = make(map[string]string)
	ov := overlay{path: filepath.Join(tmp, "overlay.json")}
	pollFile := filepath.Join(goroot, "src", "runtime", "os_wasip1.go")
	polls := false
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			return overlay{}, err
		}
		if !bytes.Contains(src, []byte("//go:wasmimport")) {
			continue
		}
		out, replaced, err := replaceImports(file, src)
		if err != nil {
			return overlay{}, err
		}
		if len(replaced) == 0 {
			continue
		}
		polls = polls || file == pollFile && slices.Contains(replaced, pollOneoff)
		changed := filepath.Join(tmp, fmt.Sprintf("%d_%s", len(list.Replace), filepath.Base(file)))
		if err := os.WriteFile(changed, out, 0o666); err != nil {
			return overlay{}, err
		}
		list.Replace[file] = changed
		ov.replaced = append(ov.replaced, replaced...)
	}
	if !polls {
		return overlay{}, fmt.Errorf("%s: no //go:wasmimport declaration of %s found: this Go release declares it elsewhere",
			pollFile, pollOneoff)
	}
	slices.Sort(ov.replaced)
	ov.replaced = slices.Compact(ov.replaced)
	text, err := json.Marshal(list)
	if err != nil {
		return overlay{}, err
	}
	return ov, os.WriteFile(ov.path, text, 0o666)
}
