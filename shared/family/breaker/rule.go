package breaker

import (
	"strconv"

	"sentinel-envoy/shared/family"
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
func (r *breakerRule) Enter(now int64) (family.Ticket, *family.Refusal, error) {
	c := r.circuit
	c.use()
	if !c.current() {
		if err := c.sync(now); err != nil {
			return family.Ticket{}, nil, err
		}
	}
	if c.phase == Closed {
		return family.Ticket{Exit: true}, nil, nil
	}
	if now < c.entersAt {
		return family.Ticket{}, r.refuse(now), nil
	}
	op := r.kind.newUpdate(enter)
	done, err := c.update(op, now)
	if err != nil {
		return family.Ticket{}, nil, err
	}
	if !done || !op.ok {
		return family.Ticket{}, r.refuse(now), nil
	}
	t := ticketOf(op.probe)
	t.Answer = t.ID != 0 && r.Strategy != rule.SlowRequestRatio
	return t, nil, nil
}

func (r *breakerRule) refuse(now int64) *family.Refusal {
	return r.Refuse(r.circuit.seen, r.Threshold, r.measure, r.circuit.entersAt, now)
}

// ticketOf is a probe as a ticket; that of an entry into a closed breaker has no ID.
func ticketOf(p Probe) family.Ticket {
	return family.Ticket{At: p.Deadline, ID: p.Generation<<8 | uint64(p.Place), Exit: true}
}

func probeOf(t family.Ticket) Probe {
	return Probe{Generation: t.ID >> 8, Place: int(t.ID&0xff) % MaxOutstanding, Deadline: t.At}
}

// Undo implements family.Checker.
func (r *breakerRule) Undo(t family.Ticket, now int64) error {
	if t.ID == 0 {
		return nil
	}
	op := r.kind.newUpdate(giveBack)
	op.probe = probeOf(t)
	_, err := r.circuit.update(op, now)
	return err
}

// Answered implements family.Checker. Where the entry is the probe of a breaker that looks at failures, the beginning of an
// answer is a success: a connection may last for long. Its end is then a completion like any other.
func (r *breakerRule) Answered(t family.Ticket, now int64) (family.Ticket, error) {
	op := r.kind.newUpdate(conclude)
	op.probe = probeOf(t)
	_, err := r.circuit.update(op, now)
	return family.Ticket{Exit: true}, err
}

// Exit implements family.Checker: it counts a completion. The end of a probe decides, and is written at once; one that has
// lost its place is a completion like any other.
func (r *breakerRule) Exit(t family.Ticket, end family.End, now int64) error {
	c := r.circuit
	bad := c.params.Bad(end.RT, end.Failed)
	if t.ID != 0 {
		op := r.kind.newUpdate(conclude)
		op.probe, op.bad = probeOf(t), bad
		if done, err := c.update(op, now); !done || op.ok {
			return err
		}
	}
	return c.count(now, bad)
}

// Release implements family.Checker. A gauge of a rule that is gone must not stay at its last value.
func (r *breakerRule) Release(now int64) {
	if c := r.circuit; r.kind.circuits.Release(r.id, false) && c.exported && c.shown != Closed {
		r.Env.Metrics.Gauge(c.gauge, uint64(Closed), now)
	}
}
