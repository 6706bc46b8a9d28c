package main

import (
	"fmt"
	"strings"

	"sentinel-envoy/internal/envoytest"
)

// Names of what refuses all requests.
const (
	nativeRefusing   = native + ", refusing"
	emptyRefusing    = "empty Go filter that answers 429"
	sentinelRefusing = "sentinel, refusing: flow"
)

// refusals are rows for what a refusal costs: by its answer, and by the rule that refuses. Each rule lets in a request or
// two; those of isolation are refused because of the first, which is held. There is no row for a circuit breaker: none of these
// listeners has a service that could be slow or fail.
var refusals = []struct {
	name, configuration string
	delayMs             int
	call                bool
}{
	{name: sentinelRefusing, configuration: rules(rated)},
	{name: sentinelRefusing + ", fixed body", configuration: rules(rated) + `, "block": {"body": "later\n"}`},
	{name: sentinelRefusing + ", no filter state", configuration: rules(rated) + `, "block": {"filter_state": false}`},
	{name: sentinelRefusing + ", gRPC", configuration: rules(rated), call: true},
	{name: "sentinel, refusing: throttling", configuration: rules(`"flowRules": [{"id": "t", "resource": "R", "threshold": 1, "statIntervalInMs": 600000, "controlBehavior": "Throttling", "maxQueueingTimeMs": 0}]`)},
	{name: "sentinel, refusing: isolation", configuration: rules(`"isolationRules": [{"id": "i", "resource": "R", "threshold": 1}]`), delayMs: 3600_000},
	{name: "sentinel, refusing: hotspot", configuration: rules(`"hotspotRules": [{"id": "h", "resource": "R", "metricType": "QPS", "paramSource": "Host", "threshold": 1, "durationInSec": 600}]`)},
	{name: "sentinel, refusing: system", configuration: rules(`"systemRules": [{"id": "s", "metricType": "InboundQPS", "triggerCount": 0}]`)},
}

// rated lets in a request in ten minutes, of a resource called R.
const rated = `"flowRules": [{"id": "f", "resource": "R", "threshold": 1, "statIntervalInMs": 600000}]`

// variants are the listeners to measure.
func (o options) variants(modules []module) []variant {
	if o.refusals {
		return append([]variant{{name: unfiltered, listener: answering(unfiltered)}}, refusalVariants(modules)...)
	}
	return cpuVariants(modules)
}

// refusalVariants are the listeners of Envoy's own limiter and of the modules that refuse. Those of Sentinel have a VM for
// each: the rules of the system family are about all that a VM lets in.
func refusalVariants(modules []module) []variant {
	variants := []variant{{name: nativeRefusing, listener: answering(nativeRefusing), status: 429}}
	variants[0].listener.Filters = []map[string]any{nativeFilter(1, "600s")}
	for _, m := range modules {
		switch {
		case m.name == emptyRefusing:
			variants = append(variants, variant{name: m.name, listener: guarded(m, ""), status: 429})
		case isOurs(m.name):
			variants = append(variants, sentinelRefusals(m)...)
		}
	}
	return variants
}

func sentinelRefusals(m module) []variant {
	variants := make([]variant, 0, len(refusals))
	for i, r := range refusals {
		configuration := strings.ReplaceAll(r.configuration, `"R"`, `"bench"`)
		name := rowOf(m, r.name)
		v := variant{
			name: name, listener: guarded(module{name, m.file}, fmt.Sprintf(`{"resource_name": "bench", %s}`, configuration)),
			status: 429,
		}
		v.listener.Wasm[0].VMID = fmt.Sprintf("bench-refusals-%d, %s", i, m.name)
		if r.call {
			v.header, v.status = "content-type: application/grpc\r\n", 200
		}
		if r.delayMs > 0 {
			v.delayMs = r.delayMs
			v.listener.Filters = []map[string]any{delayFilter()}
		}
		variants = append(variants, v)
	}
	return variants
}

// delayFilter is Envoy's filter that holds a request for as long as the request says.
func delayFilter() map[string]any {
	return map[string]any{
		"name": "envoy.filters.http.fault",
		"typed_config": map[string]any{
			"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
			"delay": map[string]any{"header_delay": map[string]any{}, "percentage": map[string]any{"numerator": 100}},
		},
	}
}

// delayFirst sends the request that a variant's filter admits, where it has one, and does not wait for its answer: there may
// be none for as long as it is measured. The connection must stay open.
func (v variant) delayFirst(envoy *envoytest.Process) (held *client, err error) {
	if v.delayMs == 0 {
		return nil, nil
	}
	header := fmt.Sprintf("x-envoy-fault-delay-request: %d\r\n", v.delayMs)
	held, err = dial(envoy.Addr(v.name), 1, requestsFor(1, header))
	if err == nil {
		_, err = held.connections[0].Write(held.requests[0])
	}
	return held, err
}
