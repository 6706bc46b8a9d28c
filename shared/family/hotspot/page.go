package hotspot

import "encoding/binary"

// A page is the time before which nothing is known of any value (8 bytes, in nanoseconds, 0 where all is known), and
// then the values that were seen: hash, bucket's time and permits (8 bytes each), little-endian.
const (
	pageHeader = 8
	valueSize  = 8 + 8 + 8
)

// page is the bytes of a page, to be read and changed in place.
type page []byte

func (p page) intact(room int) bool {
	n := len(p) - pageHeader
	return n >= 0 && n%valueSize == 0 && n <= room*valueSize && p.lostAt() >= 0
}

func (p page) lostAt() int64 { return int64(binary.LittleEndian.Uint64(p)) }

func (p page) values() int { return (len(p) - pageHeader) / valueSize }

func (p page) value(i int) []byte { return p[pageHeader+i*valueSize:][:valueSize] }

func (p page) hash(i int) uint64 { return binary.LittleEndian.Uint64(p.value(i)) }

func (p page) bucket(i int) bucket {
	v := p.value(i)
	// Nobody of us writes less than coolest, from which it is counted down.
	return bucket{at: int64(binary.LittleEndian.Uint64(v[8:])), left: max(int64(binary.LittleEndian.Uint64(v[16:])), coolest)}
}

func (p page) put(i int, hash uint64, b bucket) {
	v := p.value(i)
	binary.LittleEndian.PutUint64(v, hash)
	binary.LittleEndian.PutUint64(v[8:], uint64(b.at))
	binary.LittleEndian.PutUint64(v[16:], uint64(b.left))
}

// find is the place of a value, −1 where it has none.
func (p page) find(hash uint64) int {
	for i := range p.values() {
		if p.hash(i) == hash {
			return i
		}
	}
	return -1
}
