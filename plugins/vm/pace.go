package vm

import (
	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/engine"
)

// restAfter is for how long a VM must have had no streams before it rests, in nanoseconds. By then all it counted has been
// reported and exported.
const restAfter = 3e9

// pace is how often the VM ticks. Without streams it rests: it then ticks only as often as keeps what it holds in the
// process. Its next stream rouses it, with the tick that is due, so that the first decision knows what any other would.
type pace struct {
	// period is how often it ticks, in milliseconds.
	period uint32
	// used is whether there was something to do since the last tick, idleSince when there last was, in nanoseconds.
	used      bool
	idleSince int64
}

// adjustPace lets the VM rest, or not, after a tick.
func (d *Dispatcher) adjustPace(now int64) {
	p := &d.pace
	if p.used || d.streams.count > 0 {
		p.used, p.idleSince = false, now
	}
	period := d.engine.Period(now-p.idleSince >= restAfter, now)
	if period != p.period && d.timer != nil {
		p.period = period
		d.timer.setPeriod()
	}
}

// rouse ends the VM's rest, in a callback about a context.
func (d *Dispatcher) rouse(context uint32) {
	d.pace.used = true
	if d.pace.period != engine.TickMs && d.timer != nil {
		d.wakeUp(context)
	}
}

func (d *Dispatcher) wakeUp(context uint32) {
	d.pace.period = engine.TickMs
	d.timer.setPeriod()
	now := envoyhost.Now()
	d.engine.Wake(now)
	if err := envoyhost.SetEffectiveContext(context); err != nil {
		d.engine.Fault("rousing the VM", err)
	}
}
