package flow

import (
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/record"
)

// Budgets are those of a worker's rules: all that have a rule with one id share a budget.
type Budgets struct {
	env *family.Env
	all family.Pool[record.ID, *SharedBudget]
	// holding are the budgets that may have reserved permits to return.
	holding []*SharedBudget
	// shown are the budgets whose gauges the next exports bring up to date.
	shown []*SharedBudget
}

// SharedBudget is a budget that a worker's rules share.
type SharedBudget struct {
	*Budget
	id      record.ID
	name    string
	of      *Budgets
	holding bool
	audit   audit
	// mode and labels are the rule's. limit and warm are of the last permit that was asked for, before the first of which
	// figures is nil. shows is whether it is among those shown.
	mode    config.Mode
	labels  string
	limit   float64
	warm    *WarmUp
	figures *figures
	shows   bool
	// charging is the last update of a budget of answers.
	charging charging
}

// NewBudgets returns the budgets of a worker.
func NewBudgets(env *family.Env) *Budgets {
	return &Budgets{env: env, all: family.NewPool[record.ID, *SharedBudget]()}
}

// Acquire returns the budget with that id, until Release. Metrics and messages name the rule that it is of.
func (bs *Budgets) Acquire(id record.ID, of *family.Base, w Window) *SharedBudget {
	return bs.all.Acquire(id, func() *SharedBudget {
		return &SharedBudget{
			Budget: NewBudget(bs.env.Table, id, w), id: id, name: of.ID, of: bs, mode: of.Mode, labels: of.Labels(),
		}
	})
}

// Release gives the budget up, at the time now in nanoseconds.
func (b *SharedBudget) Release(now int64) {
	if b.of.all.Release(b.id, false) {
		b.close(now)
	}
}

// Spend takes n permits that were reserved before, which most entries find, and reports whether there were as many under a
// threshold that admits capacity. Their time is now. Where there is none, Take says more.
func (b *SharedBudget) Spend(capacity, n, now int64) bool {
	return !b.of.env.Debug && b.spend(capacity, n, now)
}

// Take is Budget.Take, or with a warm-up TakeWarm; the next tick returns what is left of a reservation.
func (b *SharedBudget) Take(threshold float64, warm *WarmUp, n, now int64) (v Verdict, err error) {
	if warm == nil {
		v, err = b.Budget.Take(threshold, n, now)
	} else {
		v, err = b.TakeWarm(warm, n, now)
	}
	b.limit, b.warm = threshold, warm
	if !b.shows {
		b.show()
	}
	b.hold()
	if b.of.env.Debug && err == nil {
		if line := b.audit.count(b.name, v.At, n, v.OK, b.Window()); line != "" {
			b.of.env.Host.Log(host.Debug, line)
		}
	}
	return v, err
}

// hold has the next tick return what is reserved and not spent.
func (b *SharedBudget) hold() {
	if !b.holding && b.Holding() {
		b.holding = true
		b.of.holding = append(b.of.holding, b)
	}
}

// GiveBack is Budget.GiveBack; the next tick lets other workers have the permits.
func (b *SharedBudget) GiveBack(at, n, now int64) error {
	if b.of.env.Debug {
		b.audit.undo(at, n, b.Window())
	}
	err := b.Budget.GiveBack(at, n, now)
	b.hold()
	return err
}

// Tick returns what was reserved and not spent since the last tick, and writes what was counted for debug messages.
func (bs *Budgets) Tick(now int64) {
	for _, b := range bs.holding {
		b.holding = false
		bs.env.Check("returning permits", b.Settle(now))
	}
	clear(bs.holding)
	bs.holding = bs.holding[:0]
	if bs.env.Debug {
		bs.all.All(func(b *SharedBudget) {
			if line := b.audit.flush(b.name, b.Window()); line != "" {
				bs.env.Host.Log(host.Debug, line)
			}
		})
	}
}

// Records calls f with each budget.
func (bs *Budgets) Records(f func(family.Toucher)) { bs.all.All(func(b *SharedBudget) { f(b) }) }
