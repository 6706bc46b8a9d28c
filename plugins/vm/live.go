package vm

import (
	"runtime"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/source"
)

// askSources asks the data sources that it is this worker's turn to ask. An answer comes to the context whose tick it is.
func (d *Dispatcher) askSources(now int64) {
	d.engine.AskSources(now, func(a *engine.Ask) error {
		headers := append([][2]string{
			{":method", a.Method}, {":path", a.Path}, {":authority", a.Origin.Authority},
		}, a.Headers...)
		c := call{cluster: a.Origin.Cluster, headers: headers, body: a.Body, timeoutMs: a.TimeoutMs}
		c.fault = func(err error) { d.engine.Fault("reading a datasource", err) }
		return c.make(func(answer source.Response, err error) { d.engine.AskAnswered(a, answer, err, envoyhost.Now()) })
	})
}

// follow lets a plugin that has started take rules from its data sources, and begins with what other workers know of them.
func (p *Plugin) follow(now int64) {
	p.Follow(func(documents []config.Document) (*config.Config, error) {
		own, err := config.Parse(p.text.bytes(), p.kind.Kind)
		if err != nil {
			return nil, err
		}
		return config.ParseRules(documents, p.kind.Kind, own)
	})
	p.Filter.Renew(now)
}

// renew makes the plugin decide by the rules that are in force now: before a decision, and in each tick. It wakes one that is
// parked, so that it does not decide by the resources of older rules.
func (p *Plugin) renew(now int64) {
	if p.Parked() {
		p.wake()
		return
	}
	if !p.Renew(now) {
		return
	}
	d := p.dispatcher
	d.changed = true
	if err := p.handler.Reload(); err != nil {
		p.Fault("changing to new rules", err)
	}
	for _, other := range d.awake { // they have changed, too: the log tells of all at once
		other.try(now, other.renew)
	}
}

// Current makes the plugin decide by what its data sources say now, and returns its handler. It must be called before the resource of
// a stream is looked for. Without data sources it does nothing.
func (p *Plugin) Current() Handler {
	if len(p.Config().Sources) > 0 {
		p.renew(envoyhost.Now())
	}
	return p.handler
}

// renewAll brings the plugins that are awake up to date, and prepares what takes effect soon.
func (d *Dispatcher) renewAll(now int64) {
	for _, p := range d.awake {
		p.try(now, p.renew)
		p.try(now, p.Prepare)
	}
	if d.changed {
		d.changed = false
		runtime.GC() // as after an update
	}
}
