package engine

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/ledger"
	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/rule"
	"sentinel-envoy/shared/stat"
)

// Filter decides for one filter of Envoy, by the rules of its own configuration and the VM's.
type Filter struct {
	vm        *VM
	name      string
	cfg       *config.Config
	source    *config.SystemSource
	rules     []checker
	resources map[string]*resource
	// last is the resource that was entered last: mostly it is the next one, too.
	last     *resource
	hash     uint64
	draining bool
	streams  int

	// Stream is what parameters are read from that rules are about: the stream that is being asked about.
	Stream *request.Stream
}

// resource is what a filter knows of a resource: its rules, in the order in which they are asked, and its counts.
type resource struct {
	name  string
	node  *stat.Node
	rules []checker
	// meters count what is let in, for rules that measure this resource instead of their own.
	meters []*ledger.Meter
	// failures is whether anything looks at whether an entry failed.
	failures bool
}

// add gives the resource a rule.
func (r *resource) add(c checker) {
	r.rules = append(r.rules, c)
	if b, ok := c.(*breakerRule); ok && b.Strategy != rule.SlowRequestRatio {
		r.failures = true
	}
}

// family is a kind of rules. Sentinel asks them in this order.
type family int

const (
	systemFamily family = iota
	flowFamily
	isolationFamily
	hotspotFamily
	breakerFamily
)

// bound is a rule on its way to its resources.
type bound struct {
	checker
	family   family
	resource string
	// pattern is set instead of resource for a rule of all resources whose whole name it matches; a system rule has
	// neither and is for all.
	pattern *regexp.Regexp
	// refers is another resource that the rule measures.
	refers string
}

// NewFilter returns a filter by its root_id, with its own configuration and the VM's, which may be nil. Where both have a
// rule with the same id, its own holds.
func (vm *VM) NewFilter(name string, own, shared *config.Config) *Filter {
	vm.setDebug(vm.host.Enabled(host.Debug)) // not only with the first tick: an audit has every decision
	f := &Filter{
		vm: vm, name: name, cfg: own, source: own.SystemSource, resources: map[string]*resource{}, Stream: request.NewStream(),
	}
	f.hash = stat.HashOf(name) ^ own.RuleHash
	all := f.bind(nil, own, map[string]bool{})
	if shared != nil {
		f.hash += shared.RuleHash
		if f.source == nil {
			f.source = shared.SystemSource
		}
		taken := map[string]bool{}
		for _, b := range all {
			taken[b.id()] = true
		}
		all = f.bind(all, shared, taken)
	}
	slices.SortStableFunc(all, func(a, b bound) int { return int(a.family - b.family) })
	f.declare(all)
	for _, b := range all {
		f.attach(b)
	}
	vm.filters = append(vm.filters, f)
	vm.connectMeters()
	vm.findSource()
	return f
}

// bind makes the rules of a configuration, but for those whose ids are taken.
func (f *Filter) bind(all []bound, cfg *config.Config, taken map[string]bool) []bound {
	for _, r := range rule.Of[rule.System](cfg.Rules) {
		if !taken[r.ID] {
			all = append(all, bound{checker: f.vm.newSystemRule(r, f.cfg.Mode), family: systemFamily})
		}
	}
	for _, r := range rule.Of[rule.Flow](cfg.Rules) {
		if !taken[r.ID] {
			b := bindTo(f.vm.newFlowRule(r, "", f.cfg.Mode), flowFamily, &r.Target)
			if r.RelationStrategy == rule.AssociatedResource {
				b.refers = r.RefResource
			}
			all = append(all, b)
		}
	}
	for _, r := range rule.Of[rule.Isolation](cfg.Rules) {
		if !taken[r.ID] {
			all = append(all, bindTo(f.vm.newIsolationRule(r, f.cfg.Mode), isolationFamily, &r.Target))
		}
	}
	for _, r := range rule.Of[rule.Hotspot](cfg.Rules) {
		if !taken[r.ID] {
			all = append(all, bindTo(f.newHotspotRule(r, ""), hotspotFamily, &r.Target))
		}
	}
	for _, r := range rule.Of[rule.CircuitBreaker](cfg.Rules) {
		if !taken[r.ID] {
			all = append(all, bindTo(f.vm.newBreakerRule(r, r.Resource, f.cfg.Mode), breakerFamily, &r.Target))
		}
	}
	return all
}

// bindTo binds a rule to a resource, or to all whose whole name an expression matches.
func bindTo(c checker, family family, to *rule.Target) bound {
	if to.Regex {
		return bound{checker: c, family: family, pattern: to.Pattern}
	}
	return bound{checker: c, family: family, resource: to.Resource}
}

// declare makes the resources that the configuration can produce, whether or not a rule is for them: all are counted.
func (f *Filter) declare(all []bound) {
	f.resource(f.cfg.ResourceName)
	for _, r := range f.cfg.Resources {
		f.resource(r.Name)
	}
	for _, b := range all {
		f.resource(b.resource)
		f.resource(b.refers)
	}
}

// attach gives a rule to the resources it is for.
func (f *Filter) attach(b bound) {
	f.rules = append(f.rules, b.checker)
	if res := f.resources[b.resource]; res != nil {
		res.add(b.checker)
		return
	}
	for name, res := range f.resources {
		if b.family != systemFamily && !b.pattern.MatchString(name) {
			continue
		}
		c := b.checker
		if p, ok := c.(perResource); ok {
			c = p.forResource(name)
			f.rules = append(f.rules, c)
		}
		res.add(c)
	}
}

// perResource is a rule that keeps the resources apart that its expression matches.
type perResource interface{ forResource(name string) checker }

// resource makes the named resource, unless there is no name or it is there.
func (f *Filter) resource(name string) {
	if name == "" || f.resources[name] != nil {
		return
	}
	res := &resource{name: name, node: f.vm.nodes.Acquire(name), failures: f.cfg.Failures.Configured}
	f.resources[name] = res
	f.vm.metrics.know(res.node)
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
	f.vm.findSource()
	f.retire()
}

// retire gives up what the filter holds, once it is draining and its last stream is gone.
func (f *Filter) retire() {
	if f.draining && f.streams == 0 && f.resources != nil {
		f.release()
	}
}

// release tells what was counted, all at once, for it would be lost with the counters, and gives up everything.
func (f *Filter) release() {
	f.vm.metrics.room = math.MaxInt
	f.vm.flush(f.vm.lastTick)
	for _, r := range f.rules {
		r.release()
	}
	for _, res := range f.resources {
		if f.vm.nodes.Release(res.node) {
			f.vm.forget(res.node)
		}
	}
	f.resources, f.rules, f.last = nil, nil, nil
	f.vm.filters = slices.DeleteFunc(f.vm.filters, func(other *Filter) bool { return other == f })
	if len(f.vm.filters) == 0 {
		f.vm.leave()
	}
	f.vm.findSource()
}

// leave gives up the VM's place among the workers: without filters it has no ticks, and must not seem to have died.
func (vm *VM) leave() {
	if err := vm.member.Leave(); err != nil {
		vm.Fault("leaving", err)
	}
}

// describe says in a few words what the filter does.
func (f *Filter) describe() string {
	return f.name + ": " + strconv.Itoa(len(f.rules)) + " rule(s), mode " + f.cfg.Mode.String() +
		", failure mode " + f.cfg.FailureMode.String()
}
