package rulestore_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"sentinel-envoy/internal/ruleserver"
	"sentinel-envoy/internal/rulestore"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/source"
)

func open(t *testing.T, o config.Origin, addr string) *rulestore.Store {
	t.Helper()
	header := http.Header{}
	if o.Type == config.SourceKubernetes {
		header.Set("Authorization", "Bearer "+ruleserver.Token)
	}
	s, err := rulestore.New(o, "http://"+addr+"/", header)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// write reads and writes, as one alone who writes there; it fails the test where that fails.
func write(t *testing.T, s *rulestore.Store, text string) {
	t.Helper()
	_, version, err := s.Read(t.Context())
	if err != nil && !errors.Is(err, rulestore.ErrAbsent) {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), []byte(text), version); err != nil {
		t.Fatal(err)
	}
}

// exercise writes to a document of a kind, and finds out whether somebody else's is written over.
func exercise(t *testing.T, s *rulestore.Store, otherwise bool) {
	t.Helper()
	for _, text := range []string{`{"flowRules": []}`, `{}`, `{"flowRules": [{"resource": "/ü", "threshold": 1}]}`} {
		write(t, s, text)
		if got, _, err := s.Read(t.Context()); err != nil || string(got) != text {
			t.Fatalf("read %s, %v, want %s", got, err, text)
		}
	}
	_, version, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, `{"flowRules": [], "systemRules": []}`)
	err = s.Write(t.Context(), []byte(`{}`), version)
	if otherwise && !errors.Is(err, rulestore.ErrChanged) {
		t.Errorf("what somebody else has written is written over: %v", err)
	}
	if err := s.Write(t.Context(), make([]byte, source.MaxText+1), version); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("more than a filter reads is written: %v", err)
	}
}

func TestFileServer(t *testing.T) {
	server := ruleserver.Start(t, "{}")
	exercise(t, open(t, config.Origin{Type: config.SourceHTTP, Path: "/rules.json"}, server.Addr), true)
	absent := open(t, config.Origin{Type: config.SourceHTTP, Path: "/other.json"}, server.Addr)
	if _, _, err := absent.Read(t.Context()); !errors.Is(err, rulestore.ErrAbsent) {
		t.Error(err)
	}
	if err := absent.Write(t.Context(), []byte("{}"), ""); err == nil || !strings.Contains(err.Error(), "status 405") {
		t.Error(err)
	}
}

func TestConsul(t *testing.T) {
	server := ruleserver.Start(t, "{}")
	exercise(t, open(t, config.Origin{Type: config.SourceConsul, Key: "sentinel/orders"}, server.Addr), true)
}

func TestConfigMap(t *testing.T) {
	server := ruleserver.Start(t, "{}")
	o := config.Origin{Type: config.SourceKubernetes, Namespace: "shop", Name: "sentinel", Key: "rules.json"}
	exercise(t, open(t, o, server.Addr), true)
	o.Key = "none.json"
	_, version, err := open(t, o, server.Addr).Read(t.Context())
	if !errors.Is(err, rulestore.ErrAbsent) || version == "" {
		t.Errorf("version %q, %v: a key that is not there can be added", version, err)
	}
}

func TestEtcd(t *testing.T) {
	etcd := ruleserver.StartEtcd(t)
	s := open(t, config.Origin{Type: config.SourceEtcd, Key: "/sentinel/orders"}, etcd.Addr)
	if _, _, err := s.Read(t.Context()); !errors.Is(err, rulestore.ErrAbsent) {
		t.Errorf("an empty etcd: %v", err)
	}
	exercise(t, s, true)
	if err := s.Write(t.Context(), []byte("{}"), ""); !errors.Is(err, rulestore.ErrChanged) {
		t.Errorf("what is there is taken for what is not: %v", err)
	}
}

func TestWhatServersSay(t *testing.T) {
	for _, url := range []string{"", "127.0.0.1:1", "ftp://x", "http://", "http://x/?a=b"} {
		if _, err := rulestore.New(config.Origin{}, url, nil); err == nil {
			t.Errorf("%q is taken for a server", url)
		}
	}
	server := ruleserver.Start(t, "{}")
	for _, kind := range []config.SourceType{config.SourceHTTP, config.SourceNacos, config.SourceEtcd, config.SourceConsul, config.SourceKubernetes} {
		s := open(t, config.Origin{Type: kind, Path: "/rules.json", Key: "k", Name: "n", Namespace: "d", DataID: "d", Group: "g"}, server.Addr)
		for _, b := range []ruleserver.Behaviour{ruleserver.Failing, ruleserver.Nonsense, ruleserver.Truncated} {
			server.Behave(b)
			_, _, err := s.Read(t.Context())
			// A file and a configuration of Nacos may be any text: what reads them will tell.
			if any := b == ruleserver.Nonsense && (kind == config.SourceHTTP || kind == config.SourceNacos); err == nil && !any {
				t.Errorf("%v: reading says nothing of a server that misbehaves (%d)", kind, b)
			}
			// Whether a file was written, the status alone says.
			statusOnly := b == ruleserver.Nonsense && kind == config.SourceHTTP
			if err := s.Write(t.Context(), []byte("{}"), "1"); err == nil && !statusOnly {
				t.Errorf("%v: writing says nothing of a server that misbehaves (%d)", kind, b)
			}
		}
		server.Behave(ruleserver.Well)
	}
}
