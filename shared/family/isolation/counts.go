package isolation

import (
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/worker"
)

// Counts are what the rules of a worker have in flight: all that have a rule with one id share a count.
type Counts struct {
	env *family.Env
	all family.Pool[record.ID, *SharedCount]
	// holding are the counts that a tick looks after.
	holding []*SharedCount
	// shown are the counts whose gauges the next exports bring up to date, by look.
	shown []*SharedCount
	look  looking
}

// SharedCount is a count that a worker's rules share.
type SharedCount struct {
	*Concurrency
	id      record.ID
	of      *Counts
	holding bool
	// mode and labels are the rule's. limit is of the last entry that was asked for, before the first of which figures is nil.
	// shows is whether it is among those shown.
	mode    config.Mode
	labels  string
	limit   int64
	figures *figures
	shows   bool
}

// NewCounts returns the counts of a worker.
func NewCounts(env *family.Env) *Counts {
	return &Counts{env: env, all: family.NewPool[record.ID, *SharedCount]()}
}

// Acquire returns the count with that id, until Release. Metrics name the rule that it is of.
func (cs *Counts) Acquire(id record.ID, of *family.Base) *SharedCount {
	return cs.all.Acquire(id, func() *SharedCount {
		return &SharedCount{
			Concurrency: NewConcurrency(cs.env.Table, &cs.env.Worker.Watch, id), id: id, of: cs, mode: of.Mode, labels: of.Labels(),
		}
	})
}

// Release gives the count up, at the time now in nanoseconds. One that holds anything stays for a while: another with its id would
// be taken for it.
func (c *SharedCount) Release(now int64) {
	if c.of.all.Release(c.id, c.holding) {
		c.close(now)
	}
}

// Enter is Concurrency.Enter; the ticks look after the count for as long as it holds anything.
func (c *SharedCount) Enter(holder worker.Identity, threshold, now int64) (Verdict, error) {
	v, err := c.Concurrency.Enter(holder, threshold, now)
	c.limit = threshold
	if !c.shows {
		c.show()
	}
	if !c.holding && c.Holding() {
		c.holding = true
		c.of.holding = append(c.of.holding, c)
	}
	return v, err
}

// Tick renews what this worker has in flight, and gives back what it does not need.
func (cs *Counts) Tick(now int64) {
	kept := cs.holding[:0]
	for _, c := range cs.holding {
		holder, err := cs.env.Worker.Identify(now)
		if err == nil {
			err = c.Tick(holder, now)
		}
		cs.env.Check("renewing what is in flight", err)
		if c.holding = c.Holding(); c.holding {
			kept = append(kept, c)
		} else {
			cs.all.Drop(c.id)
		}
	}
	clear(cs.holding[len(kept):])
	cs.holding = kept
}

// Records calls f with each count.
func (cs *Counts) Records(f func(family.Toucher)) { cs.all.All(func(c *SharedCount) { f(c) }) }
