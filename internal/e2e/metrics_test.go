package e2e

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"sentinel-envoy/internal/envoytest"
)

// oddNames are names of resources and rules that a label, or a metric's name, might lose or mistake.
var oddNames = []string{
	"a b", "a;resource=b", "a;rule=b;worker=7", `50% "quoted"`, `back\slash`, "Grüße, 世界 🙂", "a:b", "a.b..c", "end.", ".begin",
	"{x}", "%41", "/orders/{id}", "<a>&amp;'", strings.Repeat("long", 64),
}

// TestMetrics shows both filters in one VM, with what the metrics and the log tell of them.
func TestMetrics(t *testing.T) {
	web, echo := envoytest.StartHTTPService(t), envoytest.StartTCPService(t, "")
	both := `{"resource_name": "both", ` + flowRules(flowRule("both", "both", 10)) + `}`
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), Wasm: httpFilter(t, both)},
		envoytest.TCP{Upstream: echo.Addr(), Wasm: tcpFilter(t, both)},
		envoytest.HTTP{Name: "sums", Upstream: web.Addr(), ExactBalance: true, Wasm: httpFilter(t,
			`{"resource_name": "sums", `+flowRules(flowRule("sums", "sums", 150))+`}`)},
		envoytest.HTTP{Name: "quiet", Upstream: web.Addr(), Wasm: httpFilter(t,
			`{"resource_name": "quiet", `+flowRules(flowRule("quiet", "quiet", 50))+`}`)},
		envoytest.HTTP{Name: "odd", Upstream: web.Addr(), Wasm: httpFilter(t, oddConfig())},
	}})
	for _, sub := range []struct {
		name string
		see  func(*testing.T, *envoytest.Envoy)
	}{
		{"log at start", seeLogAtStart},
		{"both filters in one VM", seeOneVM},
		{"sums", seeSums},
		{"odd names", seeOddNames},
		{"silence", seeSilence},
	} {
		t.Run(sub.name, func(t *testing.T) { sub.see(t, e.For(t)) })
	}
}

// The log names the version and counts the rules, once in a process with five VMs.
func seeLogAtStart(t *testing.T, e *envoytest.Envoy) {
	e.WaitLog(soon, `\]\[info\]\[wasm\].* sentinel \S+ \(.*\): .*; rules_hash \d+`)
	lines := e.Log.All(`sentinel \S+ \(.*\): .*rules_hash`)
	for _, text := range []string{"sentinel_tcp: 1 rule", "sentinel_http: 1 rule", fmt.Sprintf("sentinel_http: %d rule", len(oddNames))} {
		if len(lines) != 1 || !strings.Contains(lines[0][0], text) {
			t.Errorf("%d lines announce the rules, want 1 with %q: %q", len(lines), text, lines)
		}
	}
	if bad := e.Log.All(`\]\[(warning|error|critical)\]\[wasm\]`); len(bad) > 0 {
		t.Errorf("the log complains: %q", bad)
	}
}

// One VM for each worker and one for the main thread, whatever the number of filters, and all with the same rules.
func seeOneVM(t *testing.T, e *envoytest.Envoy) {
	hashes := map[float64]int{}
	envoytest.Eventually(t, soon, "each VM tells its rules, and no other", func() bool {
		clear(hashes)
		n := 0
		for _, s := range samples(e, "sentinel_rules_hash") {
			if s.Value != 0 { // it is 0 in the place of a VM that was taken for dead
				hashes[s.Value]++
				n++
			}
		}
		return n == workers+1
	})
	if len(hashes) != 1 {
		t.Errorf("the VMs have different rules, by hash: %v", hashes)
	}
	if n := e.Sum("sentinel_aggregator_term"); n < 1 {
		t.Errorf("sentinel_aggregator_term is %v", n)
	}
}

// The counters are what the clients saw, over all workers.
func seeSums(t *testing.T, e *envoytest.Envoy) {
	const clients, requests = 8, 50
	url := e.URL("sums")
	var wg sync.WaitGroup
	statuses := make([]map[int]int, clients)
	for i := range clients {
		wg.Go(func() {
			statuses[i] = map[int]int{}
			client := envoytest.NewHTTPClient(i%2 == 0)
			defer client.CloseIdleConnections()
			for range requests {
				r, err := envoytest.Do(t.Context(), client, "GET", url)
				if err != nil {
					t.Error(err)
					return
				}
				statuses[i][r.Status]++
			}
		})
	}
	wg.Wait()
	sum := map[int]int{}
	for _, s := range statuses {
		for status, n := range s {
			sum[status] += n
		}
	}
	if sum[200]+sum[429] != clients*requests || sum[200] > 150 || sum[200] == 0 {
		t.Errorf("answers by status: %v, want 200 up to 150 times and 429", sum)
	}
	waitMetric(t, e, float64(sum[200]), "sentinel_passed", "resource", "sums")
	waitMetric(t, e, float64(sum[200]), "sentinel_completed", "resource", "sums")
	waitMetric(t, e, float64(sum[429]), "sentinel_blocked", "resource", "sums", "rule", "sums")
}

// oddConfig blocks each odd resource by a rule with the same id. A header tells which: others cannot have these bytes.
func oddConfig() string {
	var rules, resources []string
	for i, name := range oddNames {
		quoted := quote(name)
		id := quote(oddID(name))
		rules = append(rules, fmt.Sprintf(`{"id": %s, "resource": %s, "threshold": 1, "statIntervalInMs": %d}`, id, quoted, forever))
		resources = append(resources, fmt.Sprintf(`{"name": %s, "match": {"headers": [{"name": "x-odd", "exact": "%d"}]}}`, quoted, i))
	}
	return `{` + flowRules(rules...) + `, "resources": [` + strings.Join(resources, ", ") + `]}`
}

// oddID is a resource's name cut to what an id may be.
func oddID(name string) string { return name[:min(len(name), 128)] }

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// Each resource has series of its own, with its name in the label, percent-encoded where need be.
func seeOddNames(t *testing.T, e *envoytest.Envoy) {
	for i := range oddNames {
		for range 2 {
			e.Get("odd", "/", "x-odd", fmt.Sprint(i))
		}
	}
	waitMetric(t, e, 0, "sentinel_faults")
	for _, name := range oddNames {
		t.Run(name[:min(len(name), 10)], func(t *testing.T) {
			for _, m := range []string{"sentinel_passed", "sentinel_blocked", "sentinel_completed", "sentinel_pass_qps"} {
				var found []envoytest.Sample
				envoytest.Eventually(t, soon, m+" is there for "+name, func() bool {
					found = nil
					for _, s := range samples(e.For(t), m) {
						if label, err := url.PathUnescape(s.Labels["resource"]); err == nil && label == name {
							found = append(found, s)
						}
					}
					return len(found) > 0
				})
				if len(found) != 1 || m != "sentinel_pass_qps" && found[0].Value != 1 {
					t.Errorf("%s: %v, want one sample with 1", m, found)
				}
				_, labelled := found[0].Labels["rule"]
				if id, err := url.PathUnescape(found[0].Labels["rule"]); labelled && (err != nil || id != oddID(name)) ||
					labelled != (m == "sentinel_blocked") || found[0].Labels["worker"] != "" {
					t.Errorf("%s has the labels %q", m, found[0].Labels)
				}
			}
		})
	}
}

// Nothing is logged about requests, unless the level is debug.
func seeSilence(t *testing.T, e *envoytest.Envoy) {
	e.Log.Mark()
	client := envoytest.NewHTTPClient(false)
	defer client.CloseIdleConnections()
	for range 200 {
		if _, err := envoytest.Do(t.Context(), client, "GET", e.URL("quiet")); err != nil {
			t.Fatal(err)
		}
	}
	waitMetric(t, e, 50, "sentinel_passed", "resource", "quiet")
	waitMetric(t, e, 150, "sentinel_blocked", "resource", "quiet")
	if lines := e.Log.All("."); len(lines) > 0 {
		t.Errorf("200 requests at info level write %d lines, such as %q", len(lines), lines[0])
	}
	e.SetLogLevel("wasm", "debug")
	envoytest.Eventually(t, soon, "decisions are logged at debug level", func() bool {
		e.Get("quiet", "/")
		e.SetLogLevel("wasm", "info") // writes what was counted
		e.SetLogLevel("wasm", "debug")
		return len(e.Log.All(`\[debug\]\[wasm\].*audit rule=quiet .* admitted=0 refused=\d+`)) > 0
	})
	e.SetLogLevel("wasm", "info")
}
