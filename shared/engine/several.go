package engine

import (
	"slices"

	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/outcome"
)

// several are the resources of an entry that enters more than one, in the order in which their rules are asked.
type several struct {
	all []*guarded
	// next is the first of them that was not asked yet.
	next int
	// observers are those of all, each once.
	observers []family.Observer
}

// EnterAll is Enter for what enters several resources, that of the name last: all must let it in, and what those before have
// given is given back where one does not. Rules that are for all resources are asked once. No name may be given twice.
func (f *Filter) EnterAll(names []string, last string, now int64, e *Entry) *Block {
	e.reset()
	if e.spare == nil {
		e.spare = &several{}
	}
	s := e.spare
	s.all, s.next, s.observers = s.all[:0], 1, s.observers[:0]
	for _, name := range names {
		s.add(f.guardedBy(name))
	}
	if s.add(f.guardedBy(last)); len(s.all) == 0 {
		return nil
	}
	e.resource, e.several = s.all[0], s
	return e.enter(f, now)
}

// add adds a resource, unless nothing is known of it.
func (s *several) add(res *guarded) {
	if res != nil {
		s.all = append(s.all, res)
	}
}

// follows is whether there are resources that were not asked yet.
func (s *several) follows() bool { return s != nil && s.next < len(s.all) }

// wasAsked is whether a rule was asked already, for a resource before this one: it is for all.
func (s *several) wasAsked(r *sharedChecker) bool {
	return s != nil && s.next > 1 && r.key.resource == ""
}

// follow goes on to the next resource that has rules, and reports whether there is one.
func (e *Entry) follow() bool {
	for s := e.several; s.follows(); {
		e.resource = s.all[s.next]
		s.next++
		if e.next, e.nth = 0, 0; len(e.resource.rules) > 0 {
			return true
		}
	}
	return false
}

// count counts so many more entries in all resources.
func (s *several) count(n int) {
	for _, res := range s.all {
		res.entries += n
	}
}

// pass counts an entry as passed in all resources, and collects those who observe them, and now see it pass. It returns what
// is looked at of how the entry ends.
func (s *several) pass(now int64) (most family.Interest) {
	for _, res := range s.all {
		res.node.Pass(now)
		most = max(most, res.interest)
		for _, o := range res.observers {
			if !slices.Contains(s.observers, o) {
				s.observers = append(s.observers, o)
			}
		}
	}
	return most
}

// complete counts the entry's end in all resources.
func (s *several) complete(now int64, end outcome.End) {
	for _, res := range s.all {
		res.node.Complete(now, end)
	}
}

// gone gives up what the resources held that their filter has let go.
func (s *several) gone(vm *VM) {
	for _, res := range s.all {
		res.gone(vm)
	}
}
