package resource

import (
	"net/netip"
	"strings"
	"testing"

	"sentinel-envoy/shared/config"
)

// request counts how often each header is asked for.
type request struct {
	headers map[string]string
	asked   map[string]int
}

func (r *request) Header(name string) (string, bool) {
	if r.asked != nil {
		r.asked[name]++
	}
	v, ok := r.headers[name]
	return v, ok
}

// get makes a request of "METHOD authority path name=value…"; "-" leaves out a part.
func get(line string) *request {
	r := &request{headers: map[string]string{}, asked: map[string]int{}}
	for i, part := range strings.Fields(line) {
		if part == "-" {
			continue
		}
		if i < 3 {
			r.headers[[]string{":method", ":authority", ":path"}[i]] = part
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		r.headers[name] = value
	}
	return r
}

func newHTTP(t testing.TB, doc string, paths ...string) *HTTP {
	t.Helper()
	cfg, err := config.Parse([]byte(doc), config.KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	h, err := NewHTTP(cfg, paths)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

const httpDocument = `{"resource_name": "rest", "resources": [
  {"name": "tools", "match": {"headers": [{"name": "user-agent", "prefix": "curl/"}]}},
  {"name": "writes", "match": {"method": ["PUT", "POST"], "path": {"prefix": "/orders"}}},
  {"name": "exact", "match": {"path": {"exact": "/orders"}, "method": ["GET"]}},
  {"name": "exact-any", "match": {"path": {"exact": "/orders"}}},
  {"name": "other-exact", "match": {"path": {"exact": "/other"}}},
  {"name": "number", "match": {"path": {"regex": "/orders/[0-9]+|/n"}}},
  {"name": "api", "match": {"host": "api.example.com"}},
  {"name": "sub", "match": {"host": "*.example.com"}},
  {"name": "six", "match": {"host": "[2001:db8::1]"}},
  {"name": "gold", "match": {"headers": [{"name": "x-tier", "exact": "gold"}, {"name": "x-seen", "present": true}]}},
  {"name": "dashed", "match": {"headers": [{"name": "x-id", "regex": "a-.*"}]}}
]}`

func TestHTTP(t *testing.T) {
	h := newHTTP(t, httpDocument, "/paid", "not-a-path", "")
	for line, want := range map[string]string{
		"GET h /orders user-agent=curl/8": "tools", // first match wins
		"POST h /orders/7":                "writes",
		"post h /orders":                  "exact-any", // methods have case
		"GET h /orders":                   "exact",
		"GET h /orders?x=1":               "exact",
		"GET h /orders#top":               "exact",
		"HEAD h /orders":                  "exact-any",
		"GET h /other":                    "other-exact",
		"GET h /orders/7":                 "number",
		"GET h /orders/7?x":               "number",
		"GET h /orders/7/x":               "rest", // the expression is for the whole path, whichever branch
		"GET h /x/n":                      "rest",
		"GET h /nn":                       "rest",
		"GET API.Example.com:8080 /":      "api",
		"GET api.example.com. /":          "api",
		"GET a.b.EXAMPLE.com /":           "sub",
		"GET example.com /":               "rest",
		"GET .example.com /":              "rest",
		"GET notexample.com /":            "rest",
		"GET [2001:DB8::1]:80 /":          "six",
		"GET [2001:db8::2]:80 /":          "rest",
		"GET [2001:db8::1 /":              "rest",
		"GET h / x-tier=gold x-seen=":     "gold",
		"GET h / x-tier=gold":             "rest",
		"GET h / x-tier=golden x-seen=":   "rest",
		"GET h / x-id=a-1":                "dashed",
		"GET h / x-id=ba-1":               "rest",
		"GET h /paid":                     "/paid",
		"GET h /paid?by=card":             "/paid",
		"GET h /paid/":                    "rest",
		"GET api.example.com /paid":       "api", // entries go first
		"GET h not-a-path":                "rest",
		"CONNECT h -":                     "rest",
		"- - -":                           "rest",
		"GET h \x00\xff\xfe/\x80":         "rest",
		"GET h ?":                         "rest",
		"GET h /orders/" + strings.Repeat("7", 64<<10): "number",
	} {
		r := get(line)
		if got := h.Resolve(r); got != want {
			t.Errorf("%.60q is %q, want %q", line, got, want)
		}
		for name, n := range r.asked {
			if n > 1 {
				t.Errorf("%.60q: %s was asked for %d times", line, name, n)
			}
		}
	}
}

func TestHTTPAsksForNoMoreThanItNeeds(t *testing.T) {
	orders := `{"resources": [{"name": "x", "match": {"path": {"exact": "/x"}}}, {"name": "o", "match": {"host": "o", "path": {"prefix": "/o"}}},
	  {"name": "m", "match": {"method": ["PUT"], "headers": [{"name": "a", "present": true}]}}], "resource_name": "rest"}`
	for _, c := range []struct{ doc, paths, line, resource, asked string }{
		{`{}`, "", "GET h /x", "", ""},
		{`{"resource_name": "rest"}`, "", "GET h /x", "rest", ""},
		{`{}`, "/x", "GET h /x?y", "/x", ":path"},
		{`{}`, "/x", "GET h /y", "", ":path"},
		{orders, "", "GET h /x", "x", ":path"},
		{orders, "", "GET o /ox", "o", ":path :authority"},
		{orders, "", "GET o /y", "rest", ":path :method"},
		{orders, "", "PUT o /y a=1", "m", ":path :method a"},
	} {
		r := get(c.line)
		if got := newHTTP(t, c.doc, strings.Fields(c.paths)...).Resolve(r); got != c.resource {
			t.Errorf("%s: %q, want %q", c.line, got, c.resource)
		}
		want := strings.Fields(c.asked)
		if len(r.asked) != len(want) {
			t.Errorf("%s: asked for %v, want %s", c.line, r.asked, c.asked)
		}
		for _, name := range want {
			if r.asked[name] != 1 {
				t.Errorf("%s: asked for %v, want %s", c.line, r.asked, c.asked)
			}
		}
	}
}

// More headers than have room without an allocation.
func TestHTTPWithManyHeaders(t *testing.T) {
	var conditions []string
	line := "GET h /"
	for c := 'a'; c <= 'z'; c++ {
		conditions = append(conditions, `{"name": "x-`+string(c)+`", "exact": "`+string(c)+`"}`)
		line += " x-" + string(c) + "=" + string(c)
	}
	h := newHTTP(t, `{"resources": [{"name": "all", "match": {"headers": [`+strings.Join(conditions, ",")+`]}}]}`)
	if got := h.Resolve(get(line)); got != "all" {
		t.Errorf("got %q", got)
	}
	if got := h.Resolve(get(strings.Replace(line, "x-z=z", "x-z=a", 1))); got != "" {
		t.Errorf("got %q", got)
	}
}

type connection struct {
	sni    string
	source string
	port   int
	asked  [3]int
}

func (c *connection) SNI() string { c.asked[0]++; return c.sni }

func (c *connection) SourceIP() netip.Addr {
	c.asked[1]++
	ip, err := netip.ParseAddr(c.source)
	if err != nil {
		return netip.Addr{}
	}
	return ip
}

func (c *connection) DestinationPort() int { c.asked[2]++; return c.port }

const tcpDocument = `{"resource_name": "rest", "resources": [
  {"name": "db", "match": {"destination_port": 5432, "source_ip": "10.0.0.0/8"}},
  {"name": "office", "match": {"source_ip": ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"]}},
  {"name": "www", "match": {"sni": "www.example.com"}},
  {"name": "sub", "match": {"sni": "*.example.com", "destination_port": 443}}]}`

func newTCP(t testing.TB, doc string) *TCP {
	t.Helper()
	cfg, err := config.Parse([]byte(doc), config.KindTCP)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := NewTCP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tcp
}

func TestTCP(t *testing.T) {
	tcp := newTCP(t, tcpDocument)
	for _, c := range []struct {
		connection
		want string
	}{
		{connection{source: "10.9.8.7", port: 5432}, "db"},
		{connection{source: "::ffff:10.9.8.7", port: 5432}, "db"},
		{connection{source: "10.9.8.7", port: 5433}, "rest"},
		{connection{source: "11.0.0.1", port: 5432}, "rest"},
		{connection{source: "192.0.2.255"}, "office"},
		{connection{source: "2001:db8::9"}, "office"},
		{connection{source: "198.51.100.7"}, "office"},
		{connection{source: "198.51.100.8"}, "rest"},
		{connection{sni: "WWW.example.com"}, "www"},
		{connection{sni: "www.example.com."}, "www"},
		{connection{sni: "a.example.com", port: 443}, "sub"},
		{connection{sni: "a.example.com", port: 444}, "rest"},
		{connection{sni: "example.com", port: 443}, "rest"},
		{connection{}, "rest"},
	} {
		if got := tcp.Resolve(&c.connection); got != c.want {
			t.Errorf("%+v is %q, want %q", c.connection, got, c.want)
		}
		for _, n := range c.asked {
			if n > 1 {
				t.Errorf("%+v: asked more than once", c.connection)
			}
		}
	}
	unasked := connection{sni: "x", source: "10.0.0.1", port: 1}
	if got := newTCP(t, `{"resource_name": "rest"}`).Resolve(&unasked); got != "rest" || unasked.asked != [3]int{} {
		t.Errorf("%q after asking %v", got, unasked.asked)
	}
}

// A configuration that Parse did not make for this kind is refused, not ignored.
func TestOtherKindsConditions(t *testing.T) {
	if _, err := NewHTTP(&config.Config{Resources: []config.Resource{{Name: "a", DestinationPort: 1}}}, nil); err == nil {
		t.Error("HTTP takes a port")
	}
	if _, err := NewTCP(&config.Config{Resources: []config.Resource{{Name: "a", Method: []string{"GET"}}}}); err == nil {
		t.Error("TCP takes a method")
	}
}

func TestNoAllocations(t *testing.T) {
	h := newHTTP(t, httpDocument, "/paid")
	for _, line := range []string{"GET h /orders", "POST h /orders", "GET h /orders/7", "GET api.example.com:80 /", "GET h /paid?x=1", "GET h /"} {
		r := get(line)
		r.asked = nil
		if n := testing.AllocsPerRun(100, func() { h.Resolve(r) }); n != 0 {
			t.Errorf("%s: %v allocations", line, n)
		}
	}
	tcp := newTCP(t, tcpDocument)
	for _, c := range []*connection{{source: "10.9.8.7", port: 5432}, {source: "::ffff:192.0.2.1"}, {source: "203.0.113.1", sni: "a.example.com", port: 443}} {
		if n := testing.AllocsPerRun(100, func() { tcp.Resolve(c) }); n != 0 {
			t.Errorf("%+v: %v allocations", *c, n)
		}
	}
}

func BenchmarkThousandExactPaths(b *testing.B) {
	var entries []string
	for i := range 1000 {
		p := strings.Repeat("x", 1+i%7) + strings.Repeat("y", i/7)
		entries = append(entries, `{"name": "`+p+`", "match": {"path": {"exact": "/`+p+`"}}}`)
	}
	h := newHTTP(b, `{"resources": [`+strings.Join(entries, ",")+`]}`)
	r := get("GET h /x" + strings.Repeat("y", 100))
	r.asked = nil
	for b.Loop() {
		h.Resolve(r)
	}
}
