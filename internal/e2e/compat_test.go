package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/envoybin"
	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/wasmbuild/build"
)

var compatTable = flag.String("compat.table", "", "`file` to write the table of Envoy releases to, as Markdown")

// heap is internal/wasmbuild/testdata/heap, built as the release is.
var heap = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "heap.wasm")
	_, err := build.Build(context.Background(), build.Options{
		Dir: root, Package: "./internal/wasmbuild/testdata/heap", Out: path,
	})
	return path, err
})

const (
	compatThreshold = 40
	compatRequests  = 300
	compatRules     = 10_000
	// compatTicks is how often the timer runs after a heap has shrunk, every 20 ms: for at least 10 s.
	compatTicks = 500
)

// TestEveryEnvoy runs the same artefact on each Envoy release in use: it starts, limits exactly, and lives on after its
// heap has grown and shrunk, which is when Go's runtime comes to poll.
func TestEveryEnvoy(t *testing.T) {
	versions := envoybin.Versions()
	if testing.Short() {
		versions = []string{versions[0], versions[len(versions)-1]}
	}
	var rows []string
	for _, version := range versions {
		t.Run(version, func(t *testing.T) { rows = append(rows, seeVersion(t, version)) })
	}
	if *compatTable == "" || t.Failed() {
		return
	}
	table := "| Envoy | ready | HTTP: passed, most in a window of 40 | TCP: the same | heap grown and shrunk | ours with 10,000 rules and back |\n" +
		"|---|---|---|---|---|---|\n" + strings.Join(rows, "")
	if err := os.WriteFile(*compatTable, []byte(table), 0o666); err != nil {
		t.Error(err)
	}
}

// seeVersion checks one release and gives its row of the table.
func seeVersion(t *testing.T, version string) string {
	web, up := envoytest.StartHTTPService(t), envoytest.StartTCPService(t, "hello\n")
	listeners := func(extra ...string) []envoytest.Listener {
		rules := flowRules(append([]string{perSecond("web-qps", "web", compatThreshold),
			perSecond("soak-qps", "/soak", compatThreshold)}, extra...)...)
		return []envoytest.Listener{
			envoytest.HTTP{Upstream: web.Addr(), Wasm: httpFilter(t, `{"resource_name": "web", `+rules+`}`)},
			envoytest.TCP{Upstream: up.Addr(), Wasm: tcpFilter(t,
				`{"resource_name": "db", `+flowRules(perSecond("db-qps", "db", compatThreshold))+`}`)},
			envoytest.HTTP{Name: "heap", Upstream: web.Addr(), Wasm: []envoytest.Wasm{
				{File: wasm(t, heap), RootID: "heap_http", VMID: "heap"}}},
		}
	}
	started := time.Now()
	e := start(t, envoytest.Config{
		Version: version, Concurrency: 2, Dynamic: true, LogLevel: "warning", Components: auditing, Listeners: listeners(),
		Args: []string{"--drain-time-s", "1"}, // filters that are replaced let go of their memory soon
	})
	ready := time.Since(started)

	web1, db1 := limits(t, e)
	grown := growRules(t, e, listeners)
	growHeap(t, e)
	web2, db2 := limits(t, e)

	waitMetric(t, e, 0, "sentinel_faults")
	noVMDied(t, e)
	return fmt.Sprintf("| %s | %.0f s | %d of %d, %d | %d of %d, %d | yes | yes (%+d MB) |\n", version, ready.Seconds(),
		web1.passed+web2.passed, 2*compatRequests, max(web1.most, web2.most),
		db1.passed+db2.passed, 2*compatRequests, max(db1.most, db2.most), grown>>20)
}

type limited struct{ passed, most int }

// limits offers both resources more than their rules admit, and holds what the clients saw against the audit.
func limits(t *testing.T, e *envoytest.Envoy) (web, db limited) {
	t.Helper()
	webBefore, dbBefore := audit(t, e, "web-qps"), audit(t, e, "db-qps")
	requests := offer(t, load.Options{QPS: 150, Requests: compatRequests, Connections: 8, Port: portOf(t, e.Addr("http"))})
	connections := offer(t, load.Options{Proto: load.TCP, QPS: 150, Requests: compatRequests, Port: portOf(t, e.Addr("tcp"))})
	return seeLimit(t, e, "web-qps", webBefore, requests.wait(t)), seeLimit(t, e, "db-qps", dbBefore, connections.wait(t))
}

func seeLimit(t *testing.T, e *envoytest.Envoy, rule string, before decided, sum load.Summary) limited {
	t.Helper()
	if sum.Sent != compatRequests || sum.Failed != 0 {
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
	d.within(t, compatThreshold)
	return limited{int(sum.Passed), d.most(before.newest() + 1)}
}

// growRules makes our own heap grow and shrink twice, by an update to many rules and back. It gives by how many bytes
// Envoy's memory grew.
func growRules(t *testing.T, e *envoytest.Envoy, listeners func(extra ...string) []envoytest.Listener) int64 {
	t.Helper()
	many := make([]string, compatRules-2)
	for i := range many {
		many[i] = perSecond(fmt.Sprint("rule-", i), fmt.Sprint("/resource/", i), i)
	}
	hash := rulesHash(e)
	before, err := e.RSS()
	if err != nil {
		t.Fatal(err)
	}
	var most int64
	for range 2 {
		e.Update(listeners(many...)...)
		waitRulesHash(t, e, func(now float64) bool { return now != hash && now != 0 })
		if r := e.Get("http", "/resource/0"); r.Status != 429 {
			t.Errorf("with %d rules, one that admits nothing gives %d", compatRules, r.Status)
		}
		now, err := e.RSS()
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, now-before)
		e.Update(listeners()...)
		waitRulesHash(t, e, func(now float64) bool { return now == hash })
		if r := e.Get("http", "/resource/0"); r.Status != 200 {
			t.Errorf("back with few rules, the resource of a rule that is gone gives %d", r.Status)
		}
	}
	return most
}

// rulesHash is the hash of the rules that all workers apply, 0 where they differ.
func rulesHash(e *envoytest.Envoy) (hash float64) {
	for i, s := range samples(e, "sentinel_rules_hash") {
		if i > 0 && s.Value != hash {
			return 0
		}
		hash = s.Value
	}
	return hash
}

func waitRulesHash(t *testing.T, e *envoytest.Envoy, ok func(float64) bool) {
	t.Helper()
	envoytest.Eventually(t, time.Minute, "all workers apply the new rules", func() bool { return ok(rulesHash(e)) })
}

// growHeap makes a VM's heap grow and shrink, and keeps it and ours at work until their timers have run compatTicks
// times more.
func growHeap(t *testing.T, e *envoytest.Envoy) {
	t.Helper()
	client := envoytest.NewHTTPClient(false) // one connection, so one worker
	defer client.CloseIdleConnections()
	ask := func(headers ...string) (mb, ticks int) {
		r, err := envoytest.Do(t.Context(), client, "GET", e.URL("heap"), headers...)
		if err != nil || r.Status != 200 {
			t.Fatalf("the plugin whose heap grows and shrinks gives %d, %v", r.Status, err)
		}
		if _, err := fmt.Sscanf(r.Body, "%d MB %d ticks", &mb, &ticks); err != nil {
			t.Fatalf("%v: %q", err, r.Body)
		}
		return mb, ticks
	}
	if mb, _ := ask("x-grow-mb", "200"); mb != 200 {
		t.Fatalf("the heap has %d MB, want 200", mb)
	}
	_, first := ask("x-shrink", "1")
	ours := offer(t, load.Options{Path: "/soak", QPS: 100, Connections: 4, Port: portOf(t, e.Addr("http"))})
	envoytest.Eventually(t, 2*time.Minute, "the timers have run long enough after the heap has shrunk", func() bool {
		_, ticks := ask()
		return ticks >= first+compatTicks
	})
	if sum := ours.stop(t); sum.Failed != 0 {
		t.Errorf("%d of %d requests to our plugin failed: %s", sum.Failed, sum.Sent, sum.LastError)
	}
}

// vmDied matches what Envoy logs when a call into a VM fails.
const vmDied = `(Function: \w+ failed|Uncaught RuntimeError|Uncaught RangeError|panic:|fatal error:).*`

// noVMDied fails the test where a VM has.
func noVMDied(t *testing.T, e *envoytest.Envoy) {
	t.Helper()
	if lines := e.Log.All(vmDied); len(lines) > 0 {
		t.Errorf("%d lines tell of a VM that died, the first: %s", len(lines), lines[0][0])
	}
}
