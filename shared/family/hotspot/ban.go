package hotspot

import "math"

// The refusals of a value stand in its page as another value's bucket would, where its rule bans: most is refusalsMark, at
// is when the first of left refusals was or, with 0 left, when the ban began. They are under another hash, which no client's
// value has but by chance, in the same page: one update sees both.
const (
	refusalsMark = math.MaxUint32
	// refusalsBits are those in which the hash differs: which page a value belongs to says the upper half.
	refusalsBits = 0x7b3a91c5
)

// refusalsHeat is larger than that of any bucket, and of a ban larger than of refusals that are still counted.
func (s *seen) refusalsHeat() int64 {
	if s.left == 0 {
		return math.MaxInt64
	}
	return math.MaxInt64/2 + s.left
}

// bannedUntil is until when a value is banned at the time now, in nanoseconds, 0 if it is not.
func (p page) bannedUntil(hash uint64, l *Limit, now int64) int64 {
	if l.BanAfter == 0 {
		return 0
	}
	i := p.find(hash ^ refusalsBits)
	if i < 0 {
		return 0
	}
	s := p.value(i)
	if until := s.at + l.BanMs*1e6; s.left == 0 && now < until {
		return until
	}
	return 0
}

// countRefusal counts a refusal of the value at place i of a page that begins at start of dst. With the last that its rule
// allows it is banned.
func (o *taking) countRefusal(dst []byte, start, i int) []byte {
	hash := o.hash ^ refusalsBits
	p := page(dst[start:])
	at := p.find(hash)
	s := seen{hash: hash, rule: o.values.rule, bucket: bucket{at: o.now}, most: refusalsMark}
	if at < 0 {
		dst, at = o.place(dst, start, i)
	} else if old := p.value(at); old.left > 0 && !old.ahead(o.now) && o.now-old.at <= o.limit.DurationMs*1e6 {
		s.bucket = old.bucket
	}
	s.fullMs = o.limit.DurationMs
	if s.left++; s.left >= o.limit.BanAfter {
		s.bucket, s.fullMs = bucket{at: o.now}, o.limit.BanMs
		o.verdict.Banned, o.verdict.Begins, o.verdict.FreeAt = true, true, o.now+o.limit.BanMs*1e6
	}
	page(dst[start:]).put(at, s)
	return dst
}
