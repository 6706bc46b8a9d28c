package build

import (
	"io"
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

func TestOverlayOfTheInstalledGo(t *testing.T) {
	goroot, err := goCommand{log: io.Discard}.output(t.Context(), "env", "GOROOT")
	if err != nil {
		t.Fatal(err)
	}
	goroot = filepath.Clean(strings.TrimSpace(goroot))
	file := filepath.Join(goroot, "src", "runtime", "os_wasip1.go")
	if _, err := os.Stat(file); err != nil {
		t.Skip("no Go source installed: ", err)
	}
	ov, err := makeOverlay([]string{file}, goroot, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{pollOneoff}; !slices.Equal(ov.replaced, want) {
		t.Errorf("replaced %v, want %v", ov.replaced, want)
	}
}

func TestOverlayNamesTheFileWithoutPollOneoff(t *testing.T) {
	goroot := t.TempDir()
	file := filepath.Join(goroot, "src", "runtime", "os_wasip1.go")
	elsewhere := filepath.Join(goroot, "src", "runtime", "poll_wasip1.go")
	moved := strings.ReplaceAll(declarations, "poll_oneoff", "poll")
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		t.Fatal(err)
	}
	for path, src := range map[string]string{file: moved, elsewhere: declarations} {
		if err := os.WriteFile(path, []byte(src), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, files := range [][]string{{file}, {elsewhere}, {file, elsewhere}, nil} {
		_, err := makeOverlay(files, goroot, t.TempDir())
		if err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("makeOverlay(%v): error %v, want one that names %s", files, err, file)
		}
	}
}
