package e2e

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/internal/envoybin"
	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/plugintest"
)

const (
	limitedTo       = 40
	limitedRequests = 300
)

// oneEnvoy is whether all tests are to be on one Envoy that the environment names, as envoybin has it.
func oneEnvoy() bool { return cmp.Or(os.Getenv("ENVOY_VERSION"), os.Getenv("ENVOY_PATH")) != "" }

// TestEveryEnvoy runs the same artefact on each Envoy release in use, for as long as it takes to see that it starts and
// limits exactly. `make compat` runs all the other tests on each.
func TestEveryEnvoy(t *testing.T) {
	if oneEnvoy() {
		t.Skip("one Envoy is asked for: all other tests are on it")
	}
	web, up := envoytest.StartHTTPService(t), envoytest.StartTCPService(t, "hello\n")
	for _, version := range envoybin.Versions() {
		t.Run(version, func(t *testing.T) {
			e := start(t, envoytest.Config{
				Version: version, Concurrency: 2, LogLevel: "warning", Components: auditing,
				Listeners: limiting(t, web.Addr(), up.Addr()),
			})
			if got := releaseOf(t, e); got != version {
				t.Errorf("Envoy says that it is %s", got)
			}
			seeLimits(t, e)
			waitMetric(t, e, 0, "sentinel_faults")
			plugintest.NoVMDied(t, e)
		})
	}
}

// releaseOf is which release an Envoy says that it is.
func releaseOf(t *testing.T, e *envoytest.Envoy) string {
	t.Helper()
	info, err := e.Admin.Get(t.Context(), "/server_info")
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(info, `"version": "`)
	parts := strings.Split(version, "/") // such as "<commit>/1.40.0/Clean/RELEASE/BoringSSL"
	if len(parts) < 2 {
		t.Fatalf("no version in %s", info)
	}
	return parts[1]
}

// olderThan is whether an Envoy is of an older release than that minor one, such as "1.39".
func olderThan(t *testing.T, e *envoytest.Envoy, minor string) bool {
	t.Helper()
	number := func(s string) (n int) {
		var major, minor int
		if _, err := fmt.Sscanf(s, "%d.%d", &major, &minor); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		return major*1000 + minor
	}
	return number(releaseOf(t, e)) < number(minor)
}

// limiting are a listener "http" with the resource web and one "tcp" with db, each limited by a rule of its own. The extra
// rules are the first's.
func limiting(t *testing.T, web, up string, extra ...string) []envoytest.Listener {
	return []envoytest.Listener{
		envoytest.HTTP{Upstream: web, Wasm: httpFilter(t, `{"resource_name": "web", `+
			flowRules(append(extra, plugintest.PerSecond("web-qps", "web", limitedTo))...)+`}`)},
		envoytest.TCP{Upstream: up, Wasm: tcpFilter(t, `{"resource_name": "db", `+
			flowRules(plugintest.PerSecond("db-qps", "db", limitedTo))+`}`)},
	}
}

// seeLimits offers both resources more than their rules admit, and holds what the clients saw against the audit.
func seeLimits(t *testing.T, e *envoytest.Envoy) {
	t.Helper()
	webBefore, dbBefore := audit(t, e, "web-qps"), audit(t, e, "db-qps")
	requests := plugintest.Offer(t, e.Addr("http"), load.Options{QPS: 150, Requests: limitedRequests, Connections: 8})
	connections := plugintest.Offer(t, e.Addr("tcp"), load.Options{Proto: load.TCP, QPS: 150, Requests: limitedRequests})
	seeLimit(t, e, "web-qps", webBefore, requests.Wait(t))
	seeLimit(t, e, "db-qps", dbBefore, connections.Wait(t))
}

func seeLimit(t *testing.T, e *envoytest.Envoy, rule string, before decided, sum load.Summary) {
	t.Helper()
	if sum.Sent != limitedRequests || sum.Failed != 0 {
		t.Errorf("%s: %d were sent and %d failed: %s", rule, sum.Sent, sum.Failed, sum.LastError)
	}
	var d decided
	for deadline := time.Now().Add(soon); ; time.Sleep(20 * time.Millisecond) {
		d = audit(t, e, rule)
		admitted, refused := d.total()-before.total(), d.refused-before.refused
		if admitted == int(sum.Passed) && refused == int(sum.Blocked) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d passed and %d were blocked, but the audit has %d and %d", rule, sum.Passed, sum.Blocked, admitted, refused)
		}
	}
	d.within(t, limitedTo)
}
