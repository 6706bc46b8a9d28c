package family

import (
	"math"
	"strconv"

	"sentinel-envoy/shared/answer"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/machine"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rule"
)

// Unavailable is the reason of a refusal where a fault of ours kept us from deciding and the failure mode is closed.
const Unavailable = "unavailable"

// Refusal says why an entry was refused.
type Refusal struct {
	// Reason is the family of the rule, or Unavailable; Rule is its id, empty with Unavailable.
	Reason, Rule string
	Resource     string
	// Seen is the figure that the rule looks at, Threshold its bound, and Measure what both count.
	Seen, Threshold float64
	Measure         string
	// Plain is whether there is no figure: Measure says it all.
	Plain bool
	// Share is whether both are shares from 0 to 1, which people are told in per cent.
	Share bool
	// RetryAfterMs is in how many milliseconds asking again makes sense, −1 if that is not known.
	RetryAfterMs int64
	// ByRule and OfResource are what the rule and the resource say of the answer, nil where nothing.
	ByRule, OfResource *answer.Block
}

// RetryAfter is in how many whole seconds asking again makes sense, −1 if that is not known.
func (r *Refusal) RetryAfter() int64 {
	if r.RetryAfterMs < 0 {
		return -1
	}
	return (r.RetryAfterMs + 999) / 1000
}

// Same is whether both say the same, but for when to ask again.
func (r *Refusal) Same(o *Refusal) bool {
	return r.Seen == o.Seen && r.Threshold == o.Threshold && r.Plain == o.Plain && r.Share == o.Share &&
		r.Rule == o.Rule && r.Reason == o.Reason && r.Resource == o.Resource && r.Measure == o.Measure
}

// AppendBy appends the rule's kind and id to dst, as "flow:some-rule".
func (r *Refusal) AppendBy(dst []byte) []byte {
	return append(append(append(dst, r.Reason...), ':'), r.Rule...)
}

// AppendFigure appends what the rule saw and its threshold to dst, as "50/50", or of shares "75%/50%".
func (r *Refusal) AppendFigure(dst []byte) []byte {
	if r.Share {
		dst = append(appendPercent(dst, r.Seen), "%/"...)
		return append(appendPercent(dst, r.Threshold), '%')
	}
	return AppendNumber(append(AppendNumber(dst, r.Seen), '/'), r.Threshold)
}

// AppendText appends the figure with what it counts to dst, as "50 of 50 in 1000 ms".
func (r *Refusal) AppendText(dst []byte) []byte {
	if r.Plain {
		return append(dst, r.Measure...)
	}
	if r.Share {
		dst = append(append(appendPercent(dst, r.Seen), " % "...), r.Measure...)
		return append(appendPercent(append(dst, ", threshold "...), r.Threshold), " %"...)
	}
	dst = AppendNumber(append(AppendNumber(dst, r.Seen), " of "...), r.Threshold)
	return append(append(dst, ' '), r.Measure...)
}

// appendPercent appends a share in per cent, to a tenth.
func appendPercent(dst []byte, share float64) []byte {
	return AppendNumber(dst, math.Round(share*1000)/10)
}

// Number is a figure as people write it, AppendNumber the same appended to dst.
func Number(v float64) string { return string(AppendNumber(nil, v)) }

// AppendNumber is described with Number. Nearly all figures are whole numbers, which cost a fraction of the others.
func AppendNumber(dst []byte, v float64) []byte {
	const exact = 1 << 53
	if n := int64(v); -exact < v && v < exact && float64(n) == v {
		return strconv.AppendInt(dst, n, 10)
	}
	return strconv.AppendFloat(dst, v, 'f', -1, 64)
}

// Base is what every checker has: whose rule it is, and what it has refused.
type Base struct {
	Env    *Env
	Family *rule.Family
	Mode   config.Mode
	// Machine is where the filter has the figures of the machine from; nil where it has no system_source.
	Machine *machine.Source
	// ID is the rule's, Resource what it is bound to. CandidateOf is the rule that it is a candidate of, "" if of none.
	ID, Resource, CandidateOf string
	// Annotates is whether what it would refuse goes to the upstream, with a word about it.
	Annotates bool
	// block is what the rule says of the answer.
	block *answer.Block
	// Shared is the resource where the rule has an expression: each that it matches has records of its own.
	shared string
	// Queue has the entries that wait, of a rule whose tickets may have to wait.
	Queue *Queue
	// Interest is what the rule looks at of how an entry ends.
	Interest Interest
	// Audit counts what the rule decides while debug messages are written.
	Audit Audit
	// Blocked are the entries that were refused, Shadow those that would have been if filter and rule enforced.
	Blocked, Shadow metrics.Counter
	// waits are of those that had to wait for their turns, nil where none had to yet.
	waits *waits
}

// waits are entries that had to wait, and for how long all of them together.
type waits struct {
	count, ms metrics.Counter
	ns        uint64
}

// Waited counts an entry that has to wait for so many nanoseconds.
func (b *Base) Waited(ns int64) {
	if b.waits == nil {
		b.waits = &waits{
			count: metrics.Counter{Name: "sentinel_waited" + b.Labels()},
			ms:    metrics.Counter{Name: "sentinel_wait_ms_sum" + b.Labels()},
		}
	}
	b.waits.count.N++
	b.waits.ns += uint64(max(ns, 0))
	b.waits.ms.N = b.waits.ns / 1e6
}

// Labels are those of the rule's metrics: the resource, the rule and its kind.
func (b *Base) Labels() string { return b.Blocked.Name[len(blockedName):] }

// Export brings the rule's counters up to date, at the time now in nanoseconds.
func (b *Base) Export(now int64) {
	m := b.Env.Metrics
	m.Export(&b.Blocked, now)
	m.Export(&b.Shadow, now)
	if b.waits != nil {
		m.Export(&b.waits.count, now)
		m.Export(&b.waits.ms, now)
	}
}

const blockedName = "sentinel_blocked"

// Audit is how often a rule has let an entry in or refused it. What a later rule refused is not taken back.
type Audit struct{ admitted, refused uint64 }

// Count adds a decision.
func (a *Audit) Count(admitted bool) {
	if admitted {
		a.admitted++
	} else {
		a.refused++
	}
}

// FlushAudit returns a line about what was decided since the last time, "" if nothing was.
func (b *Base) FlushAudit() string {
	a := b.Audit
	if b.Audit = (Audit{}); a == b.Audit {
		return ""
	}
	return "decided kind=" + b.Family.Name + " rule=" + b.ID + " resource=" + strconv.Quote(b.Resource) +
		" admitted=" + strconv.FormatUint(a.admitted, 10) + " refused=" + strconv.FormatUint(a.refused, 10)
}

// NewBase returns the base of a rule that a filter has bound to a resource. label is the resource that metrics name.
func NewBase(env *Env, r rule.Rule, f *Filter, resource, label string) Base {
	b := Base{Env: env, Family: r.Family(), Mode: f.Mode, Machine: f.Machine, ID: r.For().ID, Resource: resource}
	b.block = r.For().Block
	if r.For().Regex {
		b.shared = resource
	}
	spared := "sentinel_shadow_blocked"
	if to := r.For(); to.Trial != nil {
		if to.Mode == rule.Shadow {
			b.Mode = config.Shadow
		}
		if b.Annotates = to.Action == rule.Annotate && b.Mode == config.Enforce; b.Annotates {
			spared = "sentinel_annotated"
		}
		if to.Candidate != "" {
			b.CandidateOf, b.ID = b.ID, b.ID+"@"+to.Candidate
			b.shared += "\x00candidate" // no name of a resource has such a byte, so it has no other rule's records
			spared = "sentinel_candidate_blocked"
		}
	}
	labels := metrics.Resource(label) + metrics.Rule(b.ID) + metrics.Kind(b.Family.Name)
	b.Blocked.Name, b.Shadow.Name = blockedName+labels, spared+labels
	return b
}

// Spares is whether the rule alone never refuses.
func (b *Base) Spares() bool { return b.Annotates || b.Mode == config.Shadow }

// RecordID names a record of the rule's. Rules of a family with one id have the same; shadow decisions, what shape tells
// apart, and the resources of an expression have each their own.
func (b *Base) RecordID(what string, shape ...string) record.ID {
	return record.IDOf(append([]string{b.Family.Name, what, b.ID, b.Mode.String(), b.shared}, shape...)...)
}

// Refuse is a refusal of the rule's. freeAt is when asking again makes sense, in nanoseconds, 0 if that is not known. It is
// valid until the next entry is asked about.
func (b *Base) Refuse(seen, threshold float64, measure string, freeAt, now int64) *Refusal {
	r := &b.Env.refusal
	r.Reason, r.Rule, r.Resource = b.Family.Name, b.ID, b.Resource
	r.Seen, r.Threshold, r.Measure = seen, threshold, measure
	r.Plain, r.Share, r.RetryAfterMs = false, false, -1
	r.ByRule, r.OfResource = b.block, nil
	if freeAt > 0 {
		r.RetryAfterMs = max(1, (freeAt-now+999_999)/1e6)
	}
	return r
}

// RefusePlainly is a refusal of the rule's for a reason that has no figure: one entry, of none that may enter.
func (b *Base) RefusePlainly(reason string, now int64) *Refusal {
	r := b.Refuse(1, 0, reason, 0, now)
	r.Plain = true
	return r
}

// Of implements Checker.
func (b *Base) Of() *Base { return b }

// Undo implements Checker for rules that take nothing.
func (b *Base) Undo(Ticket, int64) error { return nil }

// Answered implements Checker for rules that do not ask for it.
func (b *Base) Answered(t Ticket, _ outcome.End, _ int64) (Ticket, error) { return t, nil }

// Status implements Checker for rules that do not ask for it.
func (b *Base) Status(Ticket, outcome.Answer, int64) (bool, error) { return false, nil }

// Exit implements Checker for rules that do not ask for it.
func (b *Base) Exit(Ticket, outcome.End, int64) error { return nil }

// Release implements Checker for rules that hold nothing.
func (b *Base) Release(int64) {}
