package engine

import (
	"strconv"
	"strings"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/rule"
	"sentinel-envoy/shared/stat"
)

// Filter decides for one filter of Envoy, by the rules of its own configuration and the VM's.
type Filter struct {
	vm        *VM
	name      string
	cfg       *config.Config
	rules     []checker
	resources map[string]*resource
	hash      uint64
	draining  bool
	streams   int
}

// resource is what a filter knows of a resource: its rules, in the order in which they are asked, and its counts.
type resource struct {
	name  string
	node  *stat.Node
	rules []checker
}

// NewFilter returns a filter by its root_id, with its own configuration and the VM's, which may be nil. Where both have a
// rule with the same id, its own holds.
func (vm *VM) NewFilter(name string, own, shared *config.Config) *Filter {
	f := &Filter{vm: vm, name: name, cfg: own, resources: map[string]*resource{}}
	f.hash = stat.HashOf(name) ^ own.RuleHash
	mine := map[string]bool{}
	for i := range own.Flow {
		mine[own.Flow[i].ID] = true
		f.add(&own.Flow[i])
	}
	if shared != nil {
		f.hash += shared.RuleHash
		for i := range shared.Flow {
			if r := &shared.Flow[i]; !mine[r.ID] {
				f.add(r)
			}
		}
	}
	vm.filters = append(vm.filters, f)
	return f
}

func (f *Filter) add(r *rule.Flow) {
	fr := f.vm.newFlowRule(r, f.cfg.Mode)
	res := f.resource(r.Resource)
	res.rules = append(res.rules, fr)
	f.rules = append(f.rules, fr)
}

// resource returns the named resource, which this filter's configuration must name.
func (f *Filter) resource(name string) *resource {
	res := f.resources[name]
	if res == nil {
		res = &resource{name: name, node: f.vm.nodes.Acquire(name)}
		f.resources[name] = res
		f.vm.metrics.know(res.node)
	}
	return res
}

// Name declares a resource that the configuration can produce without having a rule for it, so that it is counted.
func (f *Filter) Name(name string) {
	if name != "" {
		f.resource(name)
	}
}

// PathResources are the resources of rules that are paths.
func (f *Filter) PathResources() []string {
	var paths []string
	for name := range f.resources {
		if strings.HasPrefix(name, "/") {
			paths = append(paths, name)
		}
	}
	return paths
}

// Config is the filter's own configuration.
func (f *Filter) Config() *config.Config { return f.cfg }

// Drain says that the filter is being replaced or removed. It goes on deciding for the streams it has.
func (f *Filter) Drain() {
	f.draining = true
	f.retire()
}

// retire gives up what the filter holds, once it is draining and its last stream is gone.
func (f *Filter) retire() {
	if !f.draining || f.streams > 0 || f.resources == nil {
		return
	}
	f.vm.flush(f.vm.lastTick) // what was counted must not be lost with the counters
	for _, r := range f.rules {
		r.release()
	}
	for _, res := range f.resources {
		if f.vm.nodes.Release(res.node) {
			f.vm.metrics.forget(res.node)
		}
	}
	f.resources, f.rules = nil, nil
	for i, other := range f.vm.filters {
		if other == f {
			f.vm.filters = append(f.vm.filters[:i], f.vm.filters[i+1:]...)
			return
		}
	}
}

// describe says in a few words what the filter does.
func (f *Filter) describe() string {
	return f.name + ": " + strconv.Itoa(len(f.rules)) + " rules, mode " + f.cfg.Mode.String() +
		", failure mode " + f.cfg.FailureMode.String()
}
