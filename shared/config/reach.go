package config

import (
	"slices"
	"strconv"
	"strings"

	"sentinel-envoy/shared/pattern"
	"sentinel-envoy/shared/rule"
)

// target is what a rule is for, with the place where the rule says so.
type target struct {
	at      *place
	of      *rule.Target
	pattern *pattern.Path // of a resource that is a path pattern
	problem error         // of one that is none but looks like one
}

func (t *target) isPath() bool { return !t.of.Regex && t.of.Resource[0] == '/' }

// label names the rule in a warning.
func (t *target) label() string { return label(t.of) }

func label(of *rule.Target) string {
	if of.ID == "" {
		return "the rule"
	}
	return "rule " + quote(of.ID)
}

const remedy = "name it in resource_name or in an entry of resources"

// maxComparisons bounds what looking for rules that never act costs: beyond it nothing more is found.
const maxComparisons = 50_000

// reach finds rules that can never act, and warns of those that do not what they seem to.
type reach struct {
	*rules
	entries map[string][]*Resource // by name
	names   []string               // that a resource here may have
	// paths are the rules' paths and path patterns, each under the name that was first given to it.
	paths    map[string]string
	patterns pattern.Paths
	// exact are the first entries of resources that look at nothing but the path, and take one; wide those that take more.
	exact map[string]int
	wide  []int
	// left is how many comparisons may still be made.
	left int
}

// checkReach looks at the resources of all rules. The VM's rules are for filters it does not know.
func (all *rules) checkReach() {
	r := &reach{
		rules: all, entries: map[string][]*Resource{},
		paths: map[string]string{}, exact: map[string]int{}, left: maxComparisons,
	}
	r.checkEntries()
	r.nameResources()
	for i := range r.targets {
		t := &r.targets[i]
		switch {
		case t.of.Regex:
			r.checkExpression(t)
		case t.of.Resource == r.cfg.ResourceName:
		case r.cfg.ResourceFrom != FromNothing && !t.isPath(): // may be the name of something in Envoy
			r.checkUnlimited(t)
		case r.entries[t.of.Resource] != nil:
			r.checkNamedLikePath(t)
		case t.isPath() && r.kind != KindTCP:
			r.checkPath(t)
		case r.kind != KindVM:
			r.checkName(t)
		}
	}
	r.checkRelations()
}

// checkEntries warns of entries behind one that takes everything of theirs, in the order in which they are asked.
func (r *reach) checkEntries() {
	for i := range r.cfg.Resources {
		if r.cfg.Resources[i].Unlimited {
			r.checkEntry(i)
		}
	}
	for i := range r.cfg.Resources {
		if e := &r.cfg.Resources[i]; !e.Unlimited {
			r.checkEntry(i)
			r.entries[e.Name] = append(r.entries[e.Name], e)
			r.names = append(r.names, e.Name)
		}
	}
}

func (r *reach) checkEntry(i int) {
	e := &r.cfg.Resources[i]
	if e.Path.Op != Any {
		if first := r.takesFirst(&e.Path); first >= 0 {
			r.warn(r.place("resources", i), quote(e.Name), " is never taken for this entry: ", r.describe(first),
				" takes its paths first; put this one before it")
		}
	}
	if !e.hasOnlyPath() || e.Continue {
		return
	}
	if _, ok := r.exact[e.Path.Value]; !e.Path.IsExact() {
		r.wide = append(r.wide, i)
	} else if !ok {
		r.exact[e.Path.Value] = i
	}
}

// nameResources adds the names that rules give to resources.
func (r *reach) nameResources() {
	if r.cfg.ResourceName != "" {
		r.names = append(r.names, r.cfg.ResourceName)
	}
	for i := range r.targets {
		if of := r.targets[i].of; !of.Regex {
			r.names = append(r.names, of.Resource)
		}
	}
	for _, one := range r.beside {
		if of := one.For(); !of.Regex && of.Resource != "" {
			r.names = append(r.names, of.Resource)
			r.know(of)
		}
	}
	for _, f := range rule.Of[rule.Flow](r.cfg.Rules) {
		if f.RefResource != "" {
			r.names = append(r.names, f.RefResource)
		}
	}
}

// checkRelations warns of rules that measure a resource that no rule and no entry here names.
func (r *reach) checkRelations() {
	if r.kind == KindVM {
		return
	}
	eachOf(r.rules, func(at *place, f *rule.Flow) {
		isPath := r.kind == KindHTTP && strings.HasPrefix(f.RefResource, "/")
		known := isPath || r.cfg.ResourceFrom != FromNothing || f.RefResource == r.cfg.ResourceName || r.entries[f.RefResource] != nil
		if f.RelationStrategy == rule.AssociatedResource && !known {
			r.warn(at.at("refResource"), label(&f.Target), " acts only on what another filter takes for ",
				quote(f.RefResource), ": nothing here is that resource")
		}
	})
}

func (r *reach) place(key string, i int) *place { return (&place{index: -1}).at(key).item(i) }

func (r *reach) describe(entry int) string {
	return "resources[" + strconv.Itoa(entry) + "] (" + quote(r.cfg.Resources[entry].Name) + ")"
}

// unreachable says that the target is nothing here: a mistake, but in a document, which other filters may have too, a warning.
func (r *reach) unreachable(t *target, reason ...string) {
	if r.beside == nil {
		r.add(t.at, reason...)
		return
	}
	r.warn(t.at, append([]string{t.label(), " is never asked here: "}, reason...)...)
}

// checkName says that there is no such resource.
func (r *reach) checkName(t *target) {
	nothing := "nothing here is the resource " + quote(t.of.Resource) + ": "
	switch {
	case r.checkUnlimited(t):
	case t.isPath():
		r.unreachable(t, nothing, "a connection has no path; ", remedy)
	case r.kind == KindHTTP:
		r.unreachable(t, nothing, remedy, ", or use a path (\"/…\")")
	default:
		r.unreachable(t, nothing, remedy)
	}
}

// checkUnlimited finds a rule for what an unlimited entry takes.
func (r *reach) checkUnlimited(t *target) (found bool) {
	found = slices.ContainsFunc(r.cfg.Resources, func(e Resource) bool { return e.Unlimited && e.Name == t.of.Resource })
	if found {
		r.unreachable(t, "what an unlimited entry takes is asked by no rule: give the entry another name, or leave the rule out")
	}
	return found
}

// checkExpression wants a resource that the expression matches: it is not for paths that nothing names.
func (r *reach) checkExpression(t *target) {
	if r.kind == KindVM || t.of.Pattern == nil {
		return
	}
	if r.left -= len(r.names); r.left < 0 || slices.ContainsFunc(r.names, t.of.Pattern.MatchString) {
		return
	}
	hint := remedy
	if r.kind == KindHTTP {
		hint = "an expression is for names of resources; for paths write an entry of resources with match.path.regex, " +
			"and its name in the rule, or a path pattern such as /api/** as resource"
	}
	r.unreachable(t, "matches no resource here: ", hint)
}

// checkPath looks at a path, or a path pattern, that is a resource itself.
func (r *reach) checkPath(t *target) {
	path := t.of.Resource
	switch {
	case strings.ContainsAny(path, "?#"):
		r.add(t.at, "nothing here is the resource ", quote(path), ": paths are taken without query and fragment")
		return
	case t.problem != nil:
		r.add(t.at, "not a path pattern such as /users/{id}, /files/*.png or /api/**: ", t.problem.Error())
		return
	case looksLikeExpression(path):
		r.warn(t.at, t.label(), " has a resource that looks like a regular expression, and is a path: for paths that begin with ",
			"/api/ write /api/**, for others an entry of resources with match.path.regex")
	}
	if first := r.same(t); first != path {
		r.add(t.at, "has the same paths as the resource ", quote(first), ": write it the same way")
		return
	}
	taken := Text{Op: Exact, Value: pattern.NormalPath(path)}
	if t.pattern != nil {
		taken = Text{Op: Template, Value: path}
	}
	if i := r.takesFirst(&taken); i >= 0 {
		r.warn(t.at, t.label(), " is never asked: ", r.describe(i), " takes ", quote(path),
			" first; put an entry for it before that one")
	}
}

// know makes the paths of a rule beside those that are read known.
func (r *reach) know(of *rule.Target) {
	if of.Resource[0] != '/' {
		return
	}
	t := target{of: of}
	if pattern.IsPattern(of.Resource) {
		t.pattern, _ = pattern.ParsePath(of.Resource)
	}
	r.same(&t)
}

// same is the name under which the target's paths are known.
func (r *reach) same(t *target) string {
	name := t.of.Resource
	if t.pattern != nil {
		if first := r.patterns.Add(t.pattern, name); first != "" {
			return first
		}
		return name
	}
	normal := pattern.NormalPath(name)
	if first := r.paths[normal]; first != "" {
		return first
	}
	r.paths[normal] = name
	return name
}

// looksLikeExpression is whether a path has what paths seldom have and expressions often.
func looksLikeExpression(path string) bool {
	for _, sign := range []string{".*", ".+", "[", "]", "(", ")", "|", "\\", "^", "$"} {
		if strings.Contains(path, sign) {
			return true
		}
	}
	return false
}

// takesFirst is the first of the entries so far that takes every request whose path meets a condition, -1 if none does.
func (r *reach) takesFirst(path *Text) int {
	first := -1
	if i, ok := r.exact[path.Value]; ok && path.IsExact() {
		first = i
	}
	for _, i := range r.wide {
		if r.left--; r.left < 0 || first >= 0 && r.isAfter(i, first) {
			break
		}
		if r.cfg.Resources[i].Path.covers(path) {
			return i
		}
	}
	return first
}

// isAfter is whether an entry is asked after another.
func (r *reach) isAfter(i, other int) bool {
	if a, b := r.cfg.Resources[i].Unlimited, r.cfg.Resources[other].Unlimited; a != b {
		return b
	}
	return i > other
}

// checkNamedLikePath warns of a rule for an entry that is named like a path and takes less than it.
func (r *reach) checkNamedLikePath(t *target) {
	if !t.isPath() || pattern.IsPattern(t.of.Resource) || r.kind != KindHTTP {
		return
	}
	path := Text{Op: Exact, Value: pattern.NormalPath(t.of.Resource)}
	for _, e := range r.entries[t.of.Resource] {
		if e.hasOnlyPath() && e.Path.covers(&path) {
			return
		}
	}
	r.warn(t.at, t.label(), " is for what the entry ", quote(t.of.Resource), " of resources matches, which is not all of that ",
		"path: the rest is another resource; give the entry another name to have a rule on the path, too")
}
