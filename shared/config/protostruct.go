package config

import (
	"encoding/binary"
	"math"
	"sort"
	"strconv"
)

// FromStruct returns the JSON of a serialized google.protobuf.Struct, or false if data is not one.
//
// Envoy hands a plugin's configuration over as it is written: a StringValue's text, but a Struct's bytes.
func FromStruct(data []byte) (json []byte, ok bool) {
	if len(data) == 0 || data[0] != fieldOfStruct {
		return nil, false
	}
	d := decoder{}
	json = d.object(nil, data, 0)
	return json, !d.bad
}

// The tags of google/protobuf/struct.proto, field number and wire type in one byte.
const (
	fieldOfStruct = 1<<3 | 2 // Struct.fields
	entryKey      = 1<<3 | 2 // its map entries
	entryValue    = 2<<3 | 2
	valueNull     = 1 << 3 // Value.kind
	valueNumber   = 2<<3 | 1
	valueString   = 3<<3 | 2
	valueBool     = 4 << 3
	valueStruct   = 5<<3 | 2
	valueList     = 6<<3 | 2
	listValue     = 1<<3 | 2 // ListValue.values
)

// maxStructDepth bounds the nesting; a configuration has less.
const maxStructDepth = 32

// decoder turns messages into JSON. Once bad, what it returns means nothing.
type decoder struct{ bad bool }

// fields calls f for each field of a message: with its bytes where it has a length, with its number otherwise.
func (d *decoder) fields(message []byte, f func(tag byte, b []byte, n uint64)) {
	for len(message) > 0 && !d.bad {
		tag := message[0]
		message = message[1:]
		switch tag & 7 {
		case 0, 2:
			n, size := binary.Uvarint(message)
			if size <= 0 {
				d.bad = true
				return
			}
			message = message[size:]
			if tag&7 == 0 {
				f(tag, nil, n)
				continue
			}
			if n > uint64(len(message)) {
				d.bad = true
				return
			}
			f(tag, message[:n], 0)
			message = message[n:]
		case 1:
			if len(message) < 8 {
				d.bad = true
				return
			}
			f(tag, nil, binary.LittleEndian.Uint64(message))
			message = message[8:]
		default:
			d.bad = true
		}
	}
}

// object appends a Struct, its keys sorted: a map has no order on the wire.
func (d *decoder) object(dst, message []byte, depth int) []byte {
	type member struct {
		key   string
		value []byte
	}
	var members []member
	d.fields(message, func(tag byte, b []byte, _ uint64) {
		m := member{}
		d.fields(b, func(tag byte, b []byte, _ uint64) {
			switch tag {
			case entryKey:
				m.key = string(b)
			case entryValue:
				m.value = b
			default:
				d.bad = true
			}
		})
		members = append(members, m)
		d.bad = d.bad || tag != fieldOfStruct
	})
	sort.Slice(members, func(i, j int) bool { return members[i].key < members[j].key })
	dst = append(dst, '{')
	for i, m := range members {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendJSON(dst, m.key), ':')
		dst = d.value(dst, m.value, depth+1)
	}
	return append(dst, '}')
}

// value appends a Value; one without a kind is null.
func (d *decoder) value(dst, message []byte, depth int) []byte {
	if depth > maxStructDepth {
		d.bad = true
	}
	start := len(dst)
	d.fields(message, func(tag byte, b []byte, n uint64) {
		dst = dst[:start]
		switch tag {
		case valueNull:
			dst = append(dst, "null"...)
		case valueNumber:
			dst = appendNumber(dst, math.Float64frombits(n))
		case valueString:
			dst = appendJSON(dst, string(b))
		case valueBool:
			dst = strconv.AppendBool(dst, n != 0)
		case valueStruct:
			dst = d.object(dst, b, depth)
		case valueList:
			dst = d.list(dst, b, depth)
		default:
			d.bad = true
		}
	})
	if len(dst) == start {
		dst = append(dst, "null"...)
	}
	return dst
}

func (d *decoder) list(dst, message []byte, depth int) []byte {
	dst = append(dst, '[')
	first := true
	d.fields(message, func(tag byte, b []byte, _ uint64) {
		d.bad = d.bad || tag != listValue
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = d.value(dst, b, depth+1)
	})
	return append(dst, ']')
}

// appendNumber appends what JSON has no number for as a string, as protobuf's own JSON does.
func appendNumber(dst []byte, v float64) []byte {
	switch {
	case math.IsNaN(v):
		return append(dst, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(dst, `"-Infinity"`...)
	case v == math.Trunc(v) && math.Abs(v) < 1<<53 && (v != 0 || !math.Signbit(v)): // an integer has no -0
		return strconv.AppendInt(dst, int64(v), 10)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

// appendJSON appends a JSON string. Bytes that JSON must escape are control characters, quotes and backslashes; proto3
// strings are UTF-8.
func appendJSON(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
