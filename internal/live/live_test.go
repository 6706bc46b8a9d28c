// Package live changes rules by data sources for minutes: what the end-to-end suite does in seconds, with real servers, under
// load, while workers die. `make live` runs it.
package live

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
	"sentinel-envoy/internal/ruleserver"
	"sentinel-envoy/internal/rulestore"
	"sentinel-envoy/shared/config"
)

const (
	// soon is how long things may take that take milliseconds on an idle machine.
	soon    = time.Minute
	workers = 4
	// changes is how often rules change, once a second.
	changes = 60
)

var run = flag.Bool("live", false, "run the tests of this package, which take minutes")

func TestMain(m *testing.M) {
	flag.Parse()
	if !*run {
		fmt.Println("skipped: these tests take minutes; run make live")
		return
	}
	os.Exit(plugintest.Run(m))
}

var plugins = plugintest.Plugins("release.wasm", "")

// filter is a filter with data sources and nothing else.
func filter(file, rootID, sources string) []envoytest.Wasm {
	return []envoytest.Wasm{{File: file, RootID: rootID, FailurePolicy: "FAIL_RELOAD",
		Config: `{"resource_name": "all", "datasource": [` + sources + `]}`}}
}

func residentMB(t *testing.T, e *envoytest.Envoy) float64 {
	t.Helper()
	rss, err := e.RSS()
	if err != nil {
		t.Fatal(err)
	}
	return float64(rss) / 1e6
}

// crowd is a document that is a gate, and a thousand rules more of which one changes.
func crowd(n int) string {
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(ruleserver.GateRules(n%2 == 0), "]"))
	for i := range 1000 {
		threshold := 100_000
		if i == 0 {
			threshold += n
		}
		fmt.Fprintf(&b, `, {"id": "rule-%d", "resource": "/r%d", "threshold": %d}`, i, i, threshold)
	}
	return b.String() + "]"
}

// TestSixtyChanges changes a document of a thousand rules once a second, which an HTTP and a TCP filter share, under requests on
// eight connections.
func TestSixtyChanges(t *testing.T) {
	server := ruleserver.Start(t, crowd(1))
	web := envoytest.StartHTTPService(t)
	source := fmt.Sprintf(`{"type": "http", "cluster": %q, "path": "/rules.json", "rules": "flowRules", "interval_ms": 200}`,
		server.Addr)
	file := plugintest.File(t, plugins)
	e := envoytest.Start(t, envoytest.Config{Concurrency: workers, LogLevel: "warning", Upstreams: []string{server.Addr},
		Listeners: []envoytest.Listener{
			envoytest.HTTP{Upstream: web.Addr(), Wasm: filter(file, "sentinel_http", source)},
			envoytest.TCP{Upstream: web.Addr(), Wasm: filter(file, "sentinel_tcp", source)},
		}})
	v := ruleserver.Watch(t, e.URL("http")+"/orders")
	v.Becomes(t, false)
	for n := range 6 { // what the first ones take once is no change's
		server.Put(crowd(n))
		v.Becomes(t, n%2 == 0)
	}
	before := residentMB(t, e)
	each := time.NewTicker(time.Second)
	defer each.Stop()
	for n := range changes {
		<-each.C
		server.Put(crowd(n))
		v.Becomes(t, n%2 == 0)
	}
	grown := (residentMB(t, e) - before) / changes
	t.Logf("%.2f MB a change of one in a thousand rules, %d connections to the server", grown, server.Clients())
	v.See(t, changes)
	e.WaitSum(t, soon, changes+7, "sentinel_datasource_updates")
	e.WaitSum(t, soon, 0, "sentinel_faults")
	if grown > 1 {
		t.Errorf("%.2f MB a change", grown)
	}
	plugintest.NoVMDied(t, e)
}

// TestCostOfAChange measures CPU without traffic: at rest, while a document of a thousand rules changes once a second, and at rest again.
func TestCostOfAChange(t *testing.T) {
	const period = 20 // seconds, and changes
	server := ruleserver.Start(t, crowd(0))
	web := envoytest.StartHTTPService(t)
	source := fmt.Sprintf(`{"type": "http", "cluster": %q, "path": "/rules.json", "rules": "flowRules", "interval_ms": 200}`, server.Addr)
	file := plugintest.File(t, plugins)
	e := envoytest.Start(t, envoytest.Config{Concurrency: workers, LogLevel: "warning", Upstreams: []string{server.Addr},
		Listeners: []envoytest.Listener{
			envoytest.HTTP{Upstream: web.Addr(), Wasm: filter(file, "sentinel_http", source)},
			envoytest.TCP{Upstream: web.Addr(), Wasm: filter(file, "sentinel_tcp", source)},
		}})
	settled := func() float64 { // the server has been asked again since, and had nothing new
		t.Helper()
		_, before := server.Asked()
		envoytest.Eventually(t, soon, "the newest document is there", func() bool {
			_, unchanged := server.Asked()
			return unchanged > before+1
		})
		return e.Sum("sentinel_datasource_updates")
	}
	envoytest.Eventually(t, soon, "there are rules", func() bool { return settled() > 0 })
	each := time.NewTicker(time.Second)
	defer each.Stop()
	spend := func(change bool) float64 {
		before, err := e.CPUTime()
		for n := range period {
			<-each.C
			if change {
				server.Put(crowd(n + 1))
			}
		}
		settled()
		after, errAfter := e.CPUTime()
		if err != nil || errAfter != nil {
			t.Fatal(err, errAfter)
		}
		return float64((after - before).Milliseconds()) / period
	}
	rest, before := spend(false), settled()
	changing := spend(true)
	taken := settled() - before
	again := spend(false)
	t.Logf("at rest %.1f ms of CPU a second, with %v changes of one in a thousand rules in %d s %.1f, and then %.1f: a change costs %.1f ms in %d VMs",
		rest, taken, period, changing, again, (changing-rest)*period/taken, workers+1)
	if taken < period/2 {
		t.Errorf("%v of %d changes were taken", taken, period)
	}
	if again > 2*rest+20 {
		t.Errorf("after %d changes %.1f ms of CPU a second at rest, before %.1f", period, again, rest)
	}
	plugintest.NoVMDied(t, e)
}

// TestWorkersDie kills VMs, again and again, whoever asks: the rules go on changing.
func TestWorkersDie(t *testing.T) {
	server := ruleserver.Start(t, ruleserver.Gate(false))
	web := envoytest.StartHTTPService(t)
	source := fmt.Sprintf(`{"type": "http", "cluster": %q, "path": "/rules.json", "interval_ms": 200}`, server.Addr)
	file := plugintest.File(t, plugintest.Faulty)
	e := envoytest.Start(t, envoytest.Config{Concurrency: workers, LogLevel: "warning", Upstreams: []string{server.Addr},
		Listeners: []envoytest.Listener{
			envoytest.HTTP{Upstream: web.Addr(), ExactBalance: true, Wasm: filter(file, "sentinel_http", source)}}})
	for n := range 12 {
		for range n % (workers + 1) { // connections go to one worker after the other, so that each dies, and asks, at some time
			client := envoytest.NewHTTPClient(false)
			url := e.URL("http") + "/elsewhere"
			_, _ = envoytest.Do(t.Context(), client, http.MethodGet, url, "x-sentinel-fault", "trap") // dies
			client.CloseIdleConnections()
		}
		server.Put(ruleserver.Gate(n%2 == 0))
		envoytest.Eventually(t, soon, fmt.Sprintf("change %d holds", n), func() bool {
			r, err := envoytest.Do(t.Context(), http.DefaultClient, http.MethodGet, e.URL("http")+"/orders")
			return err == nil && r.Status == map[bool]int{true: 200, false: 429}[n%2 == 0]
		})
	}
	if lost := e.Sum("sentinel_workers_lost"); lost == 0 {
		t.Error("nobody has died")
	} else {
		t.Logf("%v VMs were lost, %d connections to the server", lost, server.Clients())
	}
}

// TestNacos changes rules in a real Nacos, which is asked by long polls.
func TestNacos(t *testing.T) {
	nacos := ruleserver.StartNacos(t)
	web := envoytest.StartHTTPService(t)
	source := fmt.Sprintf(`{"type": "nacos", "cluster": %q, "data_id": "orders-flow-rules", "group": "SENTINEL_GROUP", "rules": "flowRules",
		"interval_ms": 200}`, nacos.Addr)
	e := envoytest.Start(t, envoytest.Config{Concurrency: workers, Upstreams: []string{nacos.Addr}, Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), Wasm: filter(plugintest.File(t, plugins), "sentinel_http", source)}}})
	e.WaitLog(soon, `datasource .*: error 1 on end: status 404: there is no such document`)
	for n := range 10 {
		nacos.Put(t, "orders-flow-rules", "SENTINEL_GROUP", ruleserver.GateRules(n%2 == 0))
		began := time.Now()
		envoytest.Eventually(t, soon, fmt.Sprintf("change %d holds", n), func() bool {
			return (e.Get("http", "/orders").Status == 200) == (n%2 == 0) && e.Sum("sentinel_datasource_updates") >= float64(n+1)
		})
		t.Logf("change %d: %v", n, time.Since(began))
	}
	// And by what `sentinel convert` and `sentinel dashboard` write with.
	store, err := rulestore.New(config.Origin{Type: config.SourceNacos, Path: "/nacos", DataID: "orders-flow-rules", Group: "SENTINEL_GROUP"},
		"http://"+nacos.Addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, version, err := store.Read(t.Context())
	if err != nil || string(text) != ruleserver.GateRules(false) {
		t.Fatalf("Nacos has %s, %v", text, err)
	}
	if err := store.Write(t.Context(), []byte(ruleserver.GateRules(true)), version); err != nil {
		t.Fatal(err)
	}
	envoytest.Eventually(t, soon, "what was written holds", func() bool { return e.Get("http", "/orders").Status == 200 })
	e.WaitSum(t, soon, 0, "sentinel_faults")
	plugintest.NoVMDied(t, e)
}
