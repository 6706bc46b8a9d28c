package engine

import (
	"slices"
	"sort"
	"strconv"

	"sentinel-envoy/shared/answer"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/lookup"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/rule"
	"sentinel-envoy/shared/stat"
)

// Filter decides for one filter of Envoy, by the rules of its own configuration and the VM's.
type Filter struct {
	family.Filter
	vm *VM
	// cfg is its own configuration without the rules, while it is parked also without the resources; shared is the VM's.
	cfg, shared *config.Config
	// rules are as many as were configured. annotates is whether one of them lets in what it would refuse, and tells.
	rules     int
	annotates bool
	// resources are by the number of their name in names, nil while the filter is parked; see Park for those it is counting in
	// then.
	resources []*guarded
	names     lookup.Table
	counting  []*guarded
	// last is the resource that was entered last: mostly it is the next one, too.
	last           *guarded
	hash           uint64
	live           live
	draining, gone bool
	streams        int
	// Unnamed are the connections that had no server name where the filter looked for one.
	Unnamed metrics.Counter
	// exempt are what was taken out of all limits, by the names of the entries that are unlimited; nil where none has come.
	exempt map[string]*metrics.Counter
	// called is its name in Envoy's configuration.
	called string
	// warnings are those of its configuration, ofVM those of the VM's, until they are written to the log.
	warnings, ofVM []config.Warning
}

// guarded is what a filter knows of a resource: its rules, in the order in which they are asked, and its counts.
type guarded struct {
	name  string
	node  *stat.Node
	rules []*sharedChecker
	// stream is what its rules read their parameters from.
	stream *request.Stream
	// entries are those in it. left is whether its filter has let it go, disposed whether it has given up what it holds.
	entries        int
	left, disposed bool
	// block is what the filter's configuration says of the answer to what is refused, nil where nothing.
	block *answer.Block
	// refers is whether one of its rules counts the entries of another resource.
	refers bool
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
		Filter: family.Filter{Name: name, Mode: own.Mode, Stream: vm.streamOf(name)}, vm: vm, shared: shared,
		Unnamed: metrics.Counter{Name: "sentinel_sni_absent"},
	}
	f.warnings = own.Warnings
	if shared != nil && !vm.warned {
		vm.warned = true
		f.ofVM = shared.Warnings
	}
	vm.filters = append(vm.filters, f)
	f.apply(own)
	return f
}

// apply makes the filter decide by its own configuration and the VM's.
func (f *Filter) apply(own *config.Config) {
	source, rules := own.SystemSource, own.Rules
	f.hash = stat.HashOf(f.Name+" "+own.Mode.String()+" "+own.FailureMode.String()) ^ own.RuleHash
	if own.Traffic == config.Outbound {
		f.hash ^= stat.HashOf("outbound")
	}
	if f.shared != nil {
		f.hash += f.shared.RuleHash
		if source == nil {
			source = f.shared.SystemSource
		}
		rules = withShared(own.Rules, f.shared.Rules)
	}
	f.Machine = f.vm.env.Machines.Acquire(source)
	f.cfg = own
	f.bind(rules)
	f.cfg = withoutRules(own)
	f.disposeAll(f.counting)
	f.counting = nil
	f.follows(own.Sources)
	f.vm.connect(f)
}

// Change makes the filter decide by another configuration from now on. What is the same in both keeps what it holds, and
// entries that have come keep the rules that they have met.
func (f *Filter) Change(own *config.Config) {
	vm, before, machine := f.vm, f.resources, f.Machine
	vm.exportAll()
	f.Stream = vm.streamOf(f.Name)
	f.last = nil
	f.apply(own)
	for _, res := range before {
		res.left = true
		vm.dispose(res)
	}
	vm.releaseMachine(machine)
	vm.connect(f)
}

// withoutRules is a configuration without its rules, which the checkers have.
func withoutRules(c *config.Config) *config.Config {
	rest := *c
	rest.Rules, rest.Warnings = nil, nil
	return &rest
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
	f.rules, f.resources, f.names, f.annotates = len(rules), []*guarded{}, lookup.Table{}, false
	rules = slices.Clone(rules)
	sort.SliceStable(rules, func(i, j int) bool { return rules[i].Family().Order < rules[j].Family().Order })
	f.declare(f.cfg.ResourceName)
	f.exempt = nil
	for i := range f.cfg.Resources {
		if r := &f.cfg.Resources[i]; !r.Unlimited {
			if f.declare(r.Name); r.Block != nil {
				f.guardedBy(r.Name).block = r.Block
			}
		}
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
	if name == "" || f.guardedBy(name) != nil {
		return
	}
	node := f.vm.env.Nodes.Acquire(name)
	res := &guarded{name: node.Name, node: node, stream: f.Stream} // a name that others have, too
	if f.cfg.Failures.Configured {
		res.own = family.InFailures
	}
	f.names.Add(res.name)
	f.resources = append(f.resources, res)
	f.vm.resources.Add(res.node)
}

// attach gives a rule to the resources it is for: one, all that its expression matches, or simply all.
func (f *Filter) attach(r rule.Rule) {
	to := r.For()
	switch {
	case to.Regex:
		for _, res := range f.resources {
			if to.Pattern.MatchString(res.name) {
				f.guard(r, res.name, res)
			}
		}
	case to.Resource != "":
		f.guard(r, to.Resource, f.guardedBy(to.Resource))
	case f.cfg.Traffic == config.Inbound:
		for _, res := range f.resources {
			f.guard(r, "", res)
		}
	}
}

// guard lets a rule decide about the entries of a resource; on is the resource, "" for all of the filter's.
// Its candidates are asked before it, and so also about what it refuses.
func (f *Filter) guard(r rule.Rule, on string, res *guarded) {
	for _, candidate := range rule.Candidates(r) {
		res.rules = append(res.rules, f.vm.acquire(candidate, f, on))
	}
	c := f.vm.acquire(r, f, on)
	f.annotates = f.annotates || c.Of().Annotates
	res.rules = append(res.rules, c)
	res.own = max(res.own, c.Of().Interest)
	other, ok := r.(rule.Referrer)
	res.refers = res.refers || ok && other.Refers() != ""
}

// connect gives the resources of a filter their observers, and those of all filters where some have changed.
func (vm *VM) connect(f *Filter) {
	filters := []*Filter{f}
	if vm.env.Observed() {
		filters = vm.filters
	}
	for _, f := range filters {
		for _, res := range f.resources {
			res.observers = nil // entries keep those that have seen them pass
			for _, k := range vm.kinds {
				if f.cfg.Traffic == config.Inbound || k != vm.byFamily[rule.SystemFamily] {
					res.observers = k.Observers(res.observers, res.name)
				}
			}
			res.interest = res.own
			for _, o := range res.observers {
				res.interest = max(res.interest, o.Interest())
			}
		}
	}
}

// guardedBy is the resource of a name, nil where nothing is known of it.
func (f *Filter) guardedBy(name string) *guarded {
	if n := f.names.Find(name); n != lookup.None {
		return f.resources[n]
	}
	return nil
}

// Resources are the names of the resources that the filter knows.
func (f *Filter) Resources() []string {
	names := make([]string, len(f.resources))
	for i, res := range f.resources {
		names[i] = res.name
	}
	return names
}

// Exempt counts a request or connection that an entry has taken out of all limits.
func (f *Filter) Exempt(name string) {
	c := f.exempt[name]
	if c == nil {
		if f.exempt == nil {
			f.exempt = map[string]*metrics.Counter{}
		}
		c = &metrics.Counter{Name: "sentinel_exempt" + metrics.Resource(name)}
		f.exempt[name] = c
	}
	c.N++
	if f.vm.env.Debug {
		f.trace(name, "is unlimited: no rule is asked")
	}
}

// Quotes is whether clients are told what is left of budgets.
func (f *Filter) Quotes() bool {
	return f.cfg.RateLimitHeaders != config.NoHeaders && f.cfg.Mode == config.Enforce
}

// Annotates is whether a rule of the filter lets in what it would refuse, and tells the upstream.
func (f *Filter) Annotates() bool { return f.annotates }

// Config is the filter's own configuration.
func (f *Filter) Config() *config.Config { return f.cfg }

// Fault counts a failure of the plugin's own.
func (f *Filter) Fault(what string, err error) { f.vm.Fault(what, err) }

// AskSource returns where to ask for the figures of the machine, and when it is this filter's turn to do so at the time now.
// Answered is then to be called; a source that has not answered is asked again after an interval, by whoever comes first.
func (f *Filter) AskSource(now int64) (source *config.SystemSource, due bool) {
	if f.draining {
		return nil, false
	}
	due, err := f.Machine.Due(now)
	f.vm.env.Check("asking whose turn it is to ask system_source", err)
	if !due {
		return nil, false
	}
	return f.Machine.Config(), true
}

// Answered says what the source has answered, or what has failed.
func (f *Filter) Answered(answer []byte, failed error, now int64) {
	if f.Machine != nil { // not parked meanwhile
		f.vm.env.Check("reading system_source", f.Machine.Answered(answer, failed, now))
	}
}

// describe says in a few words what the filter does.
func (f *Filter) describe() string {
	return f.title() + ": " + strconv.Itoa(f.rules) + " rule(s), mode " + f.cfg.Mode.String() +
		", failure mode " + f.cfg.FailureMode.String()
}
