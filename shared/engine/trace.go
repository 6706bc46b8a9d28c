package engine

import (
	"strconv"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/host"
)

// tracesPerTick bounds the debug messages about single entries: under load they must not fill the log.
const tracesPerTick = 2

// tracer writes debug messages about entries.
type tracer struct {
	next uint64 // tick
	left int    // messages until then
}

// mayWrite is whether there is room for one more message in this tick.
func (t *tracer) mayWrite(env *family.Env) bool {
	if env.Tick >= t.next {
		t.next, t.left = env.Tick+1, tracesPerTick
	}
	t.left--
	return t.left >= 0
}

// Unguarded says at debug level that a request or connection is in no resource, so that no rule was asked.
func (f *Filter) Unguarded() {
	if f.vm.env.Debug {
		f.trace("", "no rule is asked")
	}
}

// traceEntry says at debug level which resource an entry got, and what became of it.
func (f *Filter) traceEntry(e *Entry, b *Block, now int64) {
	verdict := "entered"
	switch spared := e.Spared(); {
	case b != nil:
		verdict = "refused by " + string(b.AppendFigure(append(b.AppendBy(nil), ' ')))
	case spared != nil:
		verdict = "entered, in shadow mode: refused by " + string(spared.AppendFigure(append(spared.AppendBy(nil), ' ')))
	case e.wakeAt != 0:
		verdict = "waits " + strconv.FormatInt((e.wakeAt-now)/1e6, 10) + " ms"
	}
	name := e.resource.name
	if e.several != nil {
		name = ""
		for i, res := range e.several.all {
			if i > 0 {
				name += " "
			}
			name += res.name
		}
	}
	f.trace(name, verdict)
}

func (f *Filter) trace(resource, verdict string) {
	if !f.vm.tracer.mayWrite(f.vm.env) {
		return
	}
	text := "entry of " + f.title()
	if path, ok := f.Stream.Path(); ok {
		text += " path=" + strconv.Quote(path[:min(len(path), maxTracedPath)])
	}
	f.vm.env.Host.Log(host.Debug, text+" resource="+strconv.Quote(resource)+": "+verdict)
}

// maxTracedPath is how much of a path is written, in bytes.
const maxTracedPath = 200

// Called says what the filter is called in Envoy's configuration, beside its root_id, in messages.
func (f *Filter) Called(name string) { f.called = name }

func (f *Filter) title() string { return Title(f.Name, f.called) }

// Title names a filter in messages, by its root_id and, where that is another, by its name in Envoy's configuration.
func Title(rootID, name string) string {
	if name == "" || name == rootID {
		return rootID
	}
	return rootID + " (" + name + ")"
}

// warn writes the warnings of a configuration.
func (vm *VM) warn(where string, warnings []config.Warning) {
	for _, w := range warnings {
		vm.env.Host.Log(host.Warn, "sentinel: "+where+": "+w.String())
	}
}
