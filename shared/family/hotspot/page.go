package hotspot

import (
	"encoding/binary"
	"math"

	"sentinel-envoy/shared/rule"
)

// A page is the time before which nothing is known of any value (8 bytes, in nanoseconds, 0 where all is known), and
// then the values that were seen, of any rule: hash (8 bytes), rule (4), and the bucket's time and permits (8 each), most
// and the time to be full (4 each), little-endian. That time is in milliseconds or, with the highest bit, in seconds.
const (
	pageHeader = 8
	valueSize  = 8 + 4 + 8 + 8 + 4 + 4
	// room is how many values fit a page.
	room = 16
)

// page is the bytes of a page, to be read and changed in place.
type page []byte

func (p page) intact() bool {
	n := len(p) - pageHeader
	return n >= 0 && n%valueSize == 0 && n <= room*valueSize && p.lostAt() >= 0
}

func (p page) lostAt() int64 { return int64(binary.LittleEndian.Uint64(p)) }

func (p page) values() int { return (len(p) - pageHeader) / valueSize }

func (p page) value(i int) seen { return valueOf(p[pageHeader+i*valueSize:]) }

// valueOf is what the bytes of a value say.
func valueOf(v []byte) seen {
	return seen{
		hash: binary.LittleEndian.Uint64(v), rule: binary.LittleEndian.Uint32(v[8:]),
		// Nobody of us writes less than coolest, from which it is counted down.
		bucket: bucket{
			at: int64(binary.LittleEndian.Uint64(v[12:])), left: max(int64(binary.LittleEndian.Uint64(v[20:])), coolest),
		},
		most: binary.LittleEndian.Uint32(v[28:]), fullMs: expand(binary.LittleEndian.Uint32(v[32:])),
	}
}

func (p page) put(i int, s seen) {
	v := p[pageHeader+i*valueSize:]
	binary.LittleEndian.PutUint64(v, s.hash)
	binary.LittleEndian.PutUint32(v[8:], s.rule)
	binary.LittleEndian.PutUint64(v[12:], uint64(s.at))
	binary.LittleEndian.PutUint64(v[20:], uint64(s.left))
	binary.LittleEndian.PutUint32(v[28:], s.most)
	binary.LittleEndian.PutUint32(v[32:], shrink(s.fullMs))
}

// find is the place of a value, −1 where it has none.
func (p page) find(hash uint64) int {
	for i := range p.values() {
		if binary.LittleEndian.Uint64(p[pageHeader+i*valueSize:]) == hash {
			return i
		}
	}
	return -1
}

// crowded is the rule whose values make room in a full page for one of a newcomer's: the one with most values, the newcomer
// itself where no other has more.
func (p page) crowded(newcomer uint32) uint32 {
	rule, most := newcomer, p.count(newcomer)
	for i := range p.values() {
		if of := p.value(i).rule; of != rule {
			if n := p.count(of); n > most {
				rule, most = of, n
			}
		}
	}
	return rule
}

func (p page) count(rule uint32) (n int) {
	for i := range p.values() {
		if p.value(i).rule == rule {
			n++
		}
	}
	return n
}

// seen is what a page has of a value.
type seen struct {
	hash uint64
	// rule tells the rules of a page apart.
	rule uint32
	bucket
	// most is what the bucket holds at most, 0 of a value that is paced, refusalsMark of a value's refusals; fullMs is how many
	// milliseconds after its time the value has nothing to regain. Whose rule it is need not be known to judge it.
	most   uint32
	fullMs int64
}

// regains is how many permits a value gets that it would not have, if it is forgotten at the time now; about that many,
// where it is filled in parts.
func (s *seen) regains(now int64) int64 {
	full := s.fullMs * 1e6
	rest := s.at + full - now
	switch {
	case rest <= 0:
		return 0
	case s.most == refusalsMark:
		return 1
	case s.most == 0:
		return (rest + full - 1) / full
	}
	return max(int64(s.most)-max(s.left, 0), 0)
}

// heat is larger the hotter a value is: what it regains and by how much it is refused.
func (s *seen) heat(now int64) int64 {
	regains := s.regains(now)
	switch {
	case regains == 0:
		return 0
	case s.most == refusalsMark:
		return s.refusalsHeat()
	}
	return regains - min(s.left, 0)
}

// ahead is whether the bucket is of a time to come: nobody of us has written it.
func (s *seen) ahead(now int64) bool {
	if s.most == 0 {
		return s.at > now+rule.FarthestTurn
	}
	return s.at > now
}

const (
	// inSeconds is the bit of a time in a page that is in seconds.
	inSeconds = 1 << 31
	// longestMs is the longest time that a page can say, in milliseconds.
	longestMs = (inSeconds - 1) * 1000
)

// shrink is a time in milliseconds as a page has it, not shorter than it is; expand is the other way round.
func shrink(ms int64) uint32 {
	if ms < inSeconds {
		return uint32(max(ms, 0))
	}
	return inSeconds | uint32(min((ms-1)/1000+1, inSeconds-1))
}

func expand(t uint32) int64 {
	if t < inSeconds {
		return int64(t)
	}
	return int64(t-inSeconds) * 1000
}

// clip is a number as a page has it.
func clip(v int64) uint32 { return uint32(min(max(v, 0), math.MaxUint32)) }
