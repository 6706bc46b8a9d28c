package host

import (
	"errors"
	"strconv"
)

// Text is a value of any kind as a message has it: what panicked, or what a library logs. Package fmt knows all kinds, by
// reflection and by their method String, and with all that it brings would be a tenth of what Envoy compiles.
func Text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case error:
		return v.Error()
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return "(a value)"
}

// Panicked is the error that a recovered panic is.
func Panicked(r any) error { return errors.New("panic: " + Text(r)) }
