package build

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const declarations = `package runtime

//go:wasmimport wasi_snapshot_preview1 fd_write
//go:noescape
func fd_write(fd int32) errno

// A description.
//
//go:wasmimport wasi_snapshot_preview1 poll_oneoff
//go:noescape
func poll_oneoff(in *subscription, out *event, n size, count *size) errno

//go:wasmimport env proxy_log
func log(level int32) int32

//go:wasmimport wasi_snapshot_preview1 fd_sync
func fd_sync(fd int32) errno

func after() {}
`

func TestReplaceImports(t *testing.T) {
	out, replaced, err := replaceImports("x.go", []byte(declarations))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"poll_oneoff", "fd_sync"}; !slices.Equal(replaced, want) {
		t.Errorf("replaced %v, want %v", replaced, want)
	}
	want := `package runtime

//go:wasmimport wasi_snapshot_preview1 fd_write
//go:noescape
func fd_write(fd int32) errno

//
//
//
//go:nosplit
func poll_oneoff(in *subscription, out *event, n size, count *size) errno { *count = 0; return 0 }

//go:wasmimport env proxy_log
func log(level int32) int32

//go:nosplit
func fd_sync(fd int32) errno { return 52 }

func after() {}
`
	if string(out) != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

func TestReplaceImportsSaysWhereADeclarationIsStrange(t *testing.T) {
	for _, decl := range []string{
		"func poll_oneoff() errno",
		"func poll_oneoff(in *subscription, out *event, n size) errno",
		"func poll_oneoff(in, out, n, count *size) errno",
		"func poll_oneoff(in *subscription, count *size)",
		"func poll_oneoff(",
	} {
		src := "package p\n\n//go:wasmimport wasi_snapshot_preview1 poll_oneoff\n" + decl + "\n"
		_, _, err := replaceImports("dir/x.go", []byte(src))
		if err == nil || !strings.Contains(err.Error(), "dir/x.go:4") {
			t.Errorf("%s: error %v, want one that names dir/x.go:4", decl, err)
		}
	}
}

func TestReplaceBodies(t *testing.T) {
	src := []byte("package p\n\n// f\n//\n//go:nosplit\nfunc f() bool {\n\treturn x\n}\n\nfunc (t) g() { f() }\n\n" +
		"func (*t) f() { g() }\n\nfunc g() {\n}\n")
	out, err := replaceBodies("x.go", src, map[string]string{"f": "{ return false }", "g": "{ h() }", "t.f": "{}"})
	want := "package p\n\n// f\n//\n//go:nosplit\nfunc f() bool { return false }\n\nfunc (t) g() { f() }\n\n" +
		"func (*t) f() {}\n\nfunc g() { h() }\n"
	if err != nil || string(out) != want {
		t.Errorf("got\n%s, %v, want\n%s", out, err, want)
	}
	_, err = replaceBodies("dir/x.go", src, map[string]string{"f": "{}", "gone": "{}"})
	if err == nil || !strings.Contains(err.Error(), "dir/x.go") || !strings.Contains(err.Error(), "gone") {
		t.Errorf("error %v, want one that names dir/x.go and the function", err)
	}
}

func TestOverlayOfTheInstalledGo(t *testing.T) {
	goroot := installedGo(t)
	packages := []goPackage{{ImportPath: "runtime", Dir: filepath.Join(goroot, "src", "runtime"), Standard: true,
		GoFiles: []string{"os_wasip1.go", "traceruntime.go", "metrics.go", "mprof.go", "proc.go", "mcheckmark.go", "type.go",
			"symtab.go", "mgc.go"}}}
	changed := func(packages []goPackage, hostPoll bool) []string {
		ov, err := makeOverlay(packages, goroot, t.TempDir(), hostPoll)
		if err != nil {
			t.Fatal(err)
		}
		var files []string
		for file := range ov.replace {
			files = append(files, filepath.Base(file))
		}
		slices.Sort(files)
		return append(files, ov.replaced...)
	}
	idle := []string{"mcheckmark.go", "metrics.go", "mprof.go", "proc.go", "symtab.go", "traceruntime.go", "type.go"}
	all := append(slices.Sorted(slices.Values(append(slices.Clone(idle), "os_wasip1.go"))), pollOneoff)
	if got := changed(packages, false); !slices.Equal(got, all) {
		t.Errorf("changed %v, want %v", got, all)
	}
	if got := changed(packages, true); !slices.Equal(got, idle) {
		t.Errorf("with the host's poll_oneoff: changed %v, want %v", got, idle)
	}
	for _, reader := range []string{"runtime/trace", "runtime/metrics", "runtime/pprof"} {
		got := changed(append(packages, goPackage{ImportPath: reader, Standard: true}), false)
		if want := []string{"os_wasip1.go", pollOneoff}; !slices.Equal(got, want) {
			t.Errorf("with %s: changed %v, want %v", reader, got, want)
		}
	}
}

// installedGo returns GOROOT, and skips the test where that has no source.
func installedGo(t *testing.T) string {
	goroot, err := goCommand{log: io.Discard}.output(t.Context(), "env", "GOROOT")
	if err != nil {
		t.Fatal(err)
	}
	goroot = filepath.Clean(strings.TrimSpace(goroot))
	if _, err := os.Stat(filepath.Join(goroot, "src", "runtime", "os_wasip1.go")); err != nil {
		t.Skip("no Go source installed: ", err)
	}
	return goroot
}

func TestOverlayNamesWhatItDoesNotFind(t *testing.T) {
	type sources map[string]string // by name
	goroot := t.TempDir()
	dir := filepath.Join(goroot, "src", "runtime")
	moved := strings.ReplaceAll(declarations, pollOneoff, "poll")
	const tracer = `package runtime

func traceEnabled() bool { return x }
func traceAllocFreeEnabled() bool { return x }
func traceShuttingDown() bool { return x }
`
	const metrics = "package runtime\n\nfunc godebug_registerMetric(name string) { x() }\n"
	others := sources{
		"mprof.go":      "package runtime\n\nfunc mProf_Malloc() { x() }\n\nfunc saveblockevent() { x() }\n",
		"proc.go":       "package runtime\n\nfunc schedtrace() { x() }\n",
		"mcheckmark.go": "package runtime\n\nfunc checkFinalizersAndCleanups() { x() }\n",
		"type.go":       "package runtime\n\nfunc typelinksinit() { x() }\n",
		"symtab.go":     "package runtime\n\nfunc moduledataverify() { x() }\n",
	}
	for name, c := range map[string]struct {
		sources
		missing string // "" where all is there
	}{
		"sound":             {sources{"os_wasip1.go": declarations, "traceruntime.go": tracer, "metrics.go": metrics}, ""},
		"no poll_oneoff":    {sources{"os_wasip1.go": moved, "traceruntime.go": tracer, "metrics.go": metrics}, "os_wasip1.go"},
		"poll elsewhere":    {sources{"poll_wasip1.go": declarations, "traceruntime.go": tracer, "metrics.go": metrics}, "os_wasip1.go"},
		"no tracer":         {sources{"os_wasip1.go": declarations, "metrics.go": metrics}, "traceruntime.go"},
		"function renamed":  {sources{"os_wasip1.go": declarations, "traceruntime.go": tracer, "metrics.go": tracer}, "metrics.go"},
		"nothing":           {sources{}, "os_wasip1.go"},
		"tracer of another": {sources{"os_wasip1.go": declarations, "traceruntime.go": metrics, "metrics.go": metrics}, "traceruntime.go"},
	} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		p := goPackage{ImportPath: "runtime", Dir: dir, Standard: true}
		maps.Copy(c.sources, others)
		for file, text := range c.sources {
			p.GoFiles = append(p.GoFiles, file)
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		_, err := makeOverlay([]goPackage{p}, goroot, t.TempDir(), false)
		switch {
		case c.missing == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.missing != "" && (err == nil || !strings.Contains(err.Error(), c.missing)):
			t.Errorf("%s: error %v, want one that names %s", name, err, c.missing)
		}
	}
}
