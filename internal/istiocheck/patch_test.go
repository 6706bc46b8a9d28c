package istiocheck

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
)

const (
	managerFilter = "envoy.filters.network.http_connection_manager"
	tcpProxy      = "envoy.filters.network.tcp_proxy"
	routerFilter  = "envoy.filters.http.router"
)

type patch = networking.EnvoyFilter_EnvoyConfigObjectPatch

// apply patches the listeners of a bootstrap in place, as istiod does for a proxy of the given context. It knows the
// operations and matches that envoy/istio uses; anything else is an error, so that a new one cannot pass unchecked.
func apply(bootstrap document, context networking.EnvoyFilter_PatchContext, patches []*patch) error {
	for i, p := range patches {
		if err := supported(p); err != nil {
			return fmt.Errorf("configPatches[%d]: %w", i, err)
		}
		if c := p.GetMatch().GetContext(); c != context && c != networking.EnvoyFilter_ANY {
			continue
		}
		for _, listener := range list(bootstrap, "static_resources", "listeners") {
			for _, chain := range list(listener, "filter_chains") {
				patchChain(chain.(document), p)
			}
		}
	}
	return nil
}

func supported(p *patch) error {
	switch p.GetApplyTo() {
	case networking.EnvoyFilter_NETWORK_FILTER, networking.EnvoyFilter_HTTP_FILTER:
	default:
		return fmt.Errorf("applyTo %v is not supported", p.GetApplyTo())
	}
	switch p.GetPatch().GetOperation() {
	case networking.EnvoyFilter_Patch_INSERT_BEFORE, networking.EnvoyFilter_Patch_INSERT_FIRST:
	default:
		return fmt.Errorf("operation %v is not supported", p.GetPatch().GetOperation())
	}
	// A match rebuilt from what apply reads equals the match itself, or there is more in it.
	filter := matchedFilter(p)
	known := &networking.EnvoyFilter_EnvoyConfigObjectMatch{
		Context: p.GetMatch().GetContext(),
		ObjectTypes: &networking.EnvoyFilter_EnvoyConfigObjectMatch_Listener{Listener: &networking.EnvoyFilter_ListenerMatch{
			FilterChain: &networking.EnvoyFilter_ListenerMatch_FilterChainMatch{Filter: filter},
		}},
	}
	if filter == nil || !proto.Equal(known, p.GetMatch()) {
		return fmt.Errorf("match %v is not supported", p.GetMatch())
	}
	return nil
}

func matchedFilter(p *patch) *networking.EnvoyFilter_ListenerMatch_FilterMatch {
	return p.GetMatch().GetListener().GetFilterChain().GetFilter()
}

func patchChain(chain document, p *patch) {
	filters, want := list(chain, "filters"), matchedFilter(p)
	if p.GetApplyTo() == networking.EnvoyFilter_NETWORK_FILTER {
		chain["filters"] = insert(filters, p.GetPatch(), want.GetName())
		return
	}
	for _, filter := range filters {
		if manager, ok := dig(filter, "typed_config").(document); ok && text(filter, "name") == want.GetName() {
			manager["http_filters"] = insert(list(manager, "http_filters"), p.GetPatch(), want.GetSubFilter().GetName())
		}
	}
}

// insert places the patch's filter. INSERT_BEFORE without a named filter means at the front; with one that is not there
// it does nothing.
func insert(filters []any, p *networking.EnvoyFilter_Patch, name string) []any {
	at := 0
	if p.GetOperation() == networking.EnvoyFilter_Patch_INSERT_BEFORE && name != "" {
		at = slices.IndexFunc(filters, func(f any) bool { return text(f, "name") == name })
	}
	if at < 0 {
		return filters
	}
	return slices.Insert(filters, at, any(p.GetValue().AsMap()))
}

// proxies are the two kinds of proxy that envoy/istio configures.
var proxies = []struct {
	name    string // of the file in envoy/istio, and of the one in testdata
	context networking.EnvoyFilter_PatchContext
}{
	{"sidecar.yaml", networking.EnvoyFilter_SIDECAR_INBOUND},
	{"gateway.yaml", networking.EnvoyFilter_GATEWAY},
}

// patched returns the bootstrap in testdata with an EnvoyFilter's patches in it.
func patched(t *testing.T, name string, context networking.EnvoyFilter_PatchContext) document {
	t.Helper()
	bootstrap := read(t, "testdata/"+name)
	filter := readEnvoyFilter(t, name)
	if err := apply(bootstrap, context, filter.Spec.ConfigPatches); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return bootstrap
}

func TestEveryFilterChainIsGuardedOnce(t *testing.T) {
	for _, proxy := range proxies {
		before, after := read(t, "testdata/"+proxy.name), patched(t, proxy.name, proxy.context)
		listeners := list(before, "static_resources", "listeners")
		for i, listener := range listeners {
			for j, chain := range list(listener, "filter_chains") {
				was := flatNames(chain)
				got := flatNames(dig(after, "static_resources", "listeners", i, "filter_chains", j))
				// Both kinds of chain end in the filter that ours must precede.
				last := len(was) - 1
				want := slices.Insert(slices.Clone(was), last, map[string]string{
					tcpProxy:     "envoy.filters.network.wasm",
					routerFilter: "envoy.filters.http.wasm",
				}[was[last]])
				if !slices.Equal(got, want) {
					t.Errorf("%s: listener %d, chain %d: filters are %v, want %v", proxy.name, i, j, got, want)
				}
			}
		}
		if len(listeners) == 0 {
			t.Errorf("testdata/%s has no listeners", proxy.name)
		}
	}
}

// flatNames lists the filters of a chain in the order in which they run, those of a connection manager after it.
func flatNames(chain any) []string {
	var names []string
	for _, filter := range list(chain, "filters") {
		names = append(names, text(filter, "name"))
		for _, inner := range list(filter, "typed_config", "http_filters") {
			names = append(names, text(inner, "name"))
		}
	}
	return names
}

func TestPatchesOfAnotherContextDoNothing(t *testing.T) {
	got := patched(t, "sidecar.yaml", networking.EnvoyFilter_SIDECAR_OUTBOUND)
	if n := len(placements(got)); n != 0 {
		t.Errorf("%d filters were inserted into an outbound listener, want 0", n)
	}
}

func TestWhatApplyDoesNotKnowIsAnError(t *testing.T) {
	for name, spoil := range map[string]func(*patch){
		"applyTo":   func(p *patch) { p.ApplyTo = networking.EnvoyFilter_CLUSTER },
		"operation": func(p *patch) { p.Patch.Operation = networking.EnvoyFilter_Patch_MERGE },
		"port":      func(p *patch) { p.Match.GetListener().PortNumber = 8080 },
		"no filter": func(p *patch) { p.Match.GetListener().FilterChain = nil },
	} {
		filter := readEnvoyFilter(t, "sidecar.yaml")
		spoil(filter.Spec.ConfigPatches[0])
		if err := apply(read(t, "testdata/sidecar.yaml"), networking.EnvoyFilter_SIDECAR_INBOUND, filter.Spec.ConfigPatches); err == nil {
			t.Errorf("%s: apply gave no error", name)
		}
	}
}
