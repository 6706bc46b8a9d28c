package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sentinel-envoy/internal/envoytest"
)

// Names of what is measured; the targets are about these.
const (
	unfiltered   = "no filter"
	native       = "native local_ratelimit"
	empty        = "empty Go filter"
	sentinel     = "sentinel, 1 rule"
	sentinelMany = "sentinel, 1,000 rules"
	sentinelAll  = "sentinel, all five families"
	sentinelTiny = "sentinel, TinyGo, 1 rule"
	sentinelGo   = "sentinel-golang Entry/Exit"
)

const (
	// paths is how many request paths there are, and so how many resources the filter with many rules guards.
	paths = 1000
	// unreached is a threshold per second that no run comes near.
	unreached = 1_000_000_000
	// controlThreshold is a threshold that a hundred requests in a row exceed.
	controlThreshold = 5
)

// module is a Wasm binary under the name that the report gives it.
type module struct{ name, file string }

// variant is one listener to measure.
type variant struct {
	name     string
	listener envoytest.HTTP
	// control has the same filter with a threshold of controlThreshold; nil where there is nothing to limit. It shows
	// that what is measured really counts.
	control *envoytest.HTTP
	// status is that of the answers, 0 for 200: a filter that refuses gives another. header is one that all requests have.
	status int
	header string
	// delayMs is for how long a first request is held behind the filter, in milliseconds, 0 where there is none.
	delayMs int
}

// collectModules brings into dir the filters to compare with, the Sentinel binary, if there is one, and the extra ones.
// What was there before is copied, so that a build meanwhile does not change what is measured.
func collectModules(ctx context.Context, dir string, o options) ([]module, error) {
	var modules []module
	for _, f := range []struct{ name, source string }{{empty, "empty"}, {emptyRefusing, "refuse"}, {sentinelGo, "sentinelgo"}} {
		if !o.wants(f.name) {
			continue
		}
		file := filepath.Join(dir, f.source+".wasm")
		if err := build(ctx, file, "sentinel-envoy/internal/bench/filters/"+f.source); err != nil {
			return nil, err
		}
		modules = append(modules, module{f.name, file})
	}
	if o.wants(emptyC) {
		modules = append(modules, floorModule(ctx, dir)...)
	}
	given := append([]module{{sentinel, o.sentinel}, {sentinelTiny, o.tiny}}, o.extra...)
	for i, m := range given {
		if m.file == "" {
			continue
		}
		file := filepath.Join(dir, fmt.Sprintf("given-%d.wasm", i))
		if err := copyFile(file, m.file); i < 2 && errors.Is(err, fs.ErrNotExist) {
			log.Printf("%s does not exist: run make %s first; its rows are left out", m.file, []string{"wasm", "tinygo"}[i])
			continue
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		modules = append(modules, module{m.name, file})
	}
	return modules, nil
}

// copyFile copies a file to one that does not exist.
func copyFile(to, from string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

// build compiles a plugin the stock way.
func build(ctx context.Context, output, pkg string) error {
	log.Printf("building %s", pkg)
	cmd := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-trimpath", "-o", output, pkg)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// cpuVariants are the listeners of the CPU measurement. The first has no filter.
func cpuVariants(modules []module) []variant {
	variants := []variant{
		{name: unfiltered, listener: answering(unfiltered)},
		{name: native, listener: answering(native)},
	}
	variants[1].listener.Filters = []map[string]any{nativeFilter(unreached, "1s")}
	for i, m := range modules {
		if m.name == emptyRefusing {
			continue
		}
		v := variant{name: m.name, listener: guarded(m, configuration(m.name, unreached))}
		// Each module and each set of rules has VMs of its own, as it would have in an Envoy of its own.
		v.listener.Wasm[0].VMID = fmt.Sprintf("bench-%d", i)
		if m.name == sentinel || m.name == sentinelTiny || m.name == sentinelGo {
			control := guarded(m, configuration(m.name, controlThreshold))
			control.Name += ", control"
			control.Wasm[0].VMID = v.listener.Wasm[0].VMID
			if isOurs(m.name) {
				control.Wasm[0].VMID += "-control"
			}
			v.control = &control
		}
		variants = append(variants, v)
		if isOurs(m.name) {
			name := rowOf(m, sentinelMany)
			many := variant{name: name, listener: guarded(module{name, m.file}, rulesFor(paths))}
			many.listener.Wasm[0].VMID = v.listener.Wasm[0].VMID + "-many"
			variants = append(append(variants, many), familyVariants(m)...)
		}
	}
	return variants
}

// families are rows for one rule of each kind, far from its threshold; for what it costs to tell failures, and to say on
// each answer what is left; and for a rule of every kind on one resource, with a breaker that must be told of failures and
// with one that need not.
var families = []struct{ name, configuration string }{
	{"sentinel, 1 rule: failures counted", rules(flow) + `, "failures": {}`},
	{"sentinel, 1 rule: rate limit headers", rules(flow) + `, "rate_limit_headers": "draft_03"`},
	{"sentinel, 1 rule: warm-up", rules(`"flowRules": [{"id": "w", "resource": "R", "threshold": 1e7, "tokenCalculateStrategy": "WarmUp", "warmUpPeriodSec": 10, "warmUpColdFactor": 3}]`)},
	{"sentinel, 1 rule: throttling", rules(`"flowRules": [{"id": "t", "resource": "R", "threshold": 1e9, "controlBehavior": "Throttling", "maxQueueingTimeMs": 100}]`)},
	{"sentinel, 1 rule: exact window", rules(`"flowRules": [{"id": "x", "resource": "R", "threshold": 1e9, "window": "exact"}]`)},
	{"sentinel, 1 rule: cost by a header", rules(`"flowRules": [{"id": "c", "resource": "R", "threshold": 1e9, "batchCount": {"from": "Header", "name": "x-cost", "max": 10}}]`)},
	{"sentinel, 1 rule: token bucket", rules(`"flowRules": [{"id": "b", "resource": "R", "threshold": 1e9, "burst": 1000000000}]`)},
	{"sentinel, 1 rule: isolation", rules(isolation)},
	{"sentinel, 1 rule: circuit breaker", rules(breaker)},
	{"sentinel, 1 rule: hotspot", rules(hotspot)},
	{"sentinel, 1 rule: system", rules(system)},
	{sentinelAll, rules(flow, isolation, breaker, hotspot, system)},
	{sentinelAll + ", breaker by slow requests", rules(flow, isolation, slow, hotspot, system)},
}

// One rule of each family, for a resource called R.
const (
	flow      = `"flowRules": [{"id": "f", "resource": "R", "threshold": 1e9}]`
	isolation = `"isolationRules": [{"id": "i", "resource": "R", "threshold": 1000000}]`
	breaker   = `"circuitBreakerRules": [{"id": "b", "resource": "R", "strategy": "ErrorRatio", "threshold": 0.5, "minRequestAmount": 10, "retryTimeoutMs": 1000, "statIntervalMs": 1000}]`
	slow      = `"circuitBreakerRules": [{"id": "b", "resource": "R", "strategy": "SlowRequestRatio", "maxAllowedRtMs": 1000, "threshold": 0.5, "minRequestAmount": 10, "retryTimeoutMs": 1000, "statIntervalMs": 1000}]`
	hotspot   = `"hotspotRules": [{"id": "h", "resource": "R", "metricType": "QPS", "paramSource": "Host", "threshold": 100000000, "durationInSec": 1}]`
	system    = `"systemRules": [{"id": "s", "metricType": "InboundQPS", "triggerCount": 1e9}]`
)

// rules gives the members of a configuration that has them all.
func rules(members ...string) string { return strings.Join(members, ", ") }

// isOurs is whether a module is a build of the Sentinel filter: one of those that are measured, or another given by -wasm.
func isOurs(name string) bool { return strings.HasPrefix(name, "sentinel,") }

// rowOf is the name of a row of a build of ours, by the row's for the first: "sentinel, before" gives "sentinel, before, 1
// rule: isolation".
func rowOf(m module, row string) string {
	return strings.TrimSuffix(m.name, ", 1 rule") + strings.TrimPrefix(row, "sentinel")
}

// familyVariants are the listeners of families for a build of ours, all in one VM, each with a resource of its own.
func familyVariants(m module) []variant {
	variants := make([]variant, 0, len(families))
	for i, f := range families {
		name := rowOf(m, f.name)
		configuration := strings.ReplaceAll(f.configuration, `"R"`, fmt.Sprintf(`"bench, %d"`, i))
		l := guarded(module{name, m.file}, fmt.Sprintf(`{"resource_name": "bench, %d", %s}`, i, configuration))
		l.Wasm[0].VMID = "bench-families, " + m.name
		variants = append(variants, variant{name: name, listener: l})
	}
	return variants
}

// startVariants are the filters whose start and memory are measured, each alone in an Envoy.
func startVariants(modules []module) []variant {
	variants := []variant{{name: unfiltered, listener: answering(unfiltered)}}
	for _, m := range modules {
		if m.name != emptyRefusing {
			variants = append(variants, variant{name: m.name, listener: guarded(m, configuration(m.name, unreached))})
		}
	}
	return variants
}

// answering is a listener that answers each request with an empty 200 by itself, so that nothing but its filter makes
// it differ from another one.
func answering(name string) envoytest.HTTP {
	return envoytest.HTTP{
		Name:         name,
		Routes:       []envoytest.Route{{DirectStatus: 200}},
		ExactBalance: true,
	}
}

// guarded is answering behind a Wasm filter.
func guarded(m module, configuration string) envoytest.HTTP {
	l := answering(m.name)
	l.Wasm = []envoytest.Wasm{{
		File: m.file, RootID: "sentinel_http", Config: configuration,
		ConfigAsString: m.name == sentinelGo, // which reads JSON only; Envoy gives a Struct in protobuf's encoding
	}}
	return l
}

// configuration is the plugin configuration of a module: one rule of threshold requests per second where it takes any.
func configuration(name string, threshold float64) string {
	switch {
	case isOurs(name):
		return encode(map[string]any{
			"resource_name": "bench",
			"flowRules":     []any{flowRule("r", "bench", threshold)},
		})
	case name == sentinelGo:
		return encode(map[string]any{"threshold": threshold})
	}
	return ""
}

// rulesFor guards each of the first n request paths by a rule of its own that is never reached.
func rulesFor(n int) string { return rulesOf(n, unreached) }

// rulesOf is rulesFor with another threshold.
func rulesOf(n int, threshold float64) string {
	rules := make([]any, n)
	for i := range rules {
		rules[i] = flowRule(fmt.Sprintf("r%d", i), path(i), threshold)
	}
	return encode(map[string]any{"flowRules": rules})
}

func flowRule(id, resource string, threshold float64) map[string]any {
	return map[string]any{"id": id, "resource": resource, "threshold": threshold}
}

// encode gives the JSON of a value that certainly has one.
func encode(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// path is the i-th request path.
func path(i int) string { return fmt.Sprintf("/r/%d", i) }

// nativeFilter is Envoy's own limiter with a bucket of n requests, filled as often as interval says.
func nativeFilter(n int, interval string) map[string]any {
	always := map[string]any{"default_value": map[string]any{"numerator": 100, "denominator": "HUNDRED"}}
	return map[string]any{
		"name": "envoy.filters.http.local_ratelimit",
		"typed_config": map[string]any{
			"@type":           "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
			"stat_prefix":     "bench",
			"token_bucket":    map[string]any{"max_tokens": n, "tokens_per_fill": n, "fill_interval": interval},
			"filter_enabled":  always,
			"filter_enforced": always,
		},
	}
}
