package flow

import (
	"math"
	"slices"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/record"
)

// looksPerExport bounds the records that one export reads, so that a worker with thousands of busy rules does not stand
// still: their gauges are then brought up to date one after the other.
const looksPerExport = 64

// figures are the metrics of a budget that was used.
type figures struct {
	threshold, remaining metrics.Gauge
	near                 metrics.Counter
}

func newFigures(mode config.Mode, labels string) *figures {
	if mode == config.Shadow {
		return &figures{threshold: metrics.Gauge{Name: "sentinel_shadow_threshold" + labels},
			remaining: metrics.Gauge{Name: "sentinel_shadow_remaining" + labels},
			near:      metrics.Counter{Name: "sentinel_shadow_near_limit" + labels}}
	}
	return &figures{threshold: metrics.Gauge{Name: "sentinel_threshold" + labels}, remaining: metrics.Gauge{Name: "sentinel_remaining" + labels},
		near: metrics.Counter{Name: "sentinel_near_limit" + labels}}
}

// show makes the next export bring the gauges up to date.
func (b *SharedBudget) show() {
	if b.figures == nil {
		b.figures = newFigures(b.mode, b.labels)
	}
	b.shows = true
	b.of.shown = append(b.of.shown, b)
}

// Export brings up to date the metrics of the budgets that this worker was asked for permits of, until their windows are
// empty. It reads the shared records for it, so that all workers say the same. now is in nanoseconds.
func (bs *Budgets) Export(now int64) {
	for _, b := range bs.shown {
		b.exportNear(now)
	}
	due := min(looksPerExport, len(bs.shown))
	for _, b := range bs.shown[:due] {
		look := looking{window: b.window, log: b.log, full: Capacity(b.limit), warm: b.warm}
		err := bs.env.Table.Update(&b.cell, now, &look)
		bs.env.Check("reading a budget", err)
		bs.env.Metrics.Set(&b.figures.threshold, uint64(look.capacity), now)
		bs.env.Metrics.Set(&b.figures.remaining, uint64(max(look.capacity-look.used, 0)), now)
		if b.shows = err == nil && look.used > 0; b.shows {
			bs.shown = append(bs.shown, b)
		}
	}
	bs.shown = slices.Delete(bs.shown, 0, due)
}

func (b *SharedBudget) exportNear(now int64) {
	b.countNear()
	b.figures.near.N = uint64(b.nearSpent)
	b.of.env.Metrics.Export(&b.figures.near, now)
}

// close ends the metrics of a budget whose rule is gone: its gauges must not stay at their last values.
func (b *SharedBudget) close(now int64) {
	if b.figures == nil {
		return
	}
	b.exportNear(now)
	b.of.env.Metrics.Set(&b.figures.threshold, 0, now)
	b.of.env.Metrics.Set(&b.figures.remaining, 0, now)
	b.of.shown = slices.DeleteFunc(b.of.shown, func(o *SharedBudget) bool { return o == b })
}

// looking reads a budget's record: what the window admits at the time, and what of it was used.
type looking struct {
	window         Window
	log            *Log // of an exact window, to be overwritten
	full           int64
	warm           *WarmUp // nil: it is always
	capacity, used int64
	// unsure is whether the record cannot be read, emptyAt when all that is used has left the window, in nanoseconds.
	unsure  bool
	emptyAt int64
}

// Apply implements record.Transition.
func (o *looking) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	var s WarmState
	o.capacity, o.used, o.emptyAt = o.full, 0, 0
	o.unsure = r.Lost || r.Payload != nil
	if o.log != nil {
		o.lookExact(r)
		return dst, record.Keep
	}
	if r.Lost || r.Payload != nil && (!s.Decode(r.Payload, o.window) || s.ahead(o.window, r.Now)) {
		return dst, record.Keep
	}
	o.unsure = false
	s.MoveTo(o.window, r.Now)
	o.used = s.Used(o.window)
	at := s.EmptyAt(o.window)
	if s.Carried > 0 && o.window.Calendar != nil {
		at = s.CarriedTo + 1
	}
	if at > 0 {
		o.emptyAt = o.window.Start(at, r.Now)
	}
	if o.window.Calendar == nil {
		o.emptyAt = max(o.emptyAt, s.CarriedTo)
	}
	if o.warm != nil {
		o.warm.Advance(&s.Warmth, Second(r.Now), s.Previous(o.window))
		o.capacity = Capacity(o.warm.Threshold(s.Warmth))
	}
	return dst, record.Keep
}

// lookExact is Apply for an exact window.
func (o *looking) lookExact(r record.State) {
	s, now := o.log, o.window.Bucket(r.Now)
	if r.Payload == nil || !s.Decode(r.Payload) || s.Newest > now {
		return
	}
	o.unsure = false
	s.Advance(now)
	o.used, o.emptyAt = s.Used(), o.window.Start(s.EmptyAt(), r.Now)
}

// nearLimit counts the permits that were spent beyond four fifths of the capacity, as Envoy's rate limit service does.
type nearLimit struct {
	// nearSpent are all of them. Of the reservation at hand those after the first far are near; counted of them are in
	// nearSpent already.
	nearSpent, far, counted int64
}

const nearNumerator, nearDenominator = 4, 5

// begin begins a reservation of so many permits, after which used of a capacity are.
func (n *nearLimit) begin(granted, used, capacity int64) {
	beyond := used - capacity*nearNumerator/nearDenominator
	n.far, n.counted = granted-min(max(beyond, 0), granted), 0
}

// count says how many permits of the reservation at hand are spent by now.
func (n *nearLimit) count(spent int64) {
	if more := spent - n.far - n.counted; more > 0 {
		n.nearSpent += more
		n.counted += more
	}
}

// end ends the reservation at hand.
func (n *nearLimit) end() { n.far, n.counted = math.MaxInt64/2, 0 }

// countNear counts what was spent of the reservation at hand.
func (b *Budget) countNear() { b.nearLimit.count(b.size - b.left) }
