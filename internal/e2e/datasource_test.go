package e2e

import (
	"fmt"
	"strings"
	"testing"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
	"sentinel-envoy/internal/ruleserver"
)

// sourceAt is the member of a configuration that has one data source, an HTTP cluster at an address.
func sourceAt(kind, addr, more string) string {
	return fmt.Sprintf(`"datasource": [{"type": %q, "cluster": %q, "interval_ms": 200, %s}]`, kind, addr, more)
}

// TestDataSource has two filters, of HTTP and of TCP, with one source. One worker asks, and all change at one instant.
func TestDataSource(t *testing.T) {
	server := ruleserver.Start(t, ruleserver.Gate(false))
	web := envoytest.StartHTTPService(t)
	source := sourceAt("http", server.Addr, `"path": "/rules.json"`)
	e := start(t, envoytest.Config{Upstreams: []string{server.Addr}, Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), Wasm: httpFilter(t, `{`+source+`}`)},
		envoytest.TCP{Upstream: web.Addr(), Wasm: tcpFilter(t, `{"resource_name": "db", `+source+`}`)},
	}})
	v := ruleserver.Watch(t, e.URL("http")+"/orders")
	v.Becomes(t, false)
	const changes = 6
	for n := range changes {
		server.Put(ruleserver.Gate(n%2 == 0))
		v.Becomes(t, n%2 == 0)
	}
	v.See(t, changes)
	waitMetric(t, e, changes+1, "sentinel_datasource_updates")
	waitMetric(t, e, 0, "sentinel_datasource_errors")
	waitMetric(t, e, 0, "sentinel_faults")
	envoytest.Eventually(t, soon, "all workers apply the same rules", func() bool {
		hashes := map[float64]bool{}
		for _, s := range samples(e, "sentinel_rules_hash") {
			hashes[s.Value] = true
		}
		return len(hashes) == 1
	})
	all, unchanged := server.Asked()
	if n := server.Clients(); n != 1 {
		t.Errorf("%d workers have asked, want one", n)
	}
	if unchanged == 0 || all == 0 {
		t.Errorf("of %d answers %d were 304", all, unchanged)
	}
	plugintest.NoVMDied(t, e)
}

// TestDataSourceFails has a server that does whatever servers do: the last rules stay, and the next good answer counts.
func TestDataSourceFails(t *testing.T) {
	server := ruleserver.Start(t, ruleserver.Gate(false))
	web := envoytest.StartHTTPService(t)
	server.Kill()
	source := sourceAt("http", server.Addr, `"path": "/rules.json", "required": true`)
	e := start(t, envoytest.Config{Upstreams: []string{server.Addr}, Listeners: []envoytest.Listener{envoytest.HTTP{
		Upstream: web.Addr(), Wasm: httpFilter(t, `{"failure_mode": "closed", `+source+`}`)}}})
	if r := e.Get("http", "/elsewhere"); r.Status != 503 {
		t.Errorf("status %d before the first answer, want 503", r.Status)
	}
	e.WaitLog(soon, `datasource .*/rules.json: error 1 on end: status 503; the filter has its own rules only`)
	server.Restart(t)
	envoytest.Eventually(t, soon, "the first rules hold", func() bool { return e.Get("http", "/elsewhere").Status == 200 })
	envoytest.Eventually(t, soon, "an error is counted", func() bool { return e.Sum("sentinel_datasource_errors") > 0 })
	errors := e.Sum("sentinel_datasource_errors")
	for _, c := range []struct {
		behaviour ruleserver.Behaviour
		says      string
	}{
		{ruleserver.Failing, "status 503"}, {ruleserver.Nonsense, `malformed JSON at line 1, byte 1`},
		{ruleserver.Truncated, "error 1 on end"},
		{ruleserver.Huge, "more than 4194304"}, {ruleserver.Hanging, "error 1 on end"}, {ruleserver.Slow, "error 1 on end"},
		{ruleserver.Colliding, `"a" is the id of datasource\[0\]: flowRules\[0\] already`},
	} {
		e.Log.Mark()
		server.Behave(c.behaviour)
		e.WaitLog(soon, `datasource .*`+c.says)
		if status := e.Get("http", "/orders").Status; status != 429 {
			t.Errorf("status %d while the server misbehaves (%d), want 429", status, c.behaviour)
		}
		server.Behave(ruleserver.Well)
		e.WaitLog(soon, `datasource .*: (answers again|new rules)|refused`)
	}
	envoytest.Eventually(t, soon, "the errors are counted", func() bool { return e.Sum("sentinel_datasource_errors") >= errors+7 })
	server.Put(ruleserver.Gate(true))
	envoytest.Eventually(t, soon, "the next rules hold", func() bool { return e.Get("http", "/orders").Status == 200 })
	waitMetric(t, e, 0, "sentinel_faults")
	plugintest.NoVMDied(t, e)
}

// TestSourcesOfEachType changes rules in a real etcd, and in what has the shapes of Consul and of Kubernetes' API: three sources
// of one filter. Envoy adds the token that the last wants to see.
func TestSourcesOfEachType(t *testing.T) {
	etcd, consul, kubernetes := ruleserver.StartEtcd(t), ruleserver.Start(t, "[]"), ruleserver.Start(t, "[]")
	web := envoytest.StartHTTPService(t)
	const more = `"interval_ms": 200, "rules": "flowRules", "authority": "rules.local"`
	config := `{"datasource": [
		{"type": "etcd", "cluster": "` + etcd.Addr + `", "key": "/sentinel/orders", ` + more + `},
		{"type": "consul", "cluster": "consul", "key": "sentinel/orders", ` + more + `},
		{"type": "kubernetes", "cluster": "api", "name": "sentinel", "namespace": "shop", "key": "rules.json", ` + more + `}]}`
	e := start(t, envoytest.Config{
		Clusters: []map[string]any{
			withToken(t, "consul", consul.Addr), withToken(t, "api", kubernetes.Addr),
		},
		Upstreams: []string{etcd.Addr},
		Listeners: []envoytest.Listener{envoytest.HTTP{Upstream: web.Addr(), Wasm: httpFilter(t, config)}},
	})
	puts := map[string]func(text string){
		"etcd": func(text string) { etcd.Put(t, "/sentinel/orders", text) }, "consul": consul.Put, "kubernetes": kubernetes.Put,
	}
	for _, open := range []bool{false, true, false} {
		for kind, put := range puts {
			put(fmt.Sprintf(`[{"id": %q, "resource": "/%s", "threshold": %d}]`, kind, kind, map[bool]int{true: 1_000_000}[open]))
		}
		for kind := range puts {
			envoytest.Eventually(t, soon, fmt.Sprintf("%s's rules hold: %v", kind, open), func() bool {
				return (e.Get("http", "/"+kind).Status == 200) == open
			})
		}
	}
	etcd.Kill()
	etcd.Forget(t) // restored from an older copy: its revisions begin anew
	etcd.Restart(t)
	puts["etcd"](`[]`)
	envoytest.Eventually(t, soon, "the new etcd's rules hold", func() bool { return e.Get("http", "/etcd").Status == 200 })
	waitMetric(t, e, 0, "sentinel_faults")
	plugintest.NoVMDied(t, e)
}

// withToken is a cluster whose requests Envoy adds a token to.
func withToken(t *testing.T, name, addr string) map[string]any {
	type object = map[string]any
	host, _, _ := strings.Cut(addr, ":")
	header := object{"header": object{"key": "authorization", "value": "Bearer " + ruleserver.Token}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
	return object{
		"name": name, "type": "STATIC", "connect_timeout": "1s",
		"load_assignment": object{"cluster_name": name, "endpoints": []object{{"lb_endpoints": []object{{
			"endpoint": object{"address": object{"socket_address": object{"address": host, "port_value": envoytest.PortOf(t, addr)}}},
		}}}}},
		"typed_extension_protocol_options": object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
			"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": object{"http_protocol_options": object{}},
			"http_filters": []object{
				{"name": "token", "typed_config": object{
					"@type":     "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
					"mutations": object{"request_mutations": []object{{"append": header}}},
				}},
				{"name": "codec", "typed_config": object{"@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"}},
			},
		}},
	}
}

// TestAskingWorkerDies kills the VM that asks the source, whoever it is, until one VM is left: another takes over each time, and
// what changes holds for those that live.
func TestAskingWorkerDies(t *testing.T) {
	server := ruleserver.Start(t, ruleserver.Gate(false))
	web := envoytest.StartHTTPService(t)
	config := `{` + flowRules(plugintest.PerSecond("marker", plugintest.Marker, 1000)) + `, ` + sourceAt("http", server.Addr, `"path": "/rules.json"`) + `}`
	e := start(t, envoytest.Config{LogLevel: "warning", Components: auditing, Upstreams: []string{server.Addr}, Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), ExactBalance: true, Wasm: []envoytest.Wasm{
			{File: plugintest.File(t, plugintest.Faulty), RootID: "sentinel_http", Config: config, FailurePolicy: "FAIL_CLOSED"}}},
	}})
	lanes := plugintest.Lanes(t, e, workers, 1)
	open, asked := false, map[string]bool{}
	for range workers + 1 {
		open = !open
		before := len(e.Log.All(newRules))
		server.Put(ruleserver.Gate(open))
		envoytest.Eventually(t, soon, "somebody brings the new rules", func() bool { return len(e.Log.All(newRules)) > before })
		asker := e.Log.All(newRules)[before][1]
		if asked[asker] {
			t.Fatalf("the thread %s, whose VM is dead, brings rules", asker)
		}
		asked[asker] = true
		t.Logf("thread %s has brought the rules", asker)
		for thread, of := range lanes {
			envoytest.Eventually(t, soon, fmt.Sprintf("on thread %s the gate is open: %v", thread, open), func() bool {
				return of[0].Get(t, "/orders") == map[bool]int{true: 200, false: 429}[open]
			})
		}
		if of := lanes[asker]; of != nil {
			plugintest.Trap(t, e, of[0], "trap")
			delete(lanes, asker)
			continue
		}
		for _, of := range lanes { // it is the main thread's
			plugintest.Trap(t, e, of[0], "trap-idle")
			break
		}
	}
	if len(asked) != workers+1 {
		t.Errorf("%d VMs have asked, one after the other, want all %d", len(asked), workers+1)
	}
	if n := server.Clients(); n != workers+1 {
		t.Errorf("the server was asked over %d connections, want one of each of %d threads", n, workers+1)
	}
}

// newRules is what the VM that asks writes when there are some; the group is its thread.
const newRules = `^\[[^]]*\]\[(\d+)\].* datasource .*: new rules, version `
