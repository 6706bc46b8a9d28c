package hotspot

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"sentinel-envoy/shared/record"
)

// Seed is the key of the hash of values: one for the process, which clients cannot know.
type Seed [2]uint64

// Hash is SipHash-2-4 of a value.
func (s Seed) Hash(value string) uint64 {
	a, b, c, d := s[0]^0x736f6d6570736575, s[1]^0x646f72616e646f6d, s[0]^0x6c7967656e657261, s[1]^0x7465646279746573
	for rest, last := value, false; !last; {
		var m uint64
		if last = len(rest) < 8; last {
			m = word(rest) | uint64(len(value))<<56
		} else {
			m, rest = word8(rest), rest[8:]
		}
		d ^= m
		a, b, c, d = sipRound(a, b, c, d)
		a, b, c, d = sipRound(a, b, c, d)
		a ^= m
	}
	c ^= 0xff
	for range 4 {
		a, b, c, d = sipRound(a, b, c, d)
	}
	return a ^ b ^ c ^ d
}

// Join is a hash of two hashes: that of their bytes, which are written into text. A copy would be on TinyGo's heap.
func (s Seed) Join(text *[16]byte, a, b uint64) uint64 {
	binary.LittleEndian.PutUint64(text[:], a)
	binary.LittleEndian.PutUint64(text[8:], b)
	return s.Hash(unsafe.String(&text[0], len(text)))
}

// Of is the key of the hash of one rule's values.
func (s Seed) Of(rule record.ID) Seed {
	return Seed{s.Hash("0" + string(rule[:])), s.Hash("1" + string(rule[:]))}
}

// word8 is the first 8 bytes as a little-endian number.
func word8(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// word is up to 8 bytes as a little-endian number.
func word(s string) (w uint64) {
	for i := range len(s) {
		w |= uint64(s[i]) << (8 * i)
	}
	return w
}

func sipRound(a, b, c, d uint64) (uint64, uint64, uint64, uint64) {
	a += b
	b = bits.RotateLeft64(b, 13) ^ a
	a = bits.RotateLeft64(a, 32)
	c += d
	d = bits.RotateLeft64(d, 16) ^ c
	a += d
	d = bits.RotateLeft64(d, 21) ^ a
	c += b
	b = bits.RotateLeft64(b, 17) ^ c
	c = bits.RotateLeft64(c, 32)
	return a, b, c, d
}

// Key is the process's seed, as one worker knows it.
type Key struct {
	table  *record.Table
	cell   record.Cell
	random func() uint64
	seed   Seed
	known  bool
}

// NewKey returns a seed of a table's process, by its name. random makes one where the process has none yet.
func NewKey(table *record.Table, name string, random func() uint64) *Key {
	return &Key{table: table, cell: record.Cell{ID: record.IDOf("hotspot", name)}, random: random}
}

// Seed is the process's seed. An error is the host's, record.ErrFull or ErrContended.
func (k *Key) Seed(now int64) (Seed, error) {
	if k.known {
		return k.seed, nil
	}
	err := k.table.Update(&k.cell, now, k)
	k.known = err == nil
	return k.seed, err
}

// Touch marks the record as in use, and takes over what it has: where it was lost, another worker may have made it anew.
func (k *Key) Touch(now int64) error {
	if !k.known {
		return nil
	}
	if err := k.table.Touch(&k.cell, now); err != nil {
		return err
	}
	return k.table.Update(&k.cell, now, k)
}

// Refresh takes over what the record has, if there is one: a document may have brought it.
func (k *Key) Refresh(now int64) error {
	if !k.known {
		return nil
	}
	return k.table.Update(&k.cell, now, k)
}

// Apply implements record.Transition: it reads the seed, and writes one where there is none.
func (k *Key) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	switch {
	case len(r.Payload) == 16:
		k.seed = Seed{binary.LittleEndian.Uint64(r.Payload), binary.LittleEndian.Uint64(r.Payload[8:])}
		k.known = true
		return dst, record.Keep
	case r.Payload != nil:
		return dst, record.Unreadable
	case !k.known:
		k.seed, k.known = Seed{k.random(), k.random()}, true
	}
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(dst, k.seed[0]), k.seed[1]), record.Store
}
