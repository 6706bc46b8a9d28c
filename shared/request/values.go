package request

import "slices"

// MaxValues is how many values of a parameter a stream may give. One that gives more is refused by the rules about it.
const MaxValues = 4

// Values are the different values that a stream gives for a parameter, mostly one.
type Values struct {
	list [MaxValues]string
	n    int
	more bool
}

// TooMany is whether there are more than MaxValues.
func (v *Values) TooMany() bool { return v.more }

// All are the values, at most MaxValues. They are void with the callback.
func (v *Values) All() []string { return v.list[:v.n] }

// add adds a value that is not there yet.
func (v *Values) add(value string) {
	switch {
	case slices.Contains(v.All(), value):
	case v.n == MaxValues:
		v.more = true
	default:
		v.list[v.n] = value
		v.n++
	}
}
