//go:build !wasip1

package vm_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm/vmtest"
	"sentinel-envoy/shared/persist"
)

// keeping starts a plugin that keeps counts at a path, and returns once it has asked for them, if it does.
func keeping(t *testing.T, path string) (*vmtest.Envoy, *vmtest.Plugin) {
	t.Helper()
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	p := e.Plugin("sentinel_http", fmt.Sprintf(`{"resource_name": "web",
		"persist": {"cluster": "store", "path": %q, "authority": "counts.local", "interval_ms": 1000, "timeout_ms": 300},
		"flowRules": [{"id": "long", "resource": "web", "threshold": 3, "statIntervalInMs": 3600000}]}`, path))
	e.Run(100 * time.Millisecond)
	return e, p
}

// lastCall is the last call that was made, the only one since so many.
func lastCall(t *testing.T, e *vmtest.Envoy, since int) *envoyhost.RecordedCall {
	t.Helper()
	if len(e.Calls) != since+1 {
		t.Fatalf("%d calls, want %d", len(e.Calls), since+1)
	}
	return e.Calls[since]
}

func TestPersist(t *testing.T) {
	e, p := keeping(t, "/counts?raw")
	c := lastCall(t, e, 0)
	if c.Cluster != "store" || c.TimeoutMs != 300 || c.Body != "" ||
		fmt.Sprint(c.Headers) != "[[:method GET] [:path /counts?raw] [:authority counts.local]]" {
		t.Errorf("asked %+v", c)
	}
	e.AnswerCall(c, [][2]string{{":status", "404"}}, "")
	p.Stream().RequestHeaders()
	e.Run(1500 * time.Millisecond)
	c = lastCall(t, e, 1)
	if !slices.Contains(c.Headers, [2]string{":method", "PUT"}) || !strings.HasPrefix(c.Body, "sentinel counts\n") {
		t.Errorf("put %+v", c)
	}
	if d, err := persist.Decode([]byte(c.Body)); err != nil || len(d.Entries) != 1 {
		t.Errorf("put %+v, %v", d, err)
	}
	e.AnswerCall(c, [][2]string{{":status", "201"}}, "")
	e.Run(5 * time.Second)
	if len(e.Calls) != 2 {
		t.Errorf("%d calls though nothing has changed", len(e.Calls))
	}
	e.Faults()
}

// Envoy's node.id takes its place in the path, and can be no more than a part of it.
func TestPersistPathHasNode(t *testing.T) {
	for id, want := range map[string]string{
		"edge-1": "/counts/edge-1", "sidecar~10.0.0.7~pod.shop~shop.svc": "/counts/sidecar~10.0.0.7~pod.shop~shop.svc",
		"../a b?c#d": "/counts/%2E.%2Fa%20b%3Fc%23d", "ü": "/counts/%C3%BC",
	} {
		var made []*scripted
		e := vmtest.Start(t, kinds(&made, nil), "")
		e.Node = id
		e.Plugin("sentinel_http", `{"resource_name": "web", "persist": {"cluster": "store", "path": "/counts/{node}"}}`)
		e.Run(100 * time.Millisecond)
		if c := lastCall(t, e, 0); !slices.Contains(c.Headers, [2]string{":path", want}) {
			t.Errorf("asked %v, want %s", c.Headers, want)
		}
	}
}

func TestPersistCannotBeAsked(t *testing.T) {
	e, _ := keeping(t, "/counts/{node}")
	if len(e.Calls) != 0 {
		t.Error("asked without a node.id")
	}
	see := func(e *vmtest.Envoy, text string) {
		t.Helper()
		if !slices.ContainsFunc(e.Worker.Lines(), func(line string) bool { return strings.Contains(line, text) }) {
			t.Errorf("not logged: %s", text)
		}
	}
	see(e, "persist store/counts/{node}: error 1 on end: the path has {node}, and Envoy no node.id; ")
	e.Faults()
	var made []*scripted
	e = vmtest.Start(t, kinds(&made, nil), "")
	e.Plugin("sentinel_http", `{"resource_name": "web", "persist": {"cluster": "nobody", "path": "/counts"}}`)
	e.Before = func(call string) error {
		if call == "callHTTP" {
			return errors.New("injected")
		}
		return nil
	}
	e.Run(100 * time.Millisecond)
	see(e, `persist nobody/counts: error 1 on end: cluster "nobody": injected`)
}
