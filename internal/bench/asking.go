package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"slices"
	"strconv"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/ratelimit"
)

const (
	// service is Envoy's own filter, which asks the service about each request.
	service = "envoyproxy/ratelimit with Redis"
	// clustered is a rule of ours that the same service counts.
	clustered = "sentinel, 1 rule in cluster mode"
	// forwarding has no filter, and forwards as those do that the service limits.
	forwarding = "no filter, forwarding"
	// upstream is the listener that these forward to: a request that Envoy answers by itself is never taken to the rate
	// limit service.
	upstream = "upstream"
)

// group are variants that are compared with each other: with the first, which has no filter, and with the yardstick.
type group struct {
	variants  []variant
	yardstick string
}

// asking are filters that a rate limit service limits, and what they need. All forward to one listener of the same Envoy.
type asking struct {
	group
	remote   *ratelimit.Service
	upstream envoytest.Listener
}

// startAsking starts the service, nil where no row of those is wanted, or where the service cannot be had.
func startAsking(ctx context.Context, dir string, modules []module, o options) (*asking, error) {
	variants := []variant{serviceVariant()}
	for _, m := range modules {
		if m.name == sentinel || m.name == sentinelTiny {
			variants = append(variants, clusterVariant(m))
		}
	}
	variants = slices.DeleteFunc(variants, func(v variant) bool { return v.name != service && !o.wants(v.name) })
	if o.refusals || o.only != nil && len(variants) == 1 && !o.wants(service) {
		return nil, nil
	}
	remote, err := ratelimit.Start(ctx, dir, rateLimitRules())
	if err != nil {
		log.Printf("no rows for %s: %v", service, err)
		return nil, nil
	}
	a := &asking{remote: remote}
	address, err := freeAddress()
	if err == nil {
		a.upstream, err = upstreamListener(address)
	}
	if err != nil {
		remote.Stop()
		return nil, err
	}
	a.yardstick = service
	for _, v := range append([]variant{{name: forwarding, listener: answering(forwarding)}}, variants...) {
		a.variants = append(a.variants, v.forwarding(address))
	}
	return a, nil
}

// upstreamListener answers on an address.
func upstreamListener(address string) (l envoytest.HTTP, err error) {
	l = answering(upstream)
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		l.Port, err = strconv.Atoi(port)
	}
	return l, err
}

// forwarding is the variant with listeners that forward to an address.
func (v variant) forwarding(address string) variant {
	v.listener.Routes, v.listener.Upstream = nil, address
	if v.control != nil {
		control := *v.control
		control.Routes, control.Upstream = nil, address
		v.control = &control
	}
	return v
}

// serviceVariant is Envoy's own filter.
func serviceVariant() variant {
	v := variant{name: service, listener: answering(service)}
	v.listener.Filters = []map[string]any{rateLimitFilter("unreached")}
	control := answering(service + ", control")
	control.Filters = []map[string]any{rateLimitFilter("control")}
	v.control = &control
	return v
}

// clusterVariant is a rule in cluster mode of a build of ours, in a VM of its own.
func clusterVariant(m module) variant {
	name := rowOf(m, clustered)
	limited := func(name, id string, threshold int) envoytest.HTTP {
		l := guarded(module{name, m.file}, fmt.Sprintf(`{"resource_name": "R", "rate_limit_service": {"cluster": %q, "domain": %q,
			"timeout_ms": 2000}, "flowRules": [{"id": %q, "resource": "R", "threshold": %d, "clusterMode": true}]}`,
			rateLimitCluster, rateLimitDomain, id, threshold))
		l.Wasm[0].VMID = name
		return l
	}
	control := limited(name+", control", controlOf(m.name), controlThreshold)
	return variant{name: name, listener: limited(name, "unreached", unreached), control: &control}
}
