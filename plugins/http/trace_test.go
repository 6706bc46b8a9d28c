//go:build !wasip1

package http_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/http"
	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/plugins/vm/vmtest"
	"sentinel-envoy/shared/host"
)

// traced starts a plugin by the name "edge" that writes debug messages, and asks for some paths.
func traced(t *testing.T, configuration string, paths ...string) (lines []string) {
	t.Helper()
	e := vmtest.Start(t, map[string]vm.HandlerKind{"sentinel_http": http.Kind}, "")
	e.Worker.SetLevel(host.Debug)
	p := e.NamedPlugin("edge", "sentinel_http", configuration)
	for _, path := range paths {
		s := p.Stream()
		s.Request = map[string]string{":path": path, ":method": "GET", "x-user": "alice"}
		s.RequestHeaders()
		s.End()
		e.Run(100 * time.Millisecond)
	}
	e.Run(time.Second)
	e.Faults()
	return e.Worker.Lines()
}

func wantLine(t *testing.T, lines []string, part string) {
	t.Helper()
	if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, part) }) {
		t.Errorf("no line has %q:\n%s", part, strings.Join(lines, "\n"))
	}
}

// The debug log says of a request which resource it got and why it was refused, and by which filter.
func TestTrace(t *testing.T) {
	lines := traced(t, `{"flowRules": [{"id": "once", "resource": "/a", "threshold": 1, "statIntervalInMs": 60000}]}`, "/a?q=secret", "/a", "/b")
	for _, part := range []string{
		`entry of sentinel_http (edge) path="/a" resource="/a": entered`,
		`entry of sentinel_http (edge) path="/a" resource="/a": refused by flow:once 1/1`,
		`entry of sentinel_http (edge) path="/b" resource="": no rule is asked`,
	} {
		wantLine(t, lines, part)
	}
	if text := strings.Join(lines, "\n"); strings.Contains(text, "secret") {
		t.Errorf("a query is in the log:\n%s", text)
	}
	lines = traced(t, `{"mode": "shadow", "flowRules": [{"id": "once", "resource": "/a", "threshold": 1, "statIntervalInMs": 60000}]}`, "/a", "/a")
	wantLine(t, lines, `: entered, in shadow mode: refused by flow:once 1/1`)
}

// It has what every family decided.
func TestTraceOfEveryFamily(t *testing.T) {
	lines := traced(t, `{"resource_name": "web",
		"flowRules": [{"id": "f", "resource": "web", "threshold": 1000}],
		"isolationRules": [{"id": "i", "resource": "web", "threshold": 1000}],
		"hotspotRules": [{"id": "h", "resource": "web", "metricType": "QPS", "threshold": 1, "durationInSec": 60, "paramSource": "Header", "paramKey": "x-user"}],
		"circuitBreakerRules": [{"id": "b", "resource": "web", "strategy": "ErrorCount", "threshold": 9, "statIntervalMs": 1000, "retryTimeoutMs": 1000}],
		"systemRules": [{"id": "s", "metricType": "InboundQPS", "triggerCount": 1000}]}`, "/", "/")
	for _, part := range []string{
		`decided kind=system rule=s resource="" admitted=1 refused=0`,
		`decided kind=flow rule=f resource="web" admitted=1 refused=0`,
		`decided kind=isolation rule=i resource="web" admitted=1 refused=0`,
		`decided kind=hotspot rule=h resource="web" admitted=0 refused=1`,
		`decided kind=circuitBreaker rule=b resource="web" admitted=1 refused=0`,
	} {
		wantLine(t, lines, part)
	}
}

// Under load only a few entries are in the debug log, and without it none.
func TestTraceIsBounded(t *testing.T) {
	for level, most := range map[host.Level]int{host.Debug: 100, host.Info: 0} {
		e := vmtest.Start(t, map[string]vm.HandlerKind{"sentinel_http": http.Kind}, "")
		e.Worker.SetLevel(level)
		p := e.NamedPlugin("edge", "sentinel_http", `{"resource_name": "web"}`)
		for range 100 {
			for range 100 {
				begin(t, p, envoyhost.Continue).End()
			}
			e.Run(10 * time.Millisecond)
		}
		n := 0
		for _, line := range e.Worker.Lines() {
			if strings.Contains(line, "entry of ") {
				n++
			}
		}
		if n > most+10 || n < most/2 {
			t.Errorf("at level %d %d of 10,000 entries of a second are in the log, want about %d", level, n, most)
		}
	}
}

// Messages about a configuration name the filter as Envoy does.
func TestMistakesNameTheFilter(t *testing.T) {
	e := vmtest.Start(t, map[string]vm.HandlerKind{"sentinel_http": http.Kind}, "")
	p := e.NamedPlugin("edge", "sentinel_http", `{"resource_name": "web"}`)
	e.Run(time.Second)
	wantLine(t, e.Worker.Lines(), "sentinel_http (edge): 0 rule(s)")
	if e.StartPlugin(p.ID, "sentinel_http", `{"mode": "on"}`) {
		t.Fatal("a wrong configuration starts")
	}
	wantLine(t, e.Critical, "sentinel: configuration of root_id sentinel_http (edge): mode: must be enforce or shadow")
}
