// Package record keeps small records in Envoy's shared data, where every worker of the process sees them, and changes
// them by compare-and-set. What is in a record is its user's.
//
// Shared data has no delete, so records live in numbered slots that are reused: a directory says which slot an id has.
// Each record says whose it is, so that a directory that was lost is made anew from the records.
package record

import (
	"encoding/binary"
	"hash/fnv"
)

// ID names a record. It is a hash, so that records have a fixed size. The zero ID is nobody's.
type ID [16]byte

// IDOf is the ID of a record that parts describe. Different lists of parts give different IDs.
func IDOf(parts ...string) ID {
	h := fnv.New128a()
	var n [8]byte
	for _, p := range parts {
		binary.LittleEndian.PutUint64(n[:], uint64(len(p)))
		_, _ = h.Write(n[:]) // a hash never fails
		_, _ = h.Write([]byte(p))
	}
	var id ID
	h.Sum(id[:0])
	return id
}

// page is which of some pages of a directory has the id. It mixes all of the hash: the high bytes of FNV hardly depend on
// the end of what was hashed, which is where ids differ.
func (id ID) page(pages int) int {
	h := binary.BigEndian.Uint64(id[:8]) ^ binary.BigEndian.Uint64(id[8:])
	return int(h * 0x9e3779b97f4a7c15 >> 32 % uint64(pages))
}
