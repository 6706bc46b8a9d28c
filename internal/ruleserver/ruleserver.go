// Package ruleserver has the servers that tests keep rules in: one of its own with the shapes of a file server, of Consul and
// of Kubernetes' API, which can be told to misbehave, and real ones: etcd and Nacos.
package ruleserver

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// Behaviour is what a Server does with a request.
type Behaviour int

// The behaviours.
const (
	Well      Behaviour = iota
	Hanging             // no answer
	Failing             // 503
	Nonsense            // HTML with the status 200
	Truncated           // half of the document, and then the connection is closed
	Huge                // more than 4 MiB
	Slow                // the document, byte for byte, over three seconds
	Colliding           // the document with a rule whose id is there twice
	Lying               // 304, though nothing has been asked for on a condition
)

// Token is what Server wants to see as a bearer's before it tells of a ConfigMap.
const Token = "a-token"

// Server answers with one document: as a file at /rules.json, as Consul for any key, as a ConfigMap's data["rules.json"] of any
// name.
type Server struct {
	Addr   string
	server *http.Server

	mu        sync.Mutex
	changed   *sync.Cond
	text      string
	version   int
	behaviour Behaviour
	asked     int
	unchanged int
	clients   map[string]bool
}

// Start starts a server until the test's end.
func Start(t testing.TB, text string) *Server {
	t.Helper()
	s := &Server{text: text, version: 1, clients: map[string]bool{}}
	s.changed = sync.NewCond(&s.mu)
	s.listen(t, "127.0.0.1:0")
	return s
}

func (s *Server) listen(t testing.TB, addr string) {
	t.Helper()
	server, err := envoytest.Serve(addr, s)
	if err != nil {
		t.Fatal(err)
	}
	s.server, s.Addr = server, server.Addr
	t.Cleanup(func() { server.Close() })
}

// Kill ends the server, with all that is under way; Restart starts it again at its address.
func (s *Server) Kill() { s.server.Close() }

// Restart is described with Kill.
func (s *Server) Restart(t testing.TB) { s.listen(t, s.Addr) }

// Put replaces the document.
func (s *Server) Put(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = text
	s.version++
	s.changed.Broadcast()
}

// Behave makes the server behave so from now on.
func (s *Server) Behave(b Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behaviour = b
	s.changed.Broadcast()
}

// Text is the document.
func (s *Server) Text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}

// Asked is how often the server was asked, and how often it answered that nothing has changed.
func (s *Server) Asked() (all, unchanged int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, s.unchanged
}

// Clients are how many connections it was asked over.
func (s *Server) Clients() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked++
	s.clients[r.RemoteAddr] = true
	text, version, behaviour := s.text, s.version, s.behaviour
	s.mu.Unlock()
	if behaviour != Well {
		s.misbehave(w, r, text, behaviour)
		return
	}
	if r.Method != http.MethodGet {
		s.write(w, r)
		return
	}
	switch {
	case strings.HasPrefix(r.URL.Path, "/v1/kv/"):
		s.consul(w, r)
	case strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/"):
		configMap(w, r, text, version)
	case r.URL.Path == "/rules.json":
		etag := strconv.Quote(strconv.Itoa(version))
		if w.Header().Set("Etag", etag); r.Header.Get("If-None-Match") == etag {
			s.count()
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, text)
	default:
		http.NotFound(w, r)
	}
}

func (s *Server) count() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unchanged++
}

// consul is a blocking query, by the index of the last answer.
func (s *Server) consul(w http.ResponseWriter, r *http.Request) {
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	index, _ := strconv.Atoi(r.URL.Query().Get("index"))
	timeout := time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer timeout.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	until := time.Now().Add(wait)
	for s.version == index && s.behaviour == Well && time.Now().Before(until) && r.Context().Err() == nil {
		s.changed.Wait()
	}
	if s.version == index {
		s.unchanged++
	}
	w.Header().Set("X-Consul-Index", strconv.Itoa(s.version))
	if !r.URL.Query().Has("raw") {
		_ = json.NewEncoder(w).Encode([]map[string]any{{"Value": []byte(s.text), "ModifyIndex": s.version}})
		return
	}
	fmt.Fprint(w, s.text)
}

func configMap(w http.ResponseWriter, r *http.Request, text string, version int) {
	if r.Header.Get("Authorization") != "Bearer "+Token {
		http.Error(w, `{"kind":"Status","code":401}`, http.StatusUnauthorized)
		return
	}
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": "ConfigMap", "apiVersion": "v1", "metadata": map[string]any{"name": name, "resourceVersion": strconv.Itoa(version)},
		"data": map[string]string{"other.json": "{}", "rules.json": text},
	})
}

// write replaces the document, where the request's condition holds: If-Match, Consul's cas, a ConfigMap's resourceVersion.
func (s *Server) write(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	version := strconv.Itoa(s.version)
	s.mu.Unlock()
	switch {
	case r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/v1/kv/"):
		same := r.URL.Query().Get("cas") == version
		if fmt.Fprint(w, same); !same {
			return
		}
	case r.Method == http.MethodPatch && strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/"):
		var change struct {
			Metadata struct{ ResourceVersion string }
			Data     map[string]string
		}
		if json.Unmarshal(body, &change) != nil || r.Header.Get("Authorization") != "Bearer "+Token ||
			r.Header.Get("Content-Type") != "application/merge-patch+json" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if change.Metadata.ResourceVersion != version {
			w.WriteHeader(http.StatusConflict)
			return
		}
		body = []byte(change.Data["rules.json"])
		fmt.Fprint(w, `{"kind": "ConfigMap"}`)
	case r.Method == http.MethodPut && r.URL.Path == "/rules.json":
		if want := r.Header.Get("If-Match"); want != "" && want != strconv.Quote(version) {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	s.Put(string(body))
}

func (s *Server) misbehave(w http.ResponseWriter, r *http.Request, text string, b Behaviour) {
	switch b {
	case Hanging:
		<-r.Context().Done()
	case Failing:
		w.WriteHeader(http.StatusServiceUnavailable)
	case Nonsense:
		fmt.Fprint(w, "<html><body>Welcome!</body></html>")
	case Truncated:
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		fmt.Fprint(w, text[:len(text)/2])
	case Huge:
		fmt.Fprint(w, text, strings.Repeat(" ", 5<<20))
	case Slow:
		for i := range len(text) {
			fmt.Fprint(w, text[i:i+1])
			_ = http.NewResponseController(w).Flush()
			time.Sleep(3 * time.Second / time.Duration(len(text)))
		}
	case Colliding:
		fmt.Fprint(w, `{"flowRules": [{"id": "a", "resource": "/a", "threshold": 1}, {"id": "a", "resource": "/b", "threshold": 1}]}`)
	case Lying:
		w.WriteHeader(http.StatusNotModified)
	case Well:
	}
}
