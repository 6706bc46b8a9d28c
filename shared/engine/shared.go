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
	// share are those of them that it is tried on, nil if all are.
	share *family.Share
	// candidates is whether others are tried beside it.
	candidates bool
	// quoter tells what it has left, nil where clients are not to know.
	quoter family.Quoter
}

// asked is whether it is asked about the stream that is being asked about.
func (c *sharedChecker) asked() bool {
	return (c.only == nil || c.only.Some()) && (c.share == nil || c.share.Enabled())
}

// enforces is whether what it says of that stream has effect.
func (c *sharedChecker) enforces() bool {
	return c.Of().Mode == config.Enforce && (c.share == nil || c.share.Enforced())
}

// spares is whether what it refuses may go on all the same.
func (c *sharedChecker) spares() bool {
	return c.Of().Annotates || !c.enforces()
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
		c.share = family.NewShare(r.For(), f.Stream)
		if !c.Of().Spares() {
			c.quoter, _ = c.Checker.(family.Quoter)
		}
		c.candidates = r.For().Trial != nil && len(r.For().Candidates) > 0
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
