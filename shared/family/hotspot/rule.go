package hotspot

import (
	"strconv"

	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/persist"
)

// valueRule limits how often entries of one value come.
type valueRule struct {
	hotspotRule
	values *sharedValues
	// measure is what the threshold counts, waitMeasure what the longest wait does, banMeasure what a ban does.
	measure, waitMeasure, banMeasure string
}

func newValueRule(base hotspotRule) *valueRule {
	r := &valueRule{hotspotRule: base}
	shape := []string{r.ControlBehavior.String(), strconv.FormatInt(r.DurationInSec, 10)}
	r.measure = "in " + strconv.FormatInt(r.DurationInSec*1000, 10) + " ms for one " + r.param.String()
	if name := r.Calendar.Name(); name != "" {
		shape[1] = name
		r.measure = "in this " + name + " for one " + r.param.String()
	}
	r.banMeasure = "refusals " + r.measure + ": banned for " + strconv.FormatInt(r.BanMs, 10) + " ms"
	if r.CountOnly != nil {
		shape = append(shape, r.CountOnly.Name())
		r.measure = "answered " + r.CountOnly.String() + " " + r.measure
	}
	r.identify("values", shape...)
	r.waitMeasure = "ms to wait for one " + r.param.String()
	r.limits.Limit = limitOf(r.Hotspot)
	if c := r.Env.Windows(&r.Calendar); c != nil {
		r.limits.Calendar = c
	}
	r.values = r.acquireValues()
	r.values.long = r.values.long || max(r.DurationMs(), r.BanMs) > persist.Longer
	r.Queue = r.values.queue
	return r
}

// acquireValues returns the rule's values, until they are released.
func (r *hotspotRule) acquireValues() *sharedValues {
	return r.kind.values.Acquire(r.id, func() *sharedValues {
		return &sharedValues{
			Values:    NewValues(r.Env.Table, r.id),
			queue:     family.NewQueue(r.Env),
			evicted:   metrics.Counter{Name: "sentinel_hotspot_evicted" + r.labels()},
			regained:  metrics.Counter{Name: "sentinel_hotspot_regained" + r.labels()},
			bans:      metrics.Counter{Name: "sentinel_hotspot_bans" + r.labels()},
			banned:    metrics.Counter{Name: "sentinel_hotspot_banned" + r.labels()},
			unlimited: r.newUnlimited(),
		}
	})
}

// releaseValues gives them up.
func (r *hotspotRule) releaseValues(v *sharedValues, now int64) {
	r.Env.Check("returning permits", v.Settle(now))
	r.kind.values.Release(r.id, false)
}

// Enter implements family.Checker.
func (r *valueRule) Enter(t *family.Ticket, now int64) (*family.Refusal, error) {
	q, decided, b, err := r.ask(t, &r.values.unlimited, now)
	switch {
	case decided:
		return b, err
	case r.CountOnly != nil:
		return r.look(q, t, now)
	}
	return r.take(q, t, now)
}

// look asks whether a value has a permit left for an entry whose answer may be one that counts.
func (r *valueRule) look(q question, t *family.Ticket, now int64) (*family.Refusal, error) {
	t.ID = q.hash
	v, err := r.values.Look(q.hash, &r.limits, 1, now)
	switch {
	case err != nil:
		return nil, err
	case !v.OK:
		return r.refuse(q.threshold, 1, v, false, now), nil
	}
	t.At, t.Status, t.Again = q.threshold, family.StatusesOf(r.CountOnly), q.again // the threshold may be forgotten when the answer comes
	return nil, nil
}

// Status implements family.Checker: the value pays for an answer that counts.
func (r *valueRule) Status(t family.Ticket, a outcome.Answer, now int64) (counts bool, err error) {
	if !r.CountOnly.Has(a) {
		return false, nil
	}
	if t.At != r.threshold(t.ID) {
		r.remember(t.ID, t.At)
	}
	return true, r.values.Charge(t.ID, &r.limits, now)
}

// take asks for a permit for a value.
func (r *valueRule) take(q question, t *family.Ticket, now int64) (*family.Refusal, error) {
	n := r.cost.Permits()
	if n == 0 {
		return r.takeNone(q, t, now)
	}
	t.ID = q.hash
	maxWait := r.limits.MaxWaitMs * 1e6
	full := r.limits.Paced && r.Queue.IsFull()
	if full {
		maxWait = 0
	}
	v, err := r.values.Take(q.hash, &r.limits, n, maxWait, now)
	switch {
	case err != nil:
		return nil, err
	case !v.OK:
		return r.refuse(q.threshold, n, v, full, now), nil
	}
	t.At, t.Again, t.Permits = v.At, q.again, uint32(n)
	t.Waits = r.limits.Paced && v.At > now
	return nil, nil
}

// takeNone lets a value's entry in that takes nothing, unless the value is banned.
func (r *valueRule) takeNone(q question, t *family.Ticket, now int64) (*family.Refusal, error) {
	if r.BanAfter > 0 {
		v, err := r.values.Look(q.hash, &r.limits, 0, now)
		switch {
		case err != nil:
			return nil, err
		case !v.OK:
			return r.refuse(q.threshold, 0, v, false, now), nil
		}
	}
	t.Again = q.again
	return nil, nil
}

// refuse says why a value gets nothing: it is banned, may have nothing at all, has had it all, would have to wait for too
// long, or too many wait already.
func (r *valueRule) refuse(threshold, n int64, v Verdict, full bool, now int64) *family.Refusal {
	wait := v.At - now
	switch {
	case v.Banned:
		if r.values.banned.N++; v.Begins {
			r.values.bans.N++
		}
		return r.Refuse(float64(r.BanAfter), float64(r.BanAfter), r.banMeasure, v.FreeAt, now)
	case r.limits.Paced && threshold > 0 && n > threshold:
		return r.Refuse(float64(n), float64(threshold), r.measure, 0, now)
	case !r.limits.Paced || threshold <= 0:
		most := float64(threshold)
		if threshold > 0 && !r.limits.Paced {
			most += float64(r.BurstCount)
		}
		return r.Refuse(max(most, float64(n)), most, r.measure, v.FreeAt, now)
	case full && wait < r.limits.MaxWaitMs*1e6:
		return r.RefuseFullQueue(v.At, now)
	}
	return r.Refuse(float64((wait+999_999)/1e6), float64(r.limits.MaxWaitMs), r.waitMeasure, v.FreeAt, now)
}

// Quota implements family.Quoter. What waits its turn has none, nor what has no value.
func (r *valueRule) Quota(hash uint64, now int64) (family.Quota, error) {
	q := family.Quota{Rule: r.Base.ID, WindowMs: r.DurationMs()}
	if c := r.limits.Calendar; c != nil {
		start, end := c.Bounds(now)
		q.WindowMs = (end - start) / 1e6
	}
	if r.limits.Paced || hash == 0 {
		return family.Quota{}, nil
	}
	err := r.values.quota(&q, hash, &r.limits, now)
	return q, err
}

// Undo implements family.Checker.
func (r *valueRule) Undo(t family.Ticket, now int64) error {
	if t.ID == 0 || r.CountOnly != nil { // nothing was taken
		return nil
	}
	return r.values.GiveBack(t.ID, &r.limits, t.At, int64(t.Permits), now)
}

// Release implements family.Checker.
func (r *valueRule) Release(now int64) { r.releaseValues(r.values, now) }

// concurrencyRule limits how many entries of one value are in flight.
type concurrencyRule struct {
	hotspotRule
	counts *sharedCounts
	// measure is what the threshold counts, fullMeasure the same where other values share the count.
	measure, fullMeasure string
}

func newConcurrencyRule(base hotspotRule) *concurrencyRule {
	r := &concurrencyRule{hotspotRule: base}
	r.identify("concurrency")
	r.measure = "in flight for one " + r.param.String()
	r.fullMeasure = r.measure + ", counted with others for want of room"
	r.counts = r.kind.counts.Acquire(r.id, func() *sharedCounts {
		return &sharedCounts{full: metrics.Counter{Name: "sentinel_hotspot_full" + r.labels()}, unlimited: r.newUnlimited()}
	})
	return r
}

// Enter implements family.Checker.
func (r *concurrencyRule) Enter(t *family.Ticket, now int64) (*family.Refusal, error) {
	q, decided, b, err := r.ask(t, &r.counts.unlimited, now)
	if decided {
		return b, err
	}
	return r.hold(q, t, now)
}

// hold takes a place for a value.
func (r *concurrencyRule) hold(q question, t *family.Ticket, now int64) (*family.Refusal, error) {
	holder, err := r.Env.Worker.Identify(now)
	if err != nil {
		return nil, err
	}
	c, err := r.kind.concurrency.Enter(holder, q.hash, q.threshold, now)
	if err != nil {
		return nil, err
	}
	if c.Full {
		r.counts.full.N++
	}
	if c.OK {
		t.ID, t.At, t.Exit, t.Again = q.hash, int64(c.Key), true, q.again
		return nil, nil
	}
	measure := r.measure
	if c.Full {
		measure = r.fullMeasure
	}
	return r.Refuse(float64(c.InFlight), float64(q.threshold), measure, 0, now), nil
}

// Undo implements family.Checker.
func (r *concurrencyRule) Undo(t family.Ticket, now int64) error {
	return r.Exit(t, outcome.End{}, now)
}

// Exit implements family.Checker.
func (r *concurrencyRule) Exit(t family.Ticket, _ outcome.End, now int64) error {
	if t.ID == 0 {
		return nil
	}
	return r.kind.concurrency.Exit(t.ID, uint64(t.At), now)
}

// Release implements family.Checker.
func (r *concurrencyRule) Release(int64) {
	r.kind.counts.Release(r.id, false)
}
