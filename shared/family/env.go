package family

import (
	"strconv"

	"sentinel-envoy/shared/calendar"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/machine"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/quota"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rule"
	"sentinel-envoy/shared/stat"
	"sentinel-envoy/shared/worker"
)

// TickMs is how often a worker ticks, in milliseconds.
const TickMs = 20

// Env is what all rules of one worker share.
type Env struct {
	Host     host.Host
	Wall     *host.Wall
	Table    *record.Table
	Worker   *worker.Worker
	Metrics  *metrics.Metrics
	Nodes    *stat.Nodes
	Board    *stat.Board
	Machines *machine.Sources
	Quotas   *quota.Quotas

	// Tick is the number of the tick.
	Tick uint64
	// Debug is whether debug messages are written.
	Debug bool
	// Since is when the entry that a rule is asked about began to wait for that rule's answer, in nanoseconds, 0 if it did not.
	Since int64
	// QueueFull counts the entries that were refused because too many waited.
	QueueFull metrics.Counter

	waiting         int
	observe         bool
	faults          uint64
	refusal, spared Refusal
}

// Windows are those of a unit of the calendar, nil of an interval.
func (e *Env) Windows(c *rule.Calendar) *calendar.Windows {
	zone, ok := calendar.ParseZone(c.Timezone)
	if c.Unit == rule.NoUnit || !ok { // a configuration has no such zone
		return nil
	}
	return calendar.NewWindows(calendar.Period{Unit: c.Unit, Zone: zone}, e.Wall)
}

// Spare keeps a refusal that has no effect, beside that of a later rule, until the next entry is asked about.
func (e *Env) Spare(r *Refusal) *Refusal {
	e.spared = *r
	return &e.spared
}

// NewEnv returns what the rules of a worker share.
func NewEnv(h host.Host) *Env {
	table := record.NewTable(h)
	e := &Env{
		Host: h, Wall: host.NewWall(h), Table: table, Worker: worker.New(h), Nodes: stat.NewNodes(), Board: stat.NewBoard(h, h),
		Machines: machine.NewSources(table), QueueFull: metrics.Counter{Name: "sentinel_queue_full"},
	}
	e.Metrics = metrics.New(h, e.Fault)
	e.Quotas = quota.NewQuotas(h, table, e.Fault)
	return e
}

// Fault counts a failure that is ours or the host's.
func (e *Env) Fault(what string, err error) {
	e.faults++
	if e.faults&(e.faults-1) == 0 { // the 1st, 2nd, 4th, 8th …: a fault a request must not fill the log
		e.Host.Log(host.Error, "fault "+strconv.FormatUint(e.faults, 10)+": "+what+": "+err.Error())
	}
}

// Check counts an error as a fault.
func (e *Env) Check(what string, err error) {
	if err != nil {
		e.Fault(what, err)
	}
}

// Try does one part of a tick, at the time now in nanoseconds. A panic in it is a fault: what else is due is done all the
// same.
func (e *Env) Try(what string, now int64, do func(now int64)) {
	e.Check(what, tried(do, now))
}

func tried(do func(now int64), now int64) (err error) {
	done := false
	defer func() {
		if !done {
			err = Recovered(recover())
		}
	}()
	do(now)
	done = true
	return nil
}

// Recovered is the error that a panic makes, by what recover returns, but for host.Death, with which it panics anew. Who
// defers it asks for no panic where there was none: recover costs as much as what it guards.
func Recovered(r any) error {
	if death, ok := r.(host.Death); ok {
		panic(death)
	}
	return host.Panicked(r)
}

// Faults are those that were counted.
func (e *Env) Faults() uint64 { return e.faults }

// Observe says that the observers of some resource have changed.
func (e *Env) Observe() { e.observe = true }

// Observed reports whether Observe was called since the last time.
func (e *Env) Observed() bool {
	changed := e.observe
	e.observe = false
	return changed
}
