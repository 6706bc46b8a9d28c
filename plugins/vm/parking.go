package vm

import (
	"slices"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/config"
)

const (
	// parkAfter is for how long a plugin that was superseded may have had no new stream before it is parked, and lookEvery
	// how often that is looked at, in nanoseconds.
	parkAfter = 2e9
	lookEvery = 500e6
)

// Envoy says nothing when it replaces a filter: the new plugin starts, and the old one hears of its end when the drain time
// is over, ten minutes by default. Until then it may have streams, of connections from before the update or because the
// earlier configuration has come back. So a plugin is superseded once a later one has its root_id and its name, and is
// parked while nobody uses it. It keeps its configuration's text, and its streams' resources; the next stream wakes it.

// lane is what plugins have in common of which one takes over from the other.
type lane struct{ rootID, name string }

// join makes a plugin that has started the newest in its lane.
func (d *Dispatcher) join(p *Plugin) {
	d.started++
	p.number = d.started
	p.used = true
	d.newest[p.lane] = p
	d.awake = append(d.awake, p)
}

// part forgets a plugin. The one that started before it, if there is one, is the newest in its lane again.
func (d *Dispatcher) part(p *Plugin) {
	d.awake = slices.DeleteFunc(d.awake, func(other *Plugin) bool { return other == p })
	d.texts.drop(p.text)
	p.text = nil
	if d.newest[p.lane] != p {
		return
	}
	if before := d.latest(func(other *Plugin) bool { return other.lane == p.lane && other != p }); before != nil {
		d.newest[p.lane] = before
	} else {
		delete(d.newest, p.lane)
	}
}

// latest is the plugin that has started last, of those that fit; nil if none does.
func (d *Dispatcher) latest(fits func(*Plugin) bool) (last *Plugin) {
	for _, p := range d.plugins {
		if p.number > 0 && fits(p) && (last == nil || p.number > last.number) {
			last = p
		}
	}
	return last
}

// parkIdle parks the plugins that were superseded and have had no new stream for long enough.
func (d *Dispatcher) parkIdle(now int64) {
	if now-d.looked < lookEvery {
		return
	}
	d.looked = now
	for _, p := range slices.Clone(d.awake) {
		switch {
		case d.newest[p.lane] == p:
		case p.used:
			p.used, p.idleSince = false, now
		case now-p.idleSince >= parkAfter && p.handler.Idle():
			p.park()
		}
	}
}

func (p *Plugin) park() {
	d := p.dispatcher
	d.awake = slices.DeleteFunc(d.awake, func(other *Plugin) bool { return other == p })
	p.handler = nil
	p.Park()
	d.passTimer(p)
	p.setPeriod()
}

// wake makes a plugin that is parked what it was, and reports whether it now is.
func (p *Plugin) wake() (awake bool) {
	defer recoverPanic(func(err error) { p.Fault("waking a filter", err) })
	own, err := config.Parse(p.text.bytes(), p.kind.Kind)
	if err == nil {
		p.Wake(own)
		p.Renew(envoyhost.Now())
		p.handler, err = p.kind.New(p)
	}
	if err != nil {
		p.Fault("waking a filter", err)
		return false
	}
	p.used = true
	p.dispatcher.awake = append(p.dispatcher.awake, p)
	return true
}

// passTimer lets another plugin keep the VM's time, if it was the one that was parked or has ended. A context's timer is all
// that ever calls a VM: one of them is enough.
func (d *Dispatcher) passTimer(from *Plugin) {
	if d.timer != from {
		return
	}
	d.timer = d.latest(func(p *Plugin) bool { return p != from })
	d.engine.Reopen()
	if d.timer != nil {
		d.timer.setPeriod()
	}
}

// setPeriod sets how often the plugin has its tick: while streams of its own wait often, else only where it keeps the VM's
// time.
func (p *Plugin) setPeriod() {
	period := uint32(0)
	switch {
	case p.waiting.fast:
		period = resumeMs
	case p.dispatcher.timer == p:
		period = p.dispatcher.pace.period
	}
	err := envoyhost.SetEffectiveContext(p.context)
	if err == nil {
		err = envoyhost.SetTickPeriod(period)
	}
	if err != nil {
		p.dispatcher.engine.Fault("setting the tick", err)
	}
}
