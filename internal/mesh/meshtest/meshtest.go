// Package meshtest has what the tests of all control planes need: our resources with a test's ports and files in them,
// services to put behind a proxy, load on what it listens on, and the table of what was admitted.
package meshtest

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"sentinel-envoy/internal/envoytest"
)

// root is the project's directory, seen from the packages that import this one.
const root = "../../.."

// MountedWasm is where the resources in envoy/ expect the Wasm.
const MountedWasm = "/var/local/lib/wasm-filters/sentinel.wasm"

// Wasm is the path of the artefact, which `make wasm` builds.
func Wasm(t testing.TB) string { return built(t, "dist/sentinel.wasm", "wasm") }

// TinyWasm is that of TinyGo's artefact, which `make tinygo` builds.
func TinyWasm(t testing.TB) string { return built(t, "dist/sentinel-tiny.wasm", "tinygo") }

func built(t testing.TB, name, target string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("run make %s: %v", target, err)
	}
	return path
}

// Sum is the SHA-256 of the artefact, in hexadecimal.
func Sum(t testing.TB) string {
	t.Helper()
	sum := sha256.Sum256([]byte(read(t, Wasm(t))))
	return hex.EncodeToString(sum[:])
}

// Resource is a file of the project, such as "envoy/istio/sidecar.yaml", with texts replaced: old and new ones in turn. Each
// old one must be there.
func Resource(t testing.TB, name string, oldnew ...string) string {
	t.Helper()
	return replace(t, name, read(t, filepath.Join(root, name)), oldnew)
}

// Data is a file of the test's folder testdata, likewise.
func Data(t testing.TB, name string, oldnew ...string) string {
	t.Helper()
	return replace(t, name, read(t, filepath.Join("testdata", name)), oldnew)
}

func replace(t testing.TB, name, text string, oldnew []string) string {
	t.Helper()
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			t.Fatalf("%s has no %q", name, oldnew[i])
		}
		text = strings.ReplaceAll(text, oldnew[i], oldnew[i+1])
	}
	return text
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// FreePorts gives n loopback ports that nobody listens on, as they are written in resources.
func FreePorts(t testing.TB, n int) []string {
	t.Helper()
	ports, err := envoytest.FreePorts(n)
	if err != nil {
		t.Fatal(err)
	}
	texts := make([]string, n)
	for i, p := range ports {
		texts[i] = strconv.Itoa(p)
	}
	return texts
}

// Port is the port of a host:port, as it is written in resources.
func Port(t testing.TB, addr string) string {
	t.Helper()
	return strconv.Itoa(envoytest.PortOf(t, addr))
}

// FileServer hands out the artefact, whatever the path, unless it is told not to.
type FileServer struct {
	Addr     string // host:port
	Down     atomic.Bool
	Requests atomic.Int64
}

// ServeWasm runs a FileServer until the test's end.
func ServeWasm(t testing.TB) *FileServer {
	t.Helper()
	s, path := &FileServer{}, Wasm(t)
	s.Addr = envoytest.StartServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Requests.Add(1)
		if s.Down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		http.ServeFile(w, r, path)
	}))
	return s
}
