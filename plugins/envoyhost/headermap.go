package envoyhost

import (
	"encoding/binary"
	"unsafe"
)

// wordSize is the size of a number in an encoded header map, in bytes.
const wordSize = 4

// HeaderMap is a list of headers that a call gives to the host. It keeps what it was encoded to, for the next call, and its
// memory, for the next list. Its zero value has none.
type HeaderMap struct {
	number      uint32
	sizes, text []byte
	encoded     []byte
	current     bool
}

// Reset removes all headers.
func (m *HeaderMap) Reset() {
	m.number, m.current = 0, false
	m.sizes, m.text = m.sizes[:0], m.text[:0]
}

// Add adds a header by its lower-case name.
func (m *HeaderMap) Add(name, value string) {
	m.AddBytes(name, unsafe.Slice(unsafe.StringData(value), len(value)))
}

// AddBytes is Add for a value that the caller may overwrite afterwards.
func (m *HeaderMap) AddBytes(name string, value []byte) {
	m.number++
	m.current = false
	m.sizes = binary.LittleEndian.AppendUint32(m.sizes, uint32(len(name)))
	m.sizes = binary.LittleEndian.AppendUint32(m.sizes, uint32(len(value)))
	m.text = append(append(m.text, name...), 0)
	m.text = append(append(m.text, value...), 0)
}

// AddAll adds the headers of another list.
func (m *HeaderMap) AddAll(other *HeaderMap) {
	m.number += other.number
	m.current = false
	m.sizes = append(m.sizes, other.sizes...)
	m.text = append(m.text, other.text...)
}

// encode returns the headers as the host has them: their number, the sizes of each one's name and value, and these with a
// zero byte after each. They are void with the next call of Add or Reset.
func (m *HeaderMap) encode() []byte {
	if !m.current {
		m.encoded = binary.LittleEndian.AppendUint32(m.encoded[:0], m.number)
		m.encoded = append(append(m.encoded, m.sizes...), m.text...)
		m.current = true
	}
	return m.encoded
}

// pairs are what is left to read of an encoded header map.
type pairs struct {
	number      uint64
	sizes, rest []byte
}

// openPairs begins to read an encoded header map. What is not such a map has no headers.
func openPairs(encoded []byte) pairs {
	if len(encoded) < wordSize {
		return pairs{}
	}
	n := uint64(binary.LittleEndian.Uint32(encoded))
	if uint64(len(encoded)) < wordSize+2*wordSize*n {
		return pairs{}
	}
	return pairs{n, encoded[wordSize:], encoded[wordSize+2*wordSize*n:]}
}

// next returns the next header, in the memory of the map, and whether there is one.
func (p *pairs) next() (name, value []byte, there bool) {
	if p.number == 0 {
		return nil, nil, false
	}
	nameSize, valueSize := uint64(binary.LittleEndian.Uint32(p.sizes)), uint64(binary.LittleEndian.Uint32(p.sizes[wordSize:]))
	end := nameSize + 1 + valueSize
	if uint64(len(p.rest)) < end+1 {
		p.number = 0
		return nil, nil, false
	}
	name, value = p.rest[:nameSize], p.rest[nameSize+1:end]
	p.number, p.sizes, p.rest = p.number-1, p.sizes[2*wordSize:], p.rest[end+1:]
	return name, value, true
}
