package e2e

import (
	"fmt"
	"strings"
	"testing"

	"sentinel-envoy/internal/envoytest"
)

// twiceConfig has rules about everything that a client may write more than once, each at a limit of 2.
var twiceConfig = `{
	"resources": [{"name": "gold", "match": {"headers": [{"name": "x-tier", "exact": "gold"}]}}],
	` + flowRules(flowRule("gold", "gold", 2)) + `,
	` + hotspotRules(
	valueRule("cookie", "/cookie", 2, `"paramSource": "Cookie", "paramKey": "session"`),
	valueRule("spaced", "/spaced", 2, `"paramSource": "Cookie", "paramKey": "sid"`),
	valueRule("header", "/header", 2, `"paramSource": "Header", "paramKey": "x-user"`),
	valueRule("query", "/query", 2, `"paramSource": "Query", "paramKey": "u"`),
	valueRule("source", "/source", 2, `"paramSource": "SourceAddress", "trustedHops": 1`)) + `}`

// sixTimes sends a request of HTTP/1.1 six times, each on a connection of its own, and counts those that are let through.
// "#" in it is the number of the try.
func sixTimes(t *testing.T, e *envoytest.Envoy, path string, headers ...string) (passed int) {
	t.Helper()
	for i := range 6 {
		request := "GET " + path + " HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
		for _, h := range headers {
			request += h + "\r\n"
		}
		answer := e.Raw("http", strings.ReplaceAll(request, "#", fmt.Sprint(i))+"\r\n")
		switch {
		case strings.HasPrefix(answer, "HTTP/1.1 200 "):
			passed++
		case !strings.HasPrefix(answer, "HTTP/1.1 429 "):
			t.Fatalf("%s %q: %q", path, headers, answer)
		}
	}
	return passed
}

// TestTwiceIsNoWayAround: all that a client writes is seen, and charged.
func TestTwiceIsNoWayAround(t *testing.T) {
	web := envoytest.StartHTTPService(t)
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), Wasm: httpFilter(t, twiceConfig)},
	}})
	for _, c := range []struct {
		name, path string
		headers    []string
		want       int
	}{
		{"cookie on its own line", "/cookie", []string{"Cookie: junk=1", "Cookie: session=alice"}, 2},
		{"cookie with a comma", "/cookie", []string{"Cookie: a=b,c; session=x,y"}, 2},
		{"the same before the comma", "/cookie", []string{"Cookie: session=x,z"}, 2},
		{"two cookies", "/cookie", []string{"Cookie: session=any#; session=real"}, 2},
		{"space after a cookie's name", "/spaced", []string{"Cookie: sid =x"}, 2},
		{"the same without", "/spaced", []string{"Cookie: sid=x"}, 0},
		{"two lines", "/header", []string{"x-user: any#", "x-user: real"}, 2},
		{"the second line alone", "/header", []string{"x-user: real"}, 0},
		{"lines with commas", "/header", []string{"x-user: any,#", "x-user: Doe,John"}, 2},
		{"five lines", "/header", []string{"x-user: 1#", "x-user: 2#", "x-user: 3#", "x-user: 4#", "x-user: 5#"}, 0},
		{"two parameters", "/query?u=any#&u=real", nil, 2},
		{"the second alone", "/query?u=real", nil, 0},
		{"five parameters", "/query?u=1#&u=2#&u=3#&u=4#&u=5#", nil, 0},
		{"an address in brackets", "/source", []string{"x-forwarded-for: [2001:db8::1]"}, 2},
		{"the same with a port", "/source", []string{"x-forwarded-for: [2001:DB8:0::1]:#9"}, 0},
		{"the same quoted", "/source", []string{`x-forwarded-for: "[2001:db8::1]:#9"`}, 0},
		{"addresses on two lines", "/source", []string{"x-forwarded-for: 9.9.9.#", "x-forwarded-for: 1.2.3.4"}, 2},
		{"nobody's address", "/source", []string{"x-forwarded-for: unknown"}, 2}, // the peer's then
		{"nobody's address again", "/source", []string{"x-forwarded-for: _#"}, 0},
		{"a line that an entry looks at", "/x", []string{"x-tier: free", "x-tier: gold"}, 2},
		{"the same the other way", "/x", []string{"x-tier: gold", "x-tier: free"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sixTimes(t, e.For(t), c.path, c.headers...); got != c.want {
				t.Errorf("%d of 6 were let through, want %d", got, c.want)
			}
		})
	}
	waitMetric(t, e, 0, "sentinel_faults")
}
