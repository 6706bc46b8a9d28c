package module

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

var errCut = errors.New("cut short")

// reader reads the format's primitives from b, beginning at off. After its first error it stays where it is and returns
// zero values.
type reader struct {
	b   []byte
	off int
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// bytes returns the next n bytes, nil at an error.
func (r *reader) bytes(n uint32) []byte {
	if r.err == nil && uint64(n) > uint64(len(r.b)-r.off) {
		r.fail(errCut)
	}
	if r.err != nil {
		return nil
	}
	part := r.b[r.off : r.off+int(n) : r.off+int(n)]
	r.off += int(n)
	return part
}

// uvarint reads an unsigned LEB128 number of at most the given bits, in no more bytes than such a number may take.
func (r *reader) uvarint(bits int) uint64 {
	var v uint64
	for shift := 0; shift < bits; shift += 7 {
		b := r.byte()
		if rest := bits - shift; rest < 7 && b>>rest != 0 {
			break
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.fail(fmt.Errorf("number longer than %d bits", bits))
	return 0
}

func (r *reader) u32() uint32 { return uint32(r.uvarint(32)) }

func (r *reader) name() string {
	b := r.bytes(r.u32())
	if !utf8.Valid(b) {
		r.fail(errors.New("name is not UTF-8"))
	}
	return string(b)
}

func (r *reader) export() Export {
	e := Export{Name: r.name(), Kind: Kind(r.byte()), Index: r.u32()}
	if e.Kind > Tag {
		r.fail(fmt.Errorf("%q: unknown kind %d", e.Name, e.Kind))
	}
	return e
}

// skipImportType reads over the type of an import.
func (r *reader) skipImportType(k Kind) {
	switch k {
	case Func:
		r.u32()
	case Table:
		r.byte()
		r.skipLimits()
	case Memory:
		r.skipLimits()
	case Global:
		r.bytes(2)
	case Tag:
		r.byte()
		r.u32()
	default:
		r.fail(fmt.Errorf("unknown kind %d", k))
	}
}

// skipLimits reads over the limits of a table or a memory; 64-bit memories have wider ones.
func (r *reader) skipLimits() {
	const hasMax, is64, known = 1, 4, 7
	flags := r.byte()
	if flags > known {
		r.fail(fmt.Errorf("unknown limits %#x", flags))
	}
	bits := 32
	if flags&is64 != 0 {
		bits = 64
	}
	r.uvarint(bits)
	if flags&hasMax != 0 {
		r.uvarint(bits)
	}
}
