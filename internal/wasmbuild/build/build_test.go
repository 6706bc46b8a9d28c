package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sentinel-envoy/internal/tinygo"
	"sentinel-envoy/internal/wasmbuild/buildtest"
	"sentinel-envoy/internal/wasmbuild/module"
)

// TestSameBytesElsewhere builds the same tagged commit in two directories.
func TestSameBytesElsewhere(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a plugin twice")
	}
	var built [2][]byte
	for i, name := range []string{"a", "another/place"} {
		dir := filepath.Join(t.TempDir(), name)
		buildtest.Tree(t, dir)
		buildtest.Commit(t, dir, "v7.7.7-trial")
		out := filepath.Join(dir, "dist", "heap.wasm")
		res, err := Build(t.Context(), Options{Dir: dir, Package: buildtest.Heap, Out: out})
		if err != nil {
			t.Fatal(err)
		}
		built[i] = read(t, out)
		sum := sha256.Sum256(built[i])
		want := hex.EncodeToString(sum[:])
		if line := string(read(t, out+".sha256")); res.SHA256 != want || line != want+"  heap.wasm\n" {
			t.Errorf("checksum %q, file %q, want %q", res.SHA256, line, want)
		}
		if !slices.Contains(res.Replaced, pollOneoff) {
			t.Errorf("replaced %v, want %s among them", res.Replaced, pollOneoff)
		}
	}
	if !bytes.Equal(built[0], built[1]) {
		t.Errorf("two builds differ: %d and %d bytes", len(built[0]), len(built[1]))
	}
	if !bytes.Contains(built[0], []byte("v7.7.7-trial")) {
		t.Error("the module does not know its version")
	}
	// The SDK has no calls of gRPC, and this plugin does not ask for them.
	lookInto(t, built[0], sdkABI, func(c string) bool { return !strings.HasPrefix(c, "proxy_on_grpc_") })
}

// lookInto checks what a finished module, which speaks the given ABI, imports, and that it exports those of the default
// callbacks that it has.
func lookInto(t *testing.T, b []byte, abi string, has func(callback string) bool) {
	m, err := module.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	imports, err := m.Imports()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range imports {
		if i.Name == pollOneoff {
			t.Errorf("the module imports %s", i.Name)
		}
	}
	exports, err := m.Exports()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range exports {
		got = append(got, e.Name)
	}
	want := []string{"memory", "_initialize", abi, allocate}
	for _, c := range DefaultCallbacks {
		if has(c) {
			want = append(want, c)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("exports\n%v, want\n%v", got, want)
	}
}

// maxSize is what the Go artefact may weigh, in bytes: Envoy compiles all of it at every start, and holds the result in
// memory. Whoever raises it says in the commit what for.
const maxSize = 6_370_000

func TestPluginIsNotLarger(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the plugin")
	}
	out := filepath.Join(t.TempDir(), "sentinel.wasm")
	if _, err := Build(t.Context(), Options{Dir: "../../..", Package: "./plugins", Out: out, Names: true}); err != nil {
		t.Fatal(err)
	}
	m, err := module.Parse(read(t, out))
	if err != nil {
		t.Fatal(err)
	}
	functions, err := m.Functions()
	if err != nil || len(functions) == 0 {
		t.Fatalf("%d functions, %v", len(functions), err)
	}
	// Whatever formats by reflection keeps all types that know how to format themselves: RATIONALE.md.
	for _, f := range functions {
		if strings.HasPrefix(f.Name, "fmt.") {
			t.Errorf("package fmt is linked: %s", f.Name)
			break
		}
	}
	m.DropCustom()
	if size := len(m.Bytes()); size > maxSize {
		t.Errorf("%d bytes, more than %d", size, maxSize)
	}
}

func TestBuildFailsWithoutWriting(t *testing.T) {
	out := filepath.Join(t.TempDir(), "x.wasm")
	_, err := Build(t.Context(), Options{Package: "./no/such/package", Out: out, Log: io.Discard})
	if err == nil {
		t.Error("built a package that does not exist")
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("wrote a module nevertheless")
	}
}

func TestBuildStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Build(ctx, Options{Package: ".", Out: filepath.Join(t.TempDir(), "x.wasm"), Log: io.Discard}); err == nil {
		t.Error("built after the context's end")
	}
}

func TestCheck(t *testing.T) {
	sound := func() ([]string, []string) {
		return []string{"wasi_snapshot_preview1.fd_write", "env.proxy_log"},
			[]string{"_initialize", "proxy_on_memory_allocate", "proxy_abi_version_0_2_0"}
	}
	if imports, exports := sound(); check(binary(imports, exports), false) != nil {
		t.Fatalf("sound module: %v", check(binary(imports, exports), false))
	}
	for _, bad := range []string{"wasi_snapshot_preview1.poll_oneoff", "wasi_snapshot_preview1.fd_filestat_get",
		"env.proxy_get_log_level", "env.abort", "gojs.runtime.wasmExit"} {
		imports, exports := sound()
		if err := check(binary(append(imports, bad), exports), false); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("import %s: error %v, want one that names it", bad, err)
		}
	}
	imports, exports := sound()
	if err := check(binary(append(imports, "env.proxy_get_log_level"), append(exports, newerABI)), false); err != nil {
		t.Errorf("proxy_get_log_level with ABI 0.2.1: %v", err)
	}
	for i, name := range exports {
		imports, exports := sound()
		if check(binary(imports, slices.Delete(exports, i, i+1)), false) == nil {
			t.Errorf("nothing seen wrong without %s", name)
		}
	}
}

func TestTrim(t *testing.T) {
	exports := []string{"_initialize", allocate, "proxy_abi_version_0_2_0", "proxy_on_tick", "proxy_on_response_body", "other"}
	whole := binary(nil, exports)
	for _, c := range []struct {
		name string
		o    Options
		want []string
	}{
		{"default", Options{}, []string{"proxy_on_response_body"}},
		{"own list", Options{Callbacks: []string{"proxy_on_response_body"}}, []string{"proxy_on_tick"}},
		{"none", Options{Callbacks: []string{}}, []string{"proxy_on_tick", "proxy_on_response_body"}},
		{"all", Options{KeepAll: true}, nil},
		{"names", Options{Names: true}, []string{"proxy_on_response_body"}},
	} {
		b, dropped, err := trim(whole, c.o)
		if err != nil || !slices.Equal(dropped, c.want) {
			t.Errorf("%s: dropped %v, %v, want %v", c.name, dropped, err, c.want)
		}
		if named := bytes.Contains(b, []byte("producers")); named != (c.o.KeepAll || c.o.Names) {
			t.Errorf("%s: custom section there: %v", c.name, named)
		}
		if err := check(b, false); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestNamesAreKeptWhereAsked(t *testing.T) {
	for _, c := range []struct {
		o     Options
		named bool
	}{{Options{}, false}, {Options{Names: true}, true}, {Options{KeepAll: true}, true}} {
		line, err := ldflags(t.Context(), c.o)
		if err != nil {
			t.Fatal(err)
		}
		flags := strings.Fields(line)
		if stripped := slices.Contains(flags, "-s") && slices.Contains(flags, "-w"); stripped == c.named {
			t.Errorf("%+v: linked with %v", c.o, flags)
		}
	}
}

func TestTrimLeavesNoMallocOfTinyGo(t *testing.T) {
	whole := binary(nil, []string{"_initialize", allocate, "proxy_abi_version_0_2_0", "malloc", "free", "fmaximum", "proxy_on_tick"})
	_, dropped, err := trim(whole, Options{TinyGo: "tinygo"})
	if want := []string{"malloc", "free", "fmaximum"}; err != nil || !slices.Equal(dropped, want) {
		t.Errorf("dropped %v, %v, want %v", dropped, err, want)
	}
}

// TestTinyGo builds the plugins with TinyGo, in two directories and with no build of TinyGo's to remember, where
// $SENTINEL_ARTEFACT asks for its artefact.
func TestTinyGo(t *testing.T) {
	if os.Getenv("SENTINEL_ARTEFACT") != "tiny" {
		t.Skip("it builds TinyGo, which needs packages of Debian's; run make testtiny")
	}
	c, err := tinygo.Find(t.Context(), tinygo.Options{Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	var built [2][]byte
	for i, name := range []string{"a", "another/place"} {
		dir := filepath.Join(t.TempDir(), name)
		copyProject(t, dir)
		t.Setenv("GOCACHE", filepath.Join(t.TempDir(), "cache"))
		t.Setenv("XDG_CACHE_HOME", filepath.Join(t.TempDir(), "cache"))
		out := filepath.Join(dir, "dist", "plugin.wasm")
		o := Options{Dir: dir, Package: "./plugins", Out: out, Version: "trial", TinyGo: c.Path, TinyGoTarget: c.Target}
		res, err := Build(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		built[i] = read(t, out)
		if want := res.SHA256 + "  plugin.wasm\n"; string(read(t, out+".sha256")) != want {
			t.Errorf("checksum %q, want %q", read(t, out+".sha256"), want)
		}
		lookInto(t, built[i], newerABI, func(string) bool { return true })
	}
	if !bytes.Equal(built[0], built[1]) {
		t.Errorf("two builds differ: %d and %d bytes", len(built[0]), len(built[1]))
	}
}

// copyProject copies what the plugins are built from.
func copyProject(t *testing.T, dir string) {
	t.Helper()
	const root = "../../.."
	for _, name := range []string{"plugins", "shared"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(root, name))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		if err := os.WriteFile(filepath.Join(dir, name), read(t, filepath.Join(root, name)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTrimLeavesOneABI(t *testing.T) {
	whole := binary(nil, []string{"_initialize", allocate, sdkABI, newerABI})
	for _, keepAll := range []bool{false, true} {
		_, dropped, err := trim(whole, Options{KeepAll: keepAll})
		if want := []string{sdkABI}; err != nil || !slices.Equal(dropped, want) {
			t.Errorf("keep all %v: dropped %v, %v, want %v", keepAll, dropped, err, want)
		}
	}
}

// binary returns a module with the given imports, each "module.name", the given functions and a memory as exports, and a
// custom section. Hosts would take it for malformed: its functions have no code.
func binary(imports, exports []string) []byte {
	short := func(s string) string { return string(rune(len(s))) + s } // for less than 128 bytes
	section := func(id byte, body string) string {
		size := []byte{byte(len(body)&0x7f | 0x80), byte(len(body) >> 7)} // for less than 16 KiB
		return string([]byte{id}) + string(size) + body
	}
	in := string(rune(len(imports)))
	for _, i := range imports {
		mod, name, _ := strings.Cut(i, ".")
		in += short(mod) + short(name) + "\x00\x00"
	}
	out := string(rune(len(exports)+1)) + short("memory") + "\x02\x00"
	for _, e := range exports {
		out += short(e) + "\x00\x00"
	}
	return []byte("\x00asm\x01\x00\x00\x00" + section(2, in) + section(7, out) + section(0, short("producers")))
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
