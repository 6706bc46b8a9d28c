package config

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	"github.com/buger/jsonparser"
)

// value is a JSON value; a string's raw is what stands between its quotes.
type value struct {
	raw []byte
	typ jsonparser.ValueType
}

// describe is the value as an error repeats it.
func (v value) describe() string {
	switch v.typ {
	case jsonparser.Object:
		return "an object"
	case jsonparser.Array:
		return "a list"
	case jsonparser.String:
		if s, err := jsonparser.ParseString(v.raw); err == nil {
			return "the string " + quote(s)
		}
	}
	return printable(string(v.raw))
}

// setter stores a value that was found at a place, or notes what is wrong with it.
type setter func(at *place, v value)

// field is a key that an object may have.
type field struct {
	key string
	set setter
}

// parser reads one document and collects its mistakes.
type parser struct {
	mistakes
	kind Kind
}

// object reads an object that has no keys but the fields'. The result has bit i set when fields[i] was there.
func (p *parser) object(at *place, v value, fields []field) (seen uint64) {
	p.each(at, v, func(key string, v value) {
		i := index(fields, key)
		switch {
		case i < 0:
			seen |= p.unknown(at.at(key), v, fields)
		case seen&(1<<i) != 0:
			p.add(at.at(key), "given twice")
		case v.typ == jsonparser.Null: // as left out: the dashboard writes null where there is nothing
		default:
			seen |= 1 << i
			fields[i].set(at.at(key), v)
		}
	})
	return seen
}

// each calls f for every member of an object.
func (p *parser) each(at *place, v value, f func(key string, v value)) {
	if v.typ != jsonparser.Object {
		p.add(at, "must be an object, got ", v.describe())
		return
	}
	err := jsonparser.ObjectEach(v.raw, func(key, raw []byte, typ jsonparser.ValueType, _ int) error {
		f(string(key), value{raw, typ})
		return nil
	})
	if err != nil {
		p.add(at, "malformed JSON: ", err.Error())
	}
}

// list calls f for every element of a list, until f says false.
func (p *parser) list(at *place, v value, f func(at *place, v value) bool) {
	if v.typ != jsonparser.Array {
		p.add(at, "must be a list, got ", v.describe())
		return
	}
	i, more := 0, true
	_, err := jsonparser.ArrayEach(v.raw, func(raw []byte, typ jsonparser.ValueType, _ int, _ error) {
		if more {
			more = f(at.item(i), value{raw, typ})
		}
		i++
	})
	if err != nil {
		p.add(at, "malformed JSON: ", err.Error())
	}
}

func index(fields []field, key string) int {
	for i := range fields {
		if fields[i].key == key {
			return i
		}
	}
	return -1
}

// has says whether object found the key.
func has(seen uint64, fields []field, key string) bool {
	i := index(fields, key)
	return i >= 0 && seen&(1<<i) != 0
}

// text reads a string of at most limit bytes.
func (p *parser) text(dst *string, limit int) setter {
	return func(at *place, v value) {
		if v.typ != jsonparser.String {
			p.add(at, "must be a string, got ", v.describe(), inQuotes(v.typ))
			return
		}
		s, err := jsonparser.ParseString(v.raw)
		if err != nil {
			p.add(at, "malformed string")
			return
		}
		if len(s) > limit {
			p.add(at, "must have at most ", strconv.Itoa(limit), " bytes, got ", strconv.Itoa(len(s)))
			return
		}
		*dst = s
	}
}

// inQuotes tells how to write in YAML what it takes for something else than a string.
func inQuotes(typ jsonparser.ValueType) string {
	switch typ {
	case jsonparser.Boolean:
		return "; in YAML y, yes, on, n, no and off are true and false: write it in quotes"
	case jsonparser.Number:
		return "; write it in quotes"
	}
	return ""
}

// label reads a name for people and metrics: not empty, printable, at most limit bytes.
func (p *parser) label(dst *string, limit int) setter {
	return func(at *place, v value) {
		before := p.count()
		var s string
		p.text(&s, limit)(at, v)
		switch {
		case p.count() > before:
		case s == "":
			p.add(at, "must not be empty")
		case strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }):
			p.add(at, "must have printable characters only, got ", quote(s))
		default:
			*dst = s
		}
	}
}

func (p *parser) boolean(dst *bool) setter {
	return func(at *place, v value) {
		if v.typ != jsonparser.Boolean {
			p.add(at, "must be true or false, got ", v.describe())
			return
		}
		*dst = v.raw[0] == 't'
	}
}

// maxExact is the largest number up to which a double, which is what Envoy hands over, tells whole numbers apart.
const maxExact = 1<<53 - 1

// number reads a finite number from 0 to maxExact.
func (p *parser) number(dst *float64) setter {
	return func(at *place, v value) {
		if f, ok := p.float(at, v); ok && p.inRange(at, v, f, 0, maxExact) {
			*dst = f
		}
	}
}

// integer reads a whole number from low to high, which must fit T.
func integer[T ~int | ~int32 | ~int64 | ~uint32 | ~uint64](p *parser, dst *T, low, high int64) setter {
	return func(at *place, v value) {
		if f, ok := p.whole(at, v, low, high); ok {
			*dst = T(f)
		}
	}
}

// whole reads a whole number; it stands by itself because the closures of integer are many.
func (p *parser) whole(at *place, v value, low, high int64) (float64, bool) {
	f, ok := p.float(at, v)
	if !ok || !p.inRange(at, v, f, low, high) {
		return 0, false
	}
	if f != math.Trunc(f) {
		p.add(at, "must be a whole number, got ", v.describe())
		return 0, false
	}
	return f, true
}

func (p *parser) float(at *place, v value) (float64, bool) {
	if v.typ == jsonparser.String {
		switch string(v.raw) { // protobuf's JSON has no other way to say these
		case "NaN", "Infinity", "-Infinity":
			p.add(at, "must be a finite number, got ", string(v.raw))
			return 0, false
		}
	}
	if v.typ != jsonparser.Number && !v.isYAMLNumber() {
		p.add(at, "must be a number, got ", v.describe())
		return 0, false
	}
	f, err := strconv.ParseFloat(string(v.raw), 64)
	if err != nil {
		p.add(at, "must be a finite number, got ", v.describe())
		return 0, false
	}
	return f, true
}

// isYAMLNumber is whether a value is a string that Envoy makes of a number in its YAML: of one with a point or an exponent,
// and of a whole number that has more than 32 bits.
func (v value) isYAMLNumber() bool {
	if v.typ != jsonparser.String {
		return false
	}
	if n, err := strconv.ParseInt(string(v.raw), 10, 64); err == nil {
		return n != int64(int32(n))
	}
	return bytes.ContainsAny(v.raw, ".eE") && bytes.ContainsAny(v.raw, "0123456789") &&
		len(bytes.Trim(v.raw, "+-.eE0123456789")) == 0
}

func (p *parser) inRange(at *place, v value, f float64, low, high int64) bool {
	switch {
	case f < float64(low):
		p.add(at, "must be ≥ ", strconv.FormatInt(low, 10), ", got ", v.describe())
		return false
	case f > float64(high):
		p.add(at, "must be ≤ ", strconv.FormatInt(high, 10), ", got ", v.describe())
		return false
	}
	return true
}

// enum reads one of the values by Sentinel's integer or, in any case of letters, by its name.
func enum[T interface {
	~int32
	String() string
}](p *parser, dst *T, values ...T) setter {
	choices := make([]choice, len(values))
	for i, known := range values {
		choices[i] = choice{int32(known), known.String()}
	}
	return func(at *place, v value) { *dst = T(p.choose(at, v, choices)) }
}

// choice is a value of an enumeration.
type choice struct {
	number int32
	name   string
}

// choose reads one of the choices, undefined if it is none of them, so that no later check takes it for the first.
func (p *parser) choose(at *place, v value, choices []choice) int32 {
	var names []string
	for _, known := range choices {
		if v.typ == jsonparser.String && strings.EqualFold(string(v.raw), known.name) {
			return known.number
		}
		f, err := strconv.ParseFloat(string(v.raw), 64)
		if v.typ == jsonparser.Number && err == nil && f == float64(known.number) {
			return known.number
		}
		names = append(names, strconv.Itoa(int(known.number))+" ("+known.name+")")
	}
	p.add(at, "must be ", strings.Join(names, " or "), ", got ", v.describe())
	return undefined
}

const undefined = 127

// word reads one of the words; dst becomes the place of the word in the list.
func word[T ~int](p *parser, dst *T, words ...string) setter {
	return func(at *place, v value) {
		for i, w := range words {
			if v.typ == jsonparser.String && string(v.raw) == w {
				*dst = T(i)
				return
			}
		}
		p.add(at, "must be ", strings.Join(words, " or "), ", got ", v.describe())
	}
}
