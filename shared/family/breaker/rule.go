package breaker

import (
	"strconv"

	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rule"
)

// breakerRule is Sentinel's circuit breaker rule.
type breakerRule struct {
	family.Base
	*rule.CircuitBreaker
	kind    *kind
	id      record.ID
	circuit *circuit
	view
	// measure is what the threshold counts.
	measure string
}

func measureOf(r *rule.CircuitBreaker) string {
	interval := " in " + strconv.FormatUint(uint64(r.StatIntervalMs), 10) + " ms"
	switch r.Strategy {
	case rule.SlowRequestRatio:
		return "of requests slower than " + strconv.FormatUint(r.MaxAllowedRtMs, 10) + " ms" + interval
	case rule.ErrorRatio:
		return "of requests failed" + interval
	}
	return "failures" + interval
}

// Enter implements family.Checker.
func (r *breakerRule) Enter(t *family.Ticket, now int64) (*family.Refusal, error) {
	r.use()
	if !r.current() {
		if err := r.sync(now); err != nil {
			return nil, err
		}
	}
	if r.phase == Closed {
		if now < r.recovers && !r.mayRecover(now) {
			return r.refuseShare(now), nil
		}
		t.Exit = true
		return nil, nil
	}
	if now < r.entersAt {
		return r.refuse(now), nil
	}
	op := r.kind.newUpdate(enter)
	done, err := r.update(op, now)
	if err != nil {
		return nil, err
	}
	if !done || !op.ok {
		return r.refuse(now), nil
	}
	*t = r.begin(op.probe, now)
	return nil, nil
}

// mayRecover lets in a share of the requests that grows from none to all while the breaker recovers. A worker lets in no more
// than its share of those that have asked it, and so do all together.
func (r *breakerRule) mayRecover(now int64) bool {
	r.credit += float64(max(now-r.closedAt, 0)) / float64(r.recovers-r.closedAt)
	if r.credit < 1 {
		return false
	}
	r.credit--
	return true
}

func (r *breakerRule) refuseShare(now int64) *family.Refusal {
	refusal := r.Refuse(1, 0, "it recovers: ever more of the requests enter", r.recovers, now)
	refusal.Plain = true
	return refusal
}

func (r *breakerRule) refuse(now int64) *family.Refusal {
	refusal := r.Refuse(r.seen, r.Threshold, r.measure, r.entersAt, now)
	refusal.Share = r.Strategy != rule.ErrorCount
	return refusal
}

// begin begins a probe, and returns its ticket; that of an entry into a closed breaker has no ID.
func (r *breakerRule) begin(p Probe, now int64) family.Ticket {
	if p.Mark == 0 {
		return family.Ticket{Wants: family.Wants{Exit: true}}
	}
	c := r.circuit
	if !c.probing {
		c.probing, c.renewed = true, now
		r.kind.probing = append(r.kind.probing, c)
	}
	c.running = append(c.running, running{Probe: p, by: r})
	return family.Ticket{At: p.Mark, ID: uint64(p.Place) + 1, Wants: family.Wants{Exit: true, Answer: true}}
}

func probeOf(t family.Ticket) Probe {
	return Probe{Mark: t.At, Place: int(t.ID-1) % MaxOutstanding}
}

// Undo implements family.Checker.
func (r *breakerRule) Undo(t family.Ticket, now int64) error {
	if t.ID == 0 {
		return nil
	}
	return r.giveBack(probeOf(t), now)
}

func (r *breakerRule) giveBack(p Probe, now int64) error {
	r.circuit.drop(p.Mark)
	op := r.kind.newUpdate(giveBack)
	op.probe = p
	_, err := r.update(op, now)
	return err
}

// conclude ends a probe, and reports whether that decided anything.
func (r *breakerRule) conclude(p Probe, end outcome.End, now int64) (decided bool, err error) {
	bad, counts := r.params.Weigh(end)
	if !counts {
		return true, r.giveBack(p, now)
	}
	r.circuit.drop(p.Mark)
	op := r.kind.newUpdate(conclude)
	op.probe, op.bad = p, bad
	done, err := r.update(op, now)
	return !done || op.ok, err
}

// Answered implements family.Checker. A response time is known then. Whether the service fails is decided when the answer
// has gone on for a while, or has ended.
func (r *breakerRule) Answered(t family.Ticket, end outcome.End, now int64) (family.Ticket, error) {
	if r.Strategy == rule.SlowRequestRatio {
		_, err := r.conclude(probeOf(t), end, now)
		return family.Ticket{Wants: family.Wants{Exit: true}}, err
	}
	if i := r.circuit.find(t.At); i >= 0 {
		r.circuit.running[i].answered, r.circuit.running[i].end = now, end
	}
	t.Answer = false
	return t, nil
}

// Exit implements family.Checker: it counts a completion. The end of a probe decides, and is written at once; one that has
// lost its place, or was decided before, is a completion like any other.
func (r *breakerRule) Exit(t family.Ticket, end outcome.End, now int64) error {
	if t.ID != 0 && r.circuit.find(t.At) >= 0 {
		if decided, err := r.conclude(probeOf(t), end, now); decided {
			return err
		}
	}
	bad, counts := r.params.Weigh(end)
	if !counts {
		return nil
	}
	return r.count(now, bad)
}

// Release implements family.Checker. A gauge of a rule that is gone must not stay at its last value.
func (r *breakerRule) Release(now int64) {
	if r.pending.Total > 0 {
		r.Env.Check("bringing a circuit breaker up to date", r.sync(now))
	}
	c := r.circuit
	if !r.kind.circuits.Release(r.id, false) {
		return
	}
	c.export(now)
	if c.exported && c.shown != Closed {
		r.Env.Metrics.Gauge(c.gauge, uint64(Closed), now)
	}
}
