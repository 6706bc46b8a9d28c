package hotspot

import (
	"encoding/binary"
	"math/bits"

	"sentinel-envoy/shared/record"
)

// Seed is the key of the hash of values: one for the process, which clients cannot know.
type Seed [2]uint64

// Hash is SipHash-2-4 of a value.
func (s Seed) Hash(value string) uint64 {
	v := sip{s[0] ^ 0x736f6d6570736575, s[1] ^ 0x646f72616e646f6d, s[0] ^ 0x6c7967656e657261, s[1] ^ 0x7465646279746573}
	rest := value
	for ; len(rest) >= 8; rest = rest[8:] {
		v.absorb(word(rest[:8]))
	}
	v.absorb(word(rest) | uint64(len(value))<<56)
	v[2] ^= 0xff
	for range 4 {
		v.round()
	}
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}

// Join is a hash of two hashes.
func (s Seed) Join(a, b uint64) uint64 {
	var text [16]byte
	binary.LittleEndian.PutUint64(text[:], a)
	binary.LittleEndian.PutUint64(text[8:], b)
	return s.Hash(string(text[:]))
}

// Of is the key of the hash of one rule's values.
func (s Seed) Of(rule record.ID) Seed {
	return Seed{s.Hash("0" + string(rule[:])), s.Hash("1" + string(rule[:]))}
}

// word is up to 8 bytes as a little-endian number.
func word(s string) (w uint64) {
	for i := range len(s) {
		w |= uint64(s[i]) << (8 * i)
	}
	return w
}

type sip [4]uint64

func (v *sip) absorb(m uint64) {
	v[3] ^= m
	v.round()
	v.round()
	v[0] ^= m
}

func (v *sip) round() {
	v[0] += v[1]
	v[1] = bits.RotateLeft64(v[1], 13) ^ v[0]
	v[0] = bits.RotateLeft64(v[0], 32)
	v[2] += v[3]
	v[3] = bits.RotateLeft64(v[3], 16) ^ v[2]
	v[0] += v[3]
	v[3] = bits.RotateLeft64(v[3], 21) ^ v[0]
	v[2] += v[1]
	v[1] = bits.RotateLeft64(v[1], 17) ^ v[2]
	v[2] = bits.RotateLeft64(v[2], 32)
}

// Key is the process's seed, as one worker knows it.
type Key struct {
	table  *record.Table
	cell   record.Cell
	random func() uint64
	seed   Seed
	known  bool
}

// NewKey returns the seed of a table's process. random makes one where the process has none yet.
func NewKey(table *record.Table, random func() uint64) *Key {
	return &Key{table: table, cell: record.Cell{ID: record.IDOf("hotspot", "seed")}, random: random}
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
