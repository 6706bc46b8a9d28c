package config

import "testing"

func TestPersist(t *testing.T) {
	for doc, want := range map[string]Persist{
		`{"cluster": "counts", "path": "/c"}`: {"counts", "counts", "/c", 5000, 1000},
		`{"cluster": "counts", "path": "/v1/kv/{node}?raw", "authority": "kv.local", "interval_ms": 1000, "timeout_ms": 50}`: {
			"counts", "kv.local", "/v1/kv/{node}?raw", 1000, 50},
	} {
		cfg, err := Parse([]byte(`{"persist": `+doc+`}`), KindTCP)
		if err != nil || cfg.Persist == nil || *cfg.Persist != want {
			t.Errorf("%s: %+v, %v", doc, cfg, err)
		}
	}
	for doc, want := range map[string]string{
		`{}`:                                                 "persist.cluster: missing\npersist.path: missing",
		`{"cluster": "c", "path": "p"}`:                      `persist.path: must begin with /, got "p"`,
		`{"cluster": "c", "path": "/a b"}`:                   `persist.path: must be as it is sent, with %20 in place of a space and so on, got "/a b"`,
		`{"cluster": "c", "path": "/a#b"}`:                   `persist.path: must be as it is sent, with %20 in place of a space and so on, got "/a#b"`,
		`{"cluster": "c", "path": "/{id}"}`:                  `persist.path: has a place other than {node}: "/{id}"`,
		`{"cluster": "c", "path": "/", "interval_ms": 999}`:  "persist.interval_ms: must be ≥ 1000, got 999",
		`{"cluster": "c", "path": "/", "timeout_ms": 60001}`: "persist.timeout_ms: must be ≤ 60000, got 60001",
		`{"cluster": "c", "path": "/", "key": "k"}`:          "persist.key: unknown key",
		`[]`: "persist: must be an object, got a list",
	} {
		if _, err := Parse([]byte(`{"persist": `+doc+`}`), KindHTTP); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", doc, err, want)
		}
	}
	if _, err := Parse([]byte(`{"persist": {"cluster": "c", "path": "/"}}`), KindVM); err == nil {
		t.Error("the VM's configuration has it")
	}
}
