package request

import "strconv"

// Key is what a rule tells streams apart by: the value of a parameter, or of several together.
type Key struct {
	stream *Stream
	parts  []*Parameter
	values []string
}

// Key registers the parameters of a key.
func (s *Stream) Key(of []Param) *Key {
	k := &Key{stream: s}
	for _, p := range of {
		k.parts = append(k.parts, s.Parameter(p))
	}
	k.values = make([]string, len(k.parts))
	return k
}

// Params are the key's parameters.
func (k *Key) Params() (all []Param) {
	for _, p := range k.parts {
		all = append(all, p.Param)
	}
	return all
}

// String says in a few words what the key is of.
func (k *Key) String() (text string) {
	for i, p := range k.parts {
		if i > 0 {
			text += " and "
		}
		text += p.String()
	}
	return text
}

// TooMany is whether a stream gives more values than MaxValues: of several parameters, each value of one with each of the
// others is a value.
func (k *Key) TooMany() bool {
	n := 1
	for _, p := range k.parts {
		if p.Values().TooMany() {
			return true
		}
		n *= len(p.Values().All())
	}
	return n > MaxValues
}

// Ask finds the value that a rule is asked about: whether there is one, and whether there are more after it. A stream without
// a value of one parameter has none.
func (k *Key) Ask() (there, more bool) {
	n, nth := 1, k.stream.Nth
	for i, p := range k.parts {
		all := p.Values().All()
		if len(all) == 0 {
			return false, false
		}
		k.values[i] = all[nth%len(all)]
		nth /= len(all)
		n *= len(all)
	}
	return nth == 0, k.stream.Nth+1 < n
}

// Values are the parts of the value that was found last, void with the callback.
func (k *Key) Values() []string { return k.values }

// Joined is that value as one text, in which no two values are the same: of several parts their lengths stand before all
// but the last.
func (k *Key) Joined() string {
	if len(k.values) == 1 {
		return k.values[0]
	}
	last := len(k.values) - 1
	text := ""
	for _, v := range k.values[:last] {
		text += strconv.Itoa(len(v)) + ":" + v + " "
	}
	return text + k.values[last]
}
