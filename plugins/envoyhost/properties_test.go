//go:build !wasip1

package envoyhost

import (
	"slices"
	"testing"
)

func TestRequestHeaderLines(t *testing.T) {
	r := Record()
	s := r.AddStream(2, 1)
	s.Request["x-user"], s.More["x-user"], s.Request["x-users"] = "any", []string{"", "a,b"}, "other"
	r.EnterContext(2)
	if got := RequestHeaderLines([]string{"before"}, "x-user"); !slices.Equal(got, []string{"before", "any", "", "a,b"}) {
		t.Errorf("%q", got)
	}
	if got := RequestHeaderLines(nil, "absent"); got != nil {
		t.Errorf("%q", got)
	}
}

// What the host returns is taken for nothing more than it is.
func FuzzLines(f *testing.F) {
	f.Add(encodePairs([]string{"a", "1", "b", "2", "a", "3"}))
	f.Add([]byte{255, 255, 255, 255, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, pairs []byte) {
		size := 0
		for _, line := range lines(nil, pairs, "a") {
			size += len(line)
		}
		if size > len(pairs) {
			t.Errorf("%d bytes of %d", size, len(pairs))
		}
	})
}
