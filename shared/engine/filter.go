package engine

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/rule"
	"sentinel-envoy/shared/stat"
)

// Filter decides for one filter of Envoy, by the rules of its own configuration and the VM's.
type Filter struct {
	family.Filter
	vm     *VM
	cfg    *config.Config
	source *config.SystemSource
	// rules are as many as were configured, checkers those rules as each resource has them.
	rules     int
	checkers  []family.Checker
	resources map[string]*guarded
	// last is the resource that was entered last: mostly it is the next one, too.
	last     *guarded
	hash     uint64
	draining bool
	streams  int
	// Unnamed are the connections that had no server name where the filter looked for one.
	Unnamed metrics.Counter
	// warnings are those of its configuration and of the VM's, until they are written to the log.
	warnings []string
}

// guarded is what a filter knows of a resource: its rules, in the order in which they are asked, and its counts.
type guarded struct {
	name  string
	node  *stat.Node
	rules []family.Checker
	// observers count what becomes of its entries, for rules that look at more than their own.
	observers []family.Observer
	// interest is what is looked at of how its entries end, own without the observers'.
	interest, own family.Interest
}

// NewFilter returns a filter by its root_id, with its own configuration and the VM's, which may be nil. Where both have a
// rule with the same id, its own holds.
func (vm *VM) NewFilter(name string, own, shared *config.Config) *Filter {
	vm.env.Debug = vm.env.Host.Enabled(host.Debug) // not only with the first tick: an audit has every decision
	f := &Filter{
		Filter: family.Filter{Name: name, Mode: own.Mode, Stream: request.NewStream()}, vm: vm, cfg: own, source: own.SystemSource,
		resources: map[string]*guarded{}, hash: stat.HashOf(name) ^ own.RuleHash,
		Unnamed: metrics.Counter{Name: "sentinel_sni_absent"},
	}
	rules := own.Rules
	if shared != nil {
		f.hash += shared.RuleHash
		if f.source == nil {
			f.source = shared.SystemSource
		}
		rules = withShared(own.Rules, shared.Rules)
	}
	f.warn("configuration of root_id "+name, own)
	if shared != nil && !vm.warned {
		vm.warned = true
		f.warn("vm_config.configuration", shared)
	}
	f.bind(rules)
	vm.filters = append(vm.filters, f)
	vm.connect(f)
	vm.findSource()
	return f
}

// warn keeps the warnings of a configuration for the log.
func (f *Filter) warn(where string, cfg *config.Config) {
	for _, w := range cfg.Warnings {
		f.warnings = append(f.warnings, "sentinel: "+where+": "+w.String())
	}
}

// withShared are the rules of a filter and those of its VM, but for those whose ids the filter has given to its own.
func withShared(own, shared []rule.Rule) []rule.Rule {
	taken := map[string]bool{}
	for _, r := range own {
		taken[r.For().ID] = true
	}
	all := slices.Clone(own)
	for _, r := range shared {
		if !taken[r.For().ID] {
			all = append(all, r)
		}
	}
	return all
}

// bind gives the rules, in the order of their families, to the resources that they are for. The resources are those that
// the configuration can produce, whether or not a rule is for them: all are counted.
func (f *Filter) bind(rules []rule.Rule) {
	f.rules = len(rules)
	rules = slices.Clone(rules)
	slices.SortStableFunc(rules, func(a, b rule.Rule) int { return cmp.Compare(a.Family().Order, b.Family().Order) })
	f.declare(f.cfg.ResourceName)
	for _, r := range f.cfg.Resources {
		f.declare(r.Name)
	}
	for _, r := range rules {
		if to := r.For(); !to.Regex {
			f.declare(to.Resource)
		}
		if other, ok := r.(rule.Referrer); ok {
			f.declare(other.Refers())
		}
	}
	for _, r := range rules {
		f.attach(r)
	}
}

// declare makes the named resource, unless there is no name or it is there.
func (f *Filter) declare(name string) {
	if name == "" || f.resources[name] != nil {
		return
	}
	res := &guarded{name: name, node: f.vm.env.Nodes.Acquire(name)}
	if f.cfg.Failures.Configured {
		res.own = family.InFailures
	}
	f.resources[name] = res
	f.vm.resources.Add(res.node)
}

// attach gives a rule to the resources it is for: one, all that its expression matches, or simply all.
func (f *Filter) attach(r rule.Rule) {
	to := r.For()
	switch {
	case to.Regex:
		for name, res := range f.resources {
			if to.Pattern.MatchString(name) {
				f.guard(f.checker(r, name), res)
			}
		}
	case to.Resource != "":
		f.guard(f.checker(r, to.Resource), f.resources[to.Resource])
	default:
		c := f.checker(r, "")
		for _, res := range f.resources {
			f.guard(c, res)
		}
	}
}

func (f *Filter) checker(r rule.Rule, resource string) family.Checker {
	c := f.vm.byFamily[r.Family()].Bind(r, &f.Filter, resource)
	f.checkers = append(f.checkers, c)
	return c
}

func (f *Filter) guard(c family.Checker, res *guarded) {
	res.rules = append(res.rules, c)
	res.own = max(res.own, c.Of().Interest)
}

// connect gives the resources of a filter their observers, and those of all filters where some have changed.
func (vm *VM) connect(f *Filter) {
	filters := []*Filter{f}
	if vm.env.Observed() {
		filters = vm.filters
	}
	for _, f := range filters {
		for name, res := range f.resources {
			res.observers = nil // entries keep those that have seen them pass
			for _, k := range vm.kinds {
				res.observers = k.Observers(res.observers, name)
			}
			res.interest = res.own
			for _, o := range res.observers {
				res.interest = max(res.interest, o.Interest())
			}
		}
	}
}

// findSource makes the first system_source of the filters in force that of the VM.
func (vm *VM) findSource() {
	var source *config.SystemSource
	for _, f := range vm.filters {
		if f.source != nil && (source == nil || !f.draining) {
			source = f.source
			if !f.draining {
				break
			}
		}
	}
	vm.env.Machine.Configure(source)
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

// Fault counts a failure of the plugin's own.
func (f *Filter) Fault(what string, err error) { f.vm.Fault(what, err) }

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

// release exports what was counted, all at once, for it would be lost with the counters, and gives up everything.
func (f *Filter) release() {
	vm := f.vm
	vm.env.Metrics.Unbounded()
	vm.flush(vm.lastTick)
	for _, r := range f.checkers {
		r.Release(vm.lastTick)
	}
	for _, res := range f.resources {
		if vm.env.Nodes.Release(res.node) {
			vm.resources.Remove(res.node, vm.lastTick)
		}
	}
	f.resources, f.checkers, f.last = nil, nil, nil
	vm.filters = slices.DeleteFunc(vm.filters, func(other *Filter) bool { return other == f })
	if len(vm.filters) == 0 { // without filters it has no ticks, and must not seem to have died
		vm.env.Check("leaving", vm.env.Worker.Leave())
	}
	vm.connect(f)
	vm.findSource()
}

// AskSource returns where to ask for the figures of the machine, and when it is this filter's turn to do so at the time
// now. Whatever comes of it, Answered must be called; a source that has not answered for two intervals is asked again.
func (f *Filter) AskSource(now int64) (source *config.SystemSource, due bool) {
	if f.source == nil || !f.vm.leader.role.Mine || f.draining || !f.vm.env.Machine.Due(f.source, now) {
		return nil, false
	}
	return f.source, true
}

// Answered says what the source has answered, or what has failed.
func (f *Filter) Answered(answer []byte, failed error, now int64) {
	f.vm.env.Check("reading system_source", f.vm.env.Machine.Answered(f.source, answer, failed, now))
}

// describe says in a few words what the filter does.
func (f *Filter) describe() string {
	return f.Name + ": " + strconv.Itoa(f.rules) + " rule(s), mode " + f.cfg.Mode.String() +
		", failure mode " + f.cfg.FailureMode.String()
}
