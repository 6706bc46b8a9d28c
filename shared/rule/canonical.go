package rule

import (
	"encoding/binary"
	"hash"
	"hash/fnv"
	"math"
	"sync"
)

// Hash is a hash of the rule under its id. The hashes of a rule set are added up, so that their order does not matter.
func Hash(id string, r Rule) uint64 {
	h := fnv.New64a()
	writeCanonical(h, id, r)
	return h.Sum64()
}

// buffers are for what a rule is as bytes: an update takes that of every rule.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// writeCanonical writes a rule under an id. A hash never fails to write.
func writeCanonical(to hash.Hash, id string, r Rule) {
	b := buffers.Get().(*[]byte)
	*b = AppendContent(appendString((*b)[:0], id), r)
	_, _ = to.Write(*b)
	buffers.Put(b)
}

// AppendContent appends all that a rule is but its id, in one fixed form.
func AppendContent(b []byte, r Rule) []byte {
	b = r.Canonical(appendString(b, r.Family().Name))
	if only := r.For().Only; only != nil {
		b = only.append(appendString(b, r.For().LimitApp))
	}
	return append(r.For().Trial.append(r.For().Block.Append(b)), r.For().Candidate...)
}

// append appends the origins.
func (o *Origins) append(b []byte) []byte {
	b = appendInts(appendString(b, o.From.Name), flag(o.Others), int64(o.From.Source), int64(o.From.TrustedHops))
	for _, name := range o.Names {
		b = appendString(b, name)
	}
	return b
}

// Key tells rules apart by all that they are: rules of one key decide alike.
type Key [16]byte

// KeyOf is the key of a rule that has an id.
func KeyOf(r Rule) (key Key) {
	h := fnv.New128a()
	writeCanonical(h, r.For().ID, r)
	h.Sum(key[:0])
	return key
}

// Canonical appends the rule's content.
func (r *Flow) Canonical(b []byte) []byte {
	b = appendString(b, r.Resource)
	b = appendString(b, r.RefResource)
	b = appendInts(b, flag(r.Regex), int64(r.TokenCalculateStrategy), int64(r.ControlBehavior), real(r.Threshold),
		int64(r.RelationStrategy), int64(r.MaxQueueingTimeMs), int64(r.WarmUpPeriodSec), int64(r.WarmUpColdFactor),
		int64(r.StatIntervalInMs), r.LowMemUsageThreshold, r.HighMemUsageThreshold, r.MemLowWaterMarkBytes,
		r.MemHighWaterMarkBytes, int64(r.Window), r.Burst)
	return r.Calendar.append(r.Cost.canonical(r.CountOnly.canonical(r.Cluster.canonical(b))))
}

// Canonical appends the rule's content.
func (r *CircuitBreaker) Canonical(b []byte) []byte {
	b = appendString(b, r.Resource)
	return appendInts(b, flag(r.Regex), int64(r.Strategy), int64(r.RetryTimeoutMs), int64(r.MinRequestAmount),
		int64(r.StatIntervalMs), int64(r.StatSlidingWindowBucketCount), int64(r.MaxAllowedRtMs), real(r.Threshold),
		int64(r.ProbeNum), real(r.RetryTimeoutMultiplier), int64(r.MaxRetryTimeoutMs), int64(r.RecoveryDurationMs), int64(r.Forced))
}

// Canonical appends the rule's content.
func (r *Isolation) Canonical(b []byte) []byte {
	b = appendString(b, r.Resource)
	return appendInts(b, flag(r.Regex), int64(r.MetricType), int64(r.Threshold))
}

// Canonical appends the rule's content.
func (r *Hotspot) Canonical(b []byte) []byte {
	b = appendString(b, r.Resource)
	b = appendInts(b, flag(r.Regex), int64(r.MetricType), int64(r.ControlBehavior), r.Threshold,
		r.MaxQueueingTimeMs, r.BurstCount, r.DurationInSec, r.ParamsMaxCapacity, int64(len(r.SpecificItems)), int64(len(r.Params)))
	for _, item := range r.SpecificItems {
		b = appendInts(appendString(b, item.ValStr), int64(item.ValKind), item.Threshold, int64(item.Pattern), flag(item.Shared))
	}
	b = r.Param.append(b)
	for i := range r.Params {
		b = r.Params[i].append(b)
	}
	if r.BanAfter > 0 || r.BanMs > 0 {
		b = appendInts(appendString(b, "ban"), r.BanAfter, r.BanMs)
	}
	return r.Calendar.append(r.Cost.canonical(r.CountOnly.canonical(r.Cluster.canonical(b))))
}

// canonical appends the answers, nothing where there are none.
func (a *Answers) canonical(b []byte) []byte {
	if a == nil {
		return b
	}
	return appendString(appendString(b, "countOnly"), a.String())
}

// canonical appends the cost, nothing where there is none.
func (c *Cost) canonical(b []byte) []byte {
	if c == nil {
		return b
	}
	return appendInts(c.Param.append(append(b, "cost"...)), c.Default, c.Max)
}

// append appends the parameter.
func (p *Param) append(b []byte) []byte {
	b = appendInts(appendString(b, p.ParamKey), int64(p.ParamSource), int64(p.ParamIndex), int64(p.TrustedHops), int64(p.V4PrefixLen),
		int64(p.V6PrefixLen), flag(p.Lowercase), int64(p.Missing), int64(len(p.ParamPath)))
	for _, part := range p.ParamPath {
		b = appendString(b, part)
	}
	return b
}

// Canonical appends the rule's content.
func (r *Authority) Canonical(b []byte) []byte {
	b = appendString(appendString(b, r.Resource), r.LimitApp)
	return r.Refused.append(appendInts(b, flag(r.Regex), int64(r.Strategy), int64(r.EmptyOrigin)))
}

// Canonical appends the rule's content.
func (r *System) Canonical(b []byte) []byte {
	return appendInts(b, int64(r.MetricType), real(r.TriggerCount), int64(r.Strategy))
}

// appendString puts the length first, so that neighbouring strings cannot run into each other.
func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(s))), s...)
}

func appendInts(b []byte, values ...int64) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	return b
}

func flag(v bool) int64 {
	if v {
		return 1
	}
	return 0
}

// real adds 0 because -0 equals 0 and has other bits.
func real(v float64) int64 { return int64(math.Float64bits(v + 0)) }
