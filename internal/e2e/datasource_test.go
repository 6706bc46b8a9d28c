package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
	"sentinel-envoy/internal/ruleserver"
)

// gate is a document that lets everything pass on /orders, or nothing.
func gate(open bool) string {
	return fmt.Sprintf(`{"flowRules": [{"id": "open %v", "resource": "/orders", "threshold": %d}]}`, open, map[bool]int{true: 1_000_000}[open])
}

// gateRules is the same as a list of flow rules.
func gateRules(open bool) string {
	list := strings.TrimPrefix(gate(open), `{"flowRules": `)
	return strings.TrimSuffix(list, "}")
}

// sourceAt is the member of a configuration that has one data source, an HTTP cluster at an address.
func sourceAt(kind, addr, more string) string {
	return fmt.Sprintf(`"datasource": [{"type": %q, "cluster": %q, "interval_ms": 200, %s}]`, kind, addr, more)
}

// verdicts are requests that look at a gate all the time, and what became of them.
type verdicts struct {
	stop context.CancelFunc
	done sync.WaitGroup
	mu   sync.Mutex
	all  []verdict
}

// verdict is that a request was let in or not, at a time between two.
type verdict struct {
	began, ended time.Time
	open         bool
}

// watchGate sends requests from some clients with connections of their own until see.
func watchGate(t *testing.T, url string) *verdicts {
	ctx, cancel := context.WithCancel(t.Context())
	v := &verdicts{stop: cancel}
	const clients = 8
	for range clients {
		v.done.Go(func() {
			client := envoytest.NewHTTPClient(false)
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				began := time.Now()
				r, err := envoytest.Do(ctx, client, http.MethodGet, url)
				if ctx.Err() != nil {
					return
				}
				if err != nil || r.Status != 200 && r.Status != 429 {
					t.Errorf("status %d: %v", r.Status, err)
					return
				}
				v.mu.Lock()
				v.all = append(v.all, verdict{began, time.Now(), r.Status == 200})
				v.mu.Unlock()
				time.Sleep(time.Millisecond)
			}
		})
	}
	t.Cleanup(cancel)
	return v
}

// newest is whether the last request was let in.
func (v *verdicts) newest() (open, any bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.all) == 0 {
		return false, false
	}
	return v.all[len(v.all)-1].open, true
}

// becomes waits until requests are let in, or not.
func (v *verdicts) becomes(t *testing.T, open bool) {
	t.Helper()
	envoytest.Eventually(t, soon, fmt.Sprintf("the gate is open: %v", open), func() bool {
		is, any := v.newest()
		return any && is == open
	})
}

// see ends the requests. Between two verdicts on one side and the other there must be an instant before which all could have been
// decided one way, and after which all the other way.
func (v *verdicts) see(t *testing.T, changes int) {
	t.Helper()
	v.stop()
	v.done.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.all) == 0 {
		t.Fatal("no requests")
	}
	open, seen := v.all[0].open, 0
	var last, held, next time.Time // the latest beginning of a verdict like the present one, and when that and the next hold at the latest
	for _, one := range v.all {    // by their ends, more or less
		switch {
		case one.open == open && !next.IsZero() && one.began.After(next):
			t.Fatalf("open %v: a request that began %v after one had ended by the new rules was decided by the old; change %d",
				open, one.began.Sub(next), seen)
		case one.open == open:
			last = one.began
		case one.began.Before(held): // it may be of the time before
		case next.IsZero():
			next = one.ended
		case one.began.After(last) && one.began.After(next):
			open, held, next = one.open, next, time.Time{}
			seen++
		}
	}
	t.Logf("%d requests, %d changes seen of %d", len(v.all), seen, changes)
	if seen < changes {
		t.Errorf("%d changes were seen, want %d", seen, changes)
	}
}

// TestDataSource has two filters, of HTTP and of TCP, with one source. One worker asks, and all change at one instant.
func TestDataSource(t *testing.T) {
	server := ruleserver.Start(t, gate(false))
	web := envoytest.StartHTTPService(t)
	source := sourceAt("http", server.Addr, `"path": "/rules.json"`)
	e := start(t, envoytest.Config{Upstreams: []string{server.Addr}, Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), Wasm: httpFilter(t, `{`+source+`}`)},
		envoytest.TCP{Upstream: web.Addr(), Wasm: tcpFilter(t, `{"resource_name": "db", `+source+`}`)},
	}})
	v := watchGate(t, e.URL("http")+"/orders")
	v.becomes(t, false)
	const changes = 6
	for n := range changes {
		server.Put(gate(n%2 == 0))
		v.becomes(t, n%2 == 0)
	}
	v.see(t, changes)
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
	server := ruleserver.Start(t, gate(false))
	web := envoytest.StartHTTPService(t)
	server.Kill()
	e := start(t, envoytest.Config{Upstreams: []string{server.Addr}, Listeners: []envoytest.Listener{envoytest.HTTP{
		Upstream: web.Addr(), Wasm: httpFilter(t, `{"failure_mode": "closed", `+sourceAt("http", server.Addr, `"path": "/rules.json", "required": true`)+`}`)}}})
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
		{ruleserver.Failing, "status 503"}, {ruleserver.Nonsense, `malformed JSON at line 1, byte 1`}, {ruleserver.Truncated, "error 1 on end"},
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
	server.Put(gate(true))
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
