//go:build !wasip1

package vm_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/plugins/vm/vmtest"
)

// asked starts a plugin with a source of figures, and returns once that was asked for the first time.
func asked(t *testing.T) (*vmtest.Envoy, *vmtest.Plugin) {
	t.Helper()
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	p := e.Plugin("sentinel_http", `{"resource_name": "web", "system_source": {"cluster": "node", "interval_ms": 500},
		"systemRules": [{"id": "load", "metricType": "Load", "triggerCount": 4}]}`)
	e.Run(100 * time.Millisecond)
	if len(e.Calls) != 1 {
		t.Fatalf("%d calls", len(e.Calls))
	}
	return e, p
}

var found = [][2]string{{":status", "200"}}

func TestSource(t *testing.T) {
	e, p := asked(t)
	c := e.Calls[0]
	if c.Cluster != "node" || c.TimeoutMs != 500 ||
		fmt.Sprint(c.Headers) != "[[:method GET] [:path /metrics] [:authority node] [accept text/plain]]" {
		t.Errorf("asked %+v", c)
	}
	e.AnswerCall(c, found, "node_load1 5\n")
	e.Run(20 * time.Millisecond)
	s := p.Stream()
	if s.RequestHeaders(); len(s.Answers) != 1 {
		t.Error("at a load of 5 of 4 a request passes")
	}
	if e.Run(500 * time.Millisecond); len(e.Calls) != 2 {
		t.Fatalf("%d calls", len(e.Calls))
	}
	e.AnswerCall(e.Calls[1], found, "node_load1 3\n")
	e.Run(20 * time.Millisecond)
	s = p.Stream()
	if s.RequestHeaders(); len(s.Answers) != 0 {
		t.Error("at a load of 3 of 4 a request is refused")
	}
	e.Faults()
}

// Whatever goes wrong with an answer is a fault, and the source is asked again.
func TestSourceFails(t *testing.T) {
	failing := func(call string, fault func() error) func(string) error {
		return func(c string) error {
			if c == call {
				return fault()
			}
			return nil
		}
	}
	fail, panics := func() error { return errors.New("injected") }, func() error { panic("injected") }
	for _, c := range []struct {
		name    string
		before  func(string) error
		headers [][2]string
		body    string
		fault   string
	}{
		{"no answer", nil, nil, "", "no answer"},
		{"status", nil, [][2]string{{":status", "503"}}, "", "status 503"},
		{"too long", nil, found, strings.Repeat("x", 8<<20+1), "an answer of 8388609 bytes"},
		{"no headers", failing("callHeaders", fail), found, "", "injected"},
		{"no body", failing("callBody", fail), found, "x", "injected"},
		{"nonsense", nil, found, "nonsense", "node/metrics: "},
		{"panic", failing("callBody", panics), found, "x", "panic: injected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, _ := asked(t)
			e.Before = c.before
			e.AnswerCall(e.Calls[0], c.headers, c.body)
			e.Before = nil
			lines := e.Worker.Lines()
			if last := lines[len(lines)-1]; !strings.HasPrefix(last, "fault 1: reading system_source: "+c.fault) {
				t.Errorf("logged %q, want %q", last, c.fault)
			}
			if e.Run(time.Second); len(e.Calls) < 2 {
				t.Error("it is not asked again")
			}
		})
	}
}

func TestSourceCannotBeAsked(t *testing.T) {
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	e.Plugin("sentinel_http", `{"resource_name": "web", "system_source": {"cluster": "node"}}`)
	e.Before = func(call string) error {
		if call == "callHTTP" {
			return errors.New("injected")
		}
		return nil
	}
	e.Run(100 * time.Millisecond)
	e.Faults(`fault 1: reading system_source: cluster "node": injected`)
}
