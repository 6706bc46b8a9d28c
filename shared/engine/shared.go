package engine

import (
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/machine"
	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/rule"
)

// sharedChecker is a checker that several filters have, or a filter for several resources: those whose rules are the same in
// everything that a checker is made of. So an update costs what it changes.
type sharedChecker struct {
	family.Checker
	key checkerKey
	// only is whose requests it is asked about, nil if all are.
	only *family.Origins
}

// checkerKey is what a checker is made of.
type checkerKey struct {
	rule     rule.Key
	resource string
	mode     config.Mode
	stream   *request.Stream
	machine  *machine.Source
}

// acquire returns the checker of a rule as a filter applies it to a resource, "" for all, until each who has it has called
// release.
func (vm *VM) acquire(r rule.Rule, f *Filter, resource string) *sharedChecker {
	key := checkerKey{rule: rule.KeyOf(r), resource: resource, mode: f.Mode, stream: f.Stream, machine: f.Machine}
	return vm.checkers.Acquire(key, func() *sharedChecker {
		c := &sharedChecker{Checker: vm.byFamily[r.Family()].Bind(r, &f.Filter, resource), key: key}
		if only := r.For().Only; only != nil {
			c.only = family.NewOrigins(only, f.Stream)
		}
		return c
	})
}

// release gives a checker up, which does so with what it holds once nobody has it any more.
func (vm *VM) release(c *sharedChecker) {
	if vm.checkers.Release(c.key, false) {
		c.Release(vm.lastTick)
	}
}

// streamOf is what the filters with a root_id read their parameters from: the same for all of them, so that their rules
// are. What was registered in it stays, so it is not used by new filters once much was.
func (vm *VM) streamOf(rootID string) *request.Stream {
	s := vm.streams[rootID]
	if s == nil || s.Len() > maxRegistered {
		s = request.NewStream()
		vm.streams[rootID] = s
	}
	return s
}

// maxRegistered is how many values a stream may have registered that new filters use.
const maxRegistered = 1024
