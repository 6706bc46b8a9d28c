package breaker

import (
	"errors"
	"math"

	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/record"
)

// circuit is a breaker in this worker, shared by all filters that have a rule with its id. All workers share its record;
// this one reads it at most once a tick, and only while it is in use, so that most decisions cost no call to the host.
type circuit struct {
	kind     *kind
	cell     record.Cell
	rule     string
	resource string
	gauge    string
	params   Params

	// phase, entersAt and seen are of the record as it was in the tick with the number readIn, where fresh.
	phase    Phase
	entersAt int64
	seen     float64
	readIn   uint64
	fresh    bool

	// pending are the completions since then, all of one bucket, the first at the time since.
	pending       Counts
	bucket, since int64

	// active is whether the next tick looks at it, again whether the one after shall, too.
	active, again bool
	// shown is the phase that the gauge was set to, where exported.
	shown    Phase
	exported bool
}

// Touch implements family.Toucher.
func (c *circuit) Touch(now int64) error { return c.kind.env.Table.Touch(&c.cell, now) }

// use makes the next tick look at the circuit.
func (c *circuit) use() {
	if !c.active {
		c.active = true
		c.kind.active = append(c.kind.active, c)
	}
}

// current is whether the record was read in this tick.
func (c *circuit) current() bool { return c.fresh && c.readIn == c.kind.env.Tick }

// count counts a completion in this worker; the next tick brings it into the record.
func (c *circuit) count(now int64, bad bool) error {
	if c.current() && c.phase != Closed {
		return nil // only a closed breaker counts
	}
	c.use()
	bucket := c.params.Window.Bucket(now)
	if c.pending.Total > 0 && c.bucket != bucket {
		if err := c.sync(now); err != nil {
			return err
		}
	}
	if c.pending.Total == 0 {
		c.bucket, c.since = bucket, now
	}
	c.pending.Total++
	if bad {
		c.pending.Bad++
	}
	if c.params.Window.BucketNs < family.TickMs*1e6 {
		return c.sync(now)
	}
	return nil
}

// sync adds what is pending to the record, and reads it. What cannot be added for contention stays pending.
func (c *circuit) sync(now int64) error {
	op := c.kind.newUpdate(add)
	op.counts, op.bucket, op.since = c.pending, c.bucket, c.since
	done, err := c.update(op, now)
	if done {
		c.pending = Counts{}
	}
	return err
}

// update makes a change to the record and remembers what it is then. It reports whether that was done: not where the host
// fails, and not where too many workers fight for the record.
func (c *circuit) update(op *update, now int64) (done bool, err error) {
	env := c.kind.env
	op.params = &c.params
	if err = env.Table.Update(&c.cell, now, op); err != nil {
		c.fresh = false
		if errors.Is(err, record.ErrContended) {
			err = nil
		}
		return false, err
	}
	s := &op.state
	c.phase, c.entersAt = s.Phase, s.EntersAt(&c.params, op.now)
	c.seen = math.Round(s.Seen*1e4) / 1e4 // for people
	c.fresh, c.readIn = true, env.Tick
	if op.before != s.Phase {
		env.Host.Log(host.Info, "circuit breaker "+c.rule+" of "+c.resource+": "+op.before.String()+" -> "+
			s.Phase.String()+", "+family.Number(c.seen)+" of "+family.Number(c.params.Threshold)+" "+c.params.Strategy.String())
	}
	c.show(now)
	return true, nil
}

// show sets the gauge where the phase is another than it shows. Two workers may do so in the wrong order: so this one looks
// again in the next tick.
func (c *circuit) show(now int64) {
	if c.exported && c.shown == c.phase {
		return
	}
	c.shown, c.exported = c.phase, true
	c.kind.env.Metrics.Gauge(c.gauge, uint64(c.phase), now)
	c.again = true
	c.use()
}

// update is one change of a circuit's record.
type update struct {
	change change
	params *Params
	now    int64 // the record's, once it is applied
	// counts, bucket and since are what add adds. probe is whose end conclude and giveBack are about, ok whether it still had
	// its place; or it is what enter got, ok whether the entry is admitted.
	counts        Counts
	bucket, since int64
	probe         Probe
	bad           bool
	ok            bool
	// before is the phase that was found, state what was made of it.
	before Phase
	state  State
}

type change int

const (
	add change = iota
	enter
	conclude
	giveBack
)

// newUpdate returns the one update there is, as a new one.
func (k *kind) newUpdate(c change) *update {
	k.op = update{change: c}
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
	case conclude:
		o.ok = s.Conclude(o.params, o.probe, o.bad, o.now)
		return o.ok
	case giveBack:
		o.ok = s.GiveBack(o.probe)
		return o.ok
	}
	var isProbe bool
	o.probe, isProbe, o.ok = s.Enter(o.params, o.now)
	return isProbe || s.Phase != o.before
}
