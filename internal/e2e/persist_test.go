package e2e

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
	"sentinel-envoy/shared/persist"
)

// keptFiles is a server that keeps what is put, as WebDAV and object stores do.
type keptFiles struct {
	addr string

	mu       sync.Mutex
	files    map[string][]byte
	got, put int
	fault    http.HandlerFunc // nil where all is well
}

func startKeptFiles(t *testing.T) *keptFiles {
	t.Helper()
	s := &keptFiles{files: map[string][]byte{}}
	s.addr = envoytest.StartServer(t, s)
	return s
}

// ServeHTTP implements http.Handler.
func (s *keptFiles) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	fault := s.fault
	if r.Method == http.MethodGet {
		s.got++
	}
	s.mu.Unlock()
	if fault != nil {
		fault(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	file, there := s.files[r.URL.Path]
	switch {
	case err != nil:
	case r.Method == http.MethodPut:
		s.put++
		s.files[r.URL.Path] = body
		w.WriteHeader(http.StatusCreated)
	case !there:
		http.NotFound(w, r)
	default:
		_, _ = w.Write(file)
	}
}

func (s *keptFiles) file(path string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[path]
}

func (s *keptFiles) asked() (got, put int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got, s.put
}

func (s *keptFiles) behave(fault http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// waitKept waits until a document has so many permits of fixed windows, and so many values of which nothing is left.
func (s *keptFiles) waitKept(t *testing.T, path string, permits, spent int64) {
	t.Helper()
	envoytest.Eventually(t, soon, fmt.Sprintf("%s has %d permits and %d values", path, permits, spent), func() bool {
		d, err := persist.Decode(s.file(path))
		if err != nil {
			return false
		}
		var n, values int64
		for _, e := range d.Entries {
			switch {
			case e.Kind == persist.FixedWindow:
				n += int64(binary.LittleEndian.Uint64(e.Data[24:]))
			case e.Kind == persist.Value && int64(binary.LittleEndian.Uint64(e.Data[20:])) <= 0:
				values++
			}
		}
		return n == permits && values == spent
	})
}

// keptEnvoy has rules of long windows that keep their counts in a store.
func keptEnvoy(t *testing.T, s *keptFiles, web string) (*envoytest.Envoy, func(more string) envoytest.Listener) {
	t.Helper()
	listener := func(more string) envoytest.Listener {
		config := fmt.Sprintf(`{%s"persist": {"cluster": %q, "path": "/counts/{node}", "interval_ms": 1000},
			"flowRules": [%s, %s, {"id": "exact", "resource": "/exact", "threshold": 6, "statIntervalInMs": %d, "window": "exact"}],
			"hotspotRules": [{"id": "user", "resource": "/user", "metricType": "QPS", "threshold": 5, "durationInSec": 86400,
				"paramSource": "Header", "paramKey": "x-user", "banAfter": 3, "banMs": 3600000}]}`,
			more, s.addr, flowRule("spent", "/spent", 20), flowRule("half", "/half", 20), forever)
		return envoytest.HTTP{Upstream: web, Wasm: httpFilter(t, config)}
	}
	e := start(t, envoytest.Config{Dynamic: true, Upstreams: []string{s.addr}, Listeners: []envoytest.Listener{listener("")}})
	return e, listener
}

// TestCountsOutliveEnvoy kills an Envoy, and the next one admits what was left. An update of its listener takes nothing over
// again.
func TestCountsOutliveEnvoy(t *testing.T) {
	s, web := startKeptFiles(t), envoytest.StartHTTPService(t)
	const path = "/counts/envoytest"
	e, _ := keptEnvoy(t, s, web.Addr())
	e.WaitLog(soon, `persist .*/counts/{node}: nothing is kept yet`)
	wantAdmitted(t, e, 20, "/spent")
	for range 7 {
		e.Get("http", "/half")
	}
	wantAdmitted(t, e, 6, "/exact")
	wantAdmitted(t, e, 5, "/user", "x-user", "alice")
	s.waitKept(t, path, 27, 2) // alice's permits and her ban
	if err := e.Kill(); err != nil {
		t.Fatal(err)
	}
	got, _ := s.asked()
	e, listener := keptEnvoy(t, s, web.Addr())
	e.WaitLog(soon, `persist .*: took over \d+ counts of \d+ s ago`)
	envoytest.Eventually(t, soon, "alice is banned still", func() bool {
		r := e.Get("http", "/user", "x-user", "alice")
		return r.Status == http.StatusTooManyRequests && strings.Contains(r.Body, "banned for 3600000 ms")
	})
	for _, gone := range []string{"/spent", "/exact"} {
		if n := admitted(t, e, 10, http.StatusTooManyRequests, gone); n != 0 {
			t.Errorf("%s: %d are let in again", gone, n)
		}
	}
	e.Update(listener(`"mode": "enforce", `))
	for range 3 {
		e.Update(listener(""))
		e.Update(listener(`"mode": "enforce", `))
	}
	wantAdmitted(t, e, 13, "/half")
	if n := admitted(t, e, 10, http.StatusTooManyRequests, "/user", "x-user", "alice"); n != 0 {
		t.Errorf("alice: %d are let in again", n)
	}
	wantAdmitted(t, e, 5, "/user", "x-user", "bob")
	s.waitKept(t, path, 40, 4)
	if now, _ := s.asked(); now != got+1 {
		t.Errorf("the document was read %d times", now-got)
	}
	waitMetric(t, e, 0, "sentinel_persist_failures")
	waitMetric(t, e, 0, "sentinel_persist_unread")
	waitMetric(t, e, 0, "sentinel_faults")
	plugintest.NoVMDied(t, e)
}

// TestStoreFails has a server that does what servers do. Requests go on, nothing is written before it has answered well, and
// what it then has is added to what was counted meanwhile.
func TestStoreFails(t *testing.T) {
	s, web := startKeptFiles(t), envoytest.StartHTTPService(t)
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	s.behave(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html><body>Welcome!</body></html>") })
	e, _ := keptEnvoy(t, s, web.Addr())
	e.WaitLog(soon, `persist .*: error 1 on end: this is no document of counts: is the path somebody else's\?; `)
	s.behave(status(500))
	e.WaitLog(soon, `persist .*: error \d on end: status 500`)
	s.behave(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	e.WaitLog(soon, `persist .*: error \d on end: (status 504|no answer)`)
	wantAdmitted(t, e, 20, "/spent")
	if _, put := s.asked(); put != 0 {
		t.Error("a document was written before the one before was read")
	}
	s.behave(nil)
	e.WaitLog(soon, `persist .*: nothing is kept yet`)
	s.waitKept(t, "/counts/envoytest", 20, 0)
	s.behave(status(412))
	e.Get("http", "/half")
	e.WaitLog(soon, `persist .*: error 1 on end: status 412; what is counted meanwhile ends with the process`)
	s.behave(nil)
	e.WaitLog(soon, `persist .*: writes again, after \d errors`)
	s.waitKept(t, "/counts/envoytest", 21, 0)
	waitMetric(t, e, 0, "sentinel_faults")
	plugintest.NoVMDied(t, e)
}
