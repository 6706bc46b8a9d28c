package isolation

import (
	"slices"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/worker"
)

// looksPerExport bounds the records that one export reads: of more busy rules it brings the gauges up to date in turn.
const looksPerExport = 64

// figures are the names of a count's gauges, once it was asked.
type figures struct{ threshold, remaining string }

// show makes the next export bring the gauges up to date.
func (c *SharedCount) show() {
	if c.figures == nil {
		c.figures = &figures{"sentinel_threshold" + c.labels, "sentinel_remaining" + c.labels}
		if c.mode == config.Shadow {
			c.figures = &figures{"sentinel_shadow_threshold" + c.labels, "sentinel_shadow_remaining" + c.labels}
		}
	}
	c.shows = true
	c.of.shown = append(c.of.shown, c)
}

// Export brings up to date the gauges of the counts that this worker was asked for, until nothing is in flight in any. It reads
// the shared records for it, so that all workers say the same. now is in nanoseconds.
func (cs *Counts) Export(now int64) {
	due := min(looksPerExport, len(cs.shown))
	for _, c := range cs.shown[:due] {
		cs.look.watch, cs.look.sum = &cs.env.Worker.Watch, 0
		err := cs.env.Table.Update(&c.cell, now, &cs.look)
		cs.env.Check("reading what is in flight", err)
		cs.env.Metrics.Gauge(c.figures.threshold, uint64(c.limit), now)
		cs.env.Metrics.Gauge(c.figures.remaining, uint64(max(c.limit-cs.look.sum, 0)), now)
		if c.shows = err == nil && cs.look.sum > 0; c.shows {
			cs.shown = append(cs.shown, c)
		}
	}
	cs.shown = slices.Delete(cs.shown, 0, due)
}

// close ends the gauges of a count whose rule is gone: they must not stay at their last values.
func (c *SharedCount) close(now int64) {
	if c.figures == nil {
		return
	}
	c.of.env.Metrics.Gauge(c.figures.threshold, 0, now)
	c.of.env.Metrics.Gauge(c.figures.remaining, 0, now)
	c.of.shown = slices.DeleteFunc(c.of.shown, func(o *SharedCount) bool { return o == c })
	c.shows = false
}

// looking reads a record: how many entries all leases that count are for.
type looking struct {
	watch *worker.Watch
	state State
	sum   int64
}

// Apply implements record.Transition.
func (o *looking) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	if r.Payload != nil && o.state.Decode(r.Payload) && o.state.Newest <= r.Now {
		o.state.Expire(o.watch, r.Now)
		o.sum = o.state.Sum()
	}
	return dst, record.Keep
}
