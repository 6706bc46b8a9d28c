package breaker

import (
	"errors"
	"math"
	"slices"

	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/worker"
)

const (
	// renewEvery is how often a worker says that its probes are under way, in nanoseconds: well within a lease.
	renewEvery = 400e6
	// settleAfter is how long a probe may go on after the service has begun to answer, in nanoseconds, before that decides: a
	// response that breaks off does so at once, and a stream may last for days.
	settleAfter = 1e9
)

// circuit is a breaker in this worker, shared by all filters that have a rule with its id, whatever else their rules say.
// All workers share its record.
type circuit struct {
	kind     *kind
	cell     record.Cell
	rule     string
	resource string
	gauge    string
	// changes are those of the phase that this worker has brought about, of the kinds there have been, each named so and with
	// what it is between.
	changesName string
	changes     []metrics.Counter
	// running are the probes of this worker, which were renewed last at the time renewed.
	running []running
	renewed int64
	// probing is whether each tick looks at them.
	probing bool
	// shown is the phase that the gauge was set to, where exported.
	shown    Phase
	exported bool
}

// running is a probe that is under way.
type running struct {
	Probe
	// by is whose it is. answered is when the service began to answer, 0 if it has not, and end how the probe ends if it goes
	// on as it began.
	by       *breakerRule
	answered int64
	end      outcome.End
}

// Touch implements family.Toucher.
func (c *circuit) Touch(now int64) error { return c.kind.env.Table.Touch(&c.cell, now) }

// find returns where a probe is among those that are running, −1 where it is not.
func (c *circuit) find(mark int64) int {
	return slices.IndexFunc(c.running, func(r running) bool { return r.Mark == mark })
}

// drop takes a probe out of those that are running.
func (c *circuit) drop(mark int64) {
	if i := c.find(mark); i >= 0 {
		c.running = slices.Delete(c.running, i, i+1)
	}
}

// tick renews the leases of the probes under way, and settles those whose answers go on for long.
func (c *circuit) tick(now int64) {
	for i := len(c.running) - 1; i >= 0; i-- {
		if p := c.running[i]; p.answered != 0 && now-p.answered >= settleAfter {
			_, err := p.by.conclude(p.Probe, p.end, now)
			c.kind.env.Check("settling a probe", err)
		}
	}
	if len(c.running) == 0 || now-c.renewed < renewEvery {
		return
	}
	op := c.kind.newUpdate(renew)
	done, err := c.running[0].by.update(op, now)
	c.kind.env.Check("renewing probes", err)
	if done {
		c.renewed = now
		c.running = slices.DeleteFunc(c.running, func(p running) bool { return slices.Contains(op.lost, p.Mark) })
	}
}

// show sets the gauge where the phase is another than it shows. It reports whether it did: two workers may do so in the
// wrong order.
func (c *circuit) show(phase Phase, now int64) (changed bool) {
	if c.exported && c.shown == phase {
		return false
	}
	c.shown, c.exported = phase, true
	c.kind.env.Metrics.Gauge(c.gauge, uint64(phase), now)
	return true
}

// changed counts and logs that this worker has changed the phase, by what a rule says.
func (c *circuit) changed(before, after Phase, r *breakerRule) {
	if before == after {
		return
	}
	c.count(c.changesName + metrics.Change(before.String(), after.String()))
	c.kind.env.Host.Log(host.Info, "circuit breaker "+c.rule+" of "+c.resource+": "+before.String()+" -> "+after.String()+
		", "+family.Number(r.seen)+" of "+family.Number(r.Threshold)+" "+r.Strategy.String())
}

// count counts a change that has a name: there are four.
func (c *circuit) count(name string) {
	i := slices.IndexFunc(c.changes, func(m metrics.Counter) bool { return m.Name == name })
	if i < 0 {
		i = len(c.changes)
		c.changes = append(c.changes, metrics.Counter{Name: name})
	}
	c.changes[i].N++
}

// export brings the counters of changes up to date.
func (c *circuit) export(now int64) {
	for i := range c.changes {
		c.kind.env.Metrics.Export(&c.changes[i], now)
	}
}

// view is what one rule knows of its circuit's record, which it reads at most once a tick, and only while it is in use, so
// that most decisions cost no call to the host; and what it has counted since.
type view struct {
	params Params
	// phase, entersAt and seen are of the record as it was in the tick with the number readIn, where fresh.
	phase    Phase
	entersAt int64
	seen     float64
	// recovers is until when only a share of the requests is let in, from closedAt on, and credit what is due of it.
	closedAt, recovers int64
	credit             float64
	readIn             uint64
	fresh              bool
	// pending are the completions since then, all of one bucket, the first at the time since.
	pending       Counts
	bucket, since int64
	// active is whether the next tick looks at it, again whether the one after shall, too.
	active, again bool
}

// use makes the next tick look at the record.
func (r *breakerRule) use() {
	if !r.active {
		r.active = true
		r.kind.active = append(r.kind.active, r)
	}
}

// current is whether the record was read in this tick.
func (r *breakerRule) current() bool { return r.fresh && r.readIn == r.kind.env.Tick }

// count counts a completion in this worker; the next tick brings it into the record.
func (r *breakerRule) count(now int64, bad bool) error {
	if r.current() && r.phase != Closed {
		return nil // only a closed breaker counts
	}
	r.use()
	bucket := r.params.Window.Bucket(now)
	if r.pending.Total > 0 && r.bucket != bucket {
		if err := r.sync(now); err != nil {
			return err
		}
	}
	if r.pending.Total == 0 {
		r.bucket, r.since = bucket, now
	}
	r.pending.Total++
	if bad {
		r.pending.Bad++
	}
	if r.params.Window.BucketNs < family.TickMs*1e6 {
		return r.sync(now)
	}
	return nil
}

// sync adds what is pending to the record, and reads it. What cannot be added for contention stays pending.
func (r *breakerRule) sync(now int64) error {
	op := r.kind.newUpdate(add)
	op.counts, op.bucket, op.since = r.pending, r.bucket, r.since
	done, err := r.update(op, now)
	if done {
		r.pending = Counts{}
	}
	return err
}

// update makes a change to the record and remembers what it is then. It reports whether that was done: not where the host
// fails, and not where too many workers fight for the record.
func (r *breakerRule) update(op *update, now int64) (done bool, err error) {
	env, c := r.kind.env, r.circuit
	op.params, op.watch, op.running = &r.params, &env.Worker.Watch, c.running
	if err = env.Table.Update(&c.cell, now, op); err != nil {
		r.fresh = false
		if errors.Is(err, record.ErrContended) {
			err = nil
		}
		return false, err
	}
	s := &op.state
	r.phase, r.entersAt = s.Phase, s.EntersAt(&r.params, op.watch, op.now)
	r.closedAt, r.recovers = s.Since, s.RecoversUntil(&r.params)
	r.seen = math.Round(s.Seen*1e4) / 1e4 // for people
	r.fresh, r.readIn = true, env.Tick
	c.changed(op.before, s.Phase, r)
	if c.show(s.Phase, now) {
		r.again = true
		r.use()
	}
	return true, nil
}

// update is one change of a circuit's record.
type update struct {
	change change
	params *Params
	watch  *worker.Watch
	now    int64 // the record's, once it is applied
	// counts, bucket and since are what add adds. probe is whose end conclude and giveBack are about, ok whether it decided;
	// or it is what enter got, ok whether the entry is admitted. running are those that renew renews, lost the marks of those
	// of them that have lost their places.
	counts        Counts
	bucket, since int64
	probe         Probe
	bad           bool
	ok            bool
	running       []running
	lost          []int64
	// before is the phase that was found, state what was made of it.
	before Phase
	state  State
}

type change int

const (
	add change = iota
	enter
	renew
	conclude
	giveBack
)

// newUpdate returns the one update there is, as a new one.
func (k *kind) newUpdate(c change) *update {
	k.op = update{change: c, lost: k.op.lost[:0]}
	return &k.op
}

// Apply implements record.Transition. A record that is lost becomes a closed breaker that has counted nothing.
func (o *update) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	s := &o.state
	*s = State{}
	o.now = r.Now
	if r.Payload != nil && !s.Decode(r.Payload, o.params.Window) || s.At > o.now {
		return dst, record.Unreadable
	}
	o.before = s.Phase
	if !o.apply(s) && !r.Lost {
		return dst, record.Keep
	}
	s.At = o.now
	return s.Encode(dst, o.params.Window), record.Store
}

func (o *update) apply(s *State) (changed bool) {
	switch o.change {
	case add:
		return s.Add(o.params, o.bucket, o.counts, o.since, o.now)
	case renew:
		o.lost = o.lost[:0]
		for _, p := range o.running {
			if !s.Renew(p.Probe, o.now) {
				o.lost = append(o.lost, p.Mark)
			}
		}
		return len(o.lost) < len(o.running)
	case conclude:
		changed, o.ok = s.Conclude(o.params, o.probe, o.bad, o.now)
		return changed
	case giveBack:
		return s.GiveBack(o.probe)
	}
	var isProbe bool
	o.probe, isProbe, o.ok = s.Enter(o.params, o.watch, o.now)
	return isProbe || s.Phase != o.before
}
