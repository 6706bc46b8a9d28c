//go:build !wasip1

package envoyhost

import (
	"fmt"
	"testing"
)

// A header map is read as it was written, and is written again without allocating.
func TestHeaderMap(t *testing.T) {
	var m HeaderMap
	want := ""
	for _, list := range [][][2]string{nil, {{"a", "1"}}, {{"a", ""}, {"bb", "22"}, {"a", "3"}}, {{"c", "4"}}} {
		m.Reset()
		want = ""
		for _, h := range list {
			m.Add(h[0], h[1])
			want += fmt.Sprint(h)
		}
		got := ""
		p := openPairs(m.encode())
		for name, value, there := p.next(); there; name, value, there = p.next() {
			got += fmt.Sprint([2]string{string(name), string(value)})
		}
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		m.Reset()
		m.Add("x", "y")
		m.encode()
	}); n > 0 {
		t.Errorf("it allocates %v times", n)
	}
}
