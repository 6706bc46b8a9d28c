package resource

import (
	"net/netip"
	"strings"
	"testing"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/request/requesttest"
)

// httpResolver is a resolver with the stream that it resolves.
type httpResolver struct {
	*HTTP
	stream *request.Stream
}

func (r httpResolver) of(c *requesttest.Client) string {
	r.stream.Of(c)
	return r.Resolve().Name
}

func newHTTP(t testing.TB, doc string, paths ...string) httpResolver {
	t.Helper()
	cfg, err := config.Parse([]byte(doc), config.KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	stream := request.NewStream()
	h, err := NewHTTP(cfg, paths, stream)
	if err != nil {
		t.Fatal(err)
	}
	return httpResolver{h, stream}
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
		r := requesttest.Parse(line)
		if got := h.of(r); got != want {
			t.Errorf("%.60q is %q, want %q", line, got, want)
		}
		for name, n := range r.Asked {
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
		r := requesttest.Parse(c.line)
		if got := newHTTP(t, c.doc, strings.Fields(c.paths)...).of(r); got != c.resource {
			t.Errorf("%s: %q, want %q", c.line, got, c.resource)
		}
		want := strings.Fields(c.asked)
		if len(r.Asked) != len(want) {
			t.Errorf("%s: asked for %v, want %s", c.line, r.Asked, c.asked)
		}
		for _, name := range want {
			if r.Asked[name] != 1 {
				t.Errorf("%s: asked for %v, want %s", c.line, r.Asked, c.asked)
			}
		}
	}
}

// Paths and path patterns that are rules' resources: whatever way a client encodes them, the most specific wins.
func TestPathsOfRules(t *testing.T) {
	h := newHTTP(t, `{"resource_name": "rest", "resources": [
		{"name": "/orders", "match": {"method": ["POST"], "path": {"exact": "/orders"}}},
		{"name": "template", "match": {"path": {"template": "/t/{id}/x"}}},
		{"name": "long", "match": {"path": {"regex": "/long/[0-9]+"}}},
		{"name": "decoded", "match": {"path": {"prefix": "/d d/"}}}]}`,
		"/orders", "/订单", "/a b", "/users/{id}", "/users/me", "/api/**", "/api/v1/*.png", "/plain", "/r%2Fs")
	for line, want := range map[string]string{
		"POST h /orders": "/orders", "GET h /orders": "rest", // an entry of the name says itself what it takes
		"GET h /%e8%ae%a2%e5%8d%95": "/订单", "GET h /%E8%AE%A2%E5%8D%95?x": "/订单", "GET h /订单": "/订单",
		"GET h /a%20b": "/a b", "GET h /a+b": "rest",
		"GET h /users/7": "/users/{id}", "GET h /users/me": "/users/me", "GET h /users/%6De": "/users/me", "GET h /users/7/x": "rest",
		"GET h /users/a%2Fb": "/users/{id}",
		"GET h /api":         "/api/**", "GET h /api/v1/a.png": "/api/v1/*.png", "GET h /api/v1/a.jpg": "/api/**", "GET h /%61pi/x": "/api/**",
		"GET h /pl%61in": "/plain", "GET h /plain;v=1": "/plain", "GET h /users;a/7;b=/c": "rest", "GET h /users;a/7;b=c": "/users/{id}", "GET h /r%2fs": "/r%2Fs", "GET h /r/s": "rest", "GET h /t/7/x": "template", "GET h /t/7": "rest",
		"GET h /d%20d/x": "decoded", "CONNECT h -": "rest", "OPTIONS h *": "rest",
		"GET h /long/" + strings.Repeat("7", 3000): "long", "GET h /long/" + strings.Repeat("7", 3000) + "x": "long", // see pattern.Expression
	} {
		r := requesttest.Parse(line)
		if got := h.of(r); got != want {
			t.Errorf("%.60s is %q, want %q", line, got, want)
		}
		if r.Asked[":path"] > 1 {
			t.Errorf("%.60s: asked for the path %d times", line, r.Asked[":path"])
		}
	}
}

// A client that adds a line to a header that entries look at can come into an entry by it, and not leave one.
func TestHeaderLines(t *testing.T) {
	h := newHTTP(t, `{"resource_name": "rest", "resources": [
		{"name": "tools", "match": {"headers": [{"name": "user-agent", "prefix": "curl/"}]}},
		{"name": "gold", "match": {"headers": [{"name": "x-tier", "exact": "gold"}]}}]}`)
	for line, want := range map[string]string{
		"GET h / user-agent=curl/8": "tools", "GET h / user-agent=Mozilla user-agent=curl/8": "tools", "GET h / user-agent=curl/8 user-agent=x": "tools",
		"GET h / user-agent=Mozilla,curl/8": "rest", "GET h / x-tier=free x-tier=gold": "gold", "GET h / x-tier=free,gold": "rest",
		"GET h / x-tier=gold user-agent= user-agent=curl/": "tools",
	} {
		if got := h.of(requesttest.Parse(line)); got != want {
			t.Errorf("%s is %q, want %q", line, got, want)
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
	if got := h.of(requesttest.Parse(line)); got != "all" {
		t.Errorf("got %q", got)
	}
	if got := h.of(requesttest.Parse(strings.Replace(line, "x-z=z", "x-z=a", 1))); got != "" {
		t.Errorf("got %q", got)
	}
}

// connection is a client's, from an address such as "10.0.0.1", to a port.
func connection(sni, source string, port uint16) *requesttest.Client {
	c := requesttest.Parse("")
	if sni != "" {
		c.Properties["connection.requested_server_name"] = sni
	}
	if ip, err := netip.ParseAddr(source); err == nil {
		c.Properties["source.address"] = netip.AddrPortFrom(ip, 4711).String()
	}
	if port != 0 {
		c.Properties["destination.port"] = string([]byte{byte(port), byte(port >> 8), 0, 0, 0, 0, 0, 0})
	}
	return c
}

const tcpDocument = `{"resource_name": "rest", "resources": [
  {"name": "db", "match": {"destination_port": 5432, "source_ip": "10.0.0.0/8"}},
  {"name": "office", "match": {"source_ip": ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"]}},
  {"name": "www", "match": {"sni": "www.example.com"}},
  {"name": "sub", "match": {"sni": "*.example.com", "destination_port": 443}}]}`

// tcpResolver is a resolver with the stream that it resolves.
type tcpResolver struct {
	*TCP
	stream *request.Stream
}

func (r tcpResolver) of(c *requesttest.Client) string {
	r.stream.Of(c)
	return r.Resolve().Name
}

func newTCP(t testing.TB, doc string) tcpResolver {
	t.Helper()
	cfg, err := config.Parse([]byte(doc), config.KindTCP)
	if err != nil {
		t.Fatal(err)
	}
	stream := request.NewStream()
	tcp, err := NewTCP(cfg, stream)
	if err != nil {
		t.Fatal(err)
	}
	return tcpResolver{tcp, stream}
}

func TestTCP(t *testing.T) {
	tcp := newTCP(t, tcpDocument)
	for _, c := range []struct {
		*requesttest.Client
		want string
	}{
		{connection("", "10.9.8.7", 5432), "db"},
		{connection("", "::ffff:10.9.8.7", 5432), "db"},
		{connection("", "10.9.8.7", 5433), "rest"},
		{connection("", "11.0.0.1", 5432), "rest"},
		{connection("", "192.0.2.255", 0), "office"},
		{connection("", "2001:db8::9", 0), "office"},
		{connection("", "198.51.100.7", 0), "office"},
		{connection("", "198.51.100.8", 0), "rest"},
		{connection("WWW.example.com", "", 0), "www"},
		{connection("www.example.com.", "", 0), "www"},
		{connection("a.example.com", "", 443), "sub"},
		{connection("a.example.com", "", 444), "rest"},
		{connection("example.com", "", 443), "rest"},
		{connection("", "", 0), "rest"},
	} {
		if got := tcp.of(c.Client); got != c.want {
			t.Errorf("%+v is %q, want %q", c.Properties, got, c.want)
		}
		for name, n := range c.Asked {
			if n > 1 {
				t.Errorf("%+v: asked for %s more than once", c.Properties, name)
			}
		}
	}
	if tcp.Unnamed == 0 || newTCP(t, `{"resources": [{"name": "a", "match": {"destination_port": 1}}]}`).Unnamed != 0 {
		t.Errorf("%d connections had no name", tcp.Unnamed)
	}
	two := newTCP(t, `{"resources": [{"name": "a", "match": {"sni": "a"}}, {"name": "b", "match": {"sni": "b"}}]}`)
	if two.of(connection("", "", 0)); two.Unnamed != 1 {
		t.Errorf("one connection without a name is counted %d times", two.Unnamed)
	}
	if two.of(connection("b", "", 0)); two.Unnamed != 1 {
		t.Errorf("a connection with a name is counted")
	}
	unasked := connection("x", "10.0.0.1", 1)
	if got := newTCP(t, `{"resource_name": "rest"}`).of(unasked); got != "rest" || len(unasked.Asked) > 0 {
		t.Errorf("%q after asking %v", got, unasked.Asked)
	}
}

// A configuration that Parse did not make for this kind is refused, not ignored.
func TestOtherKindsConditions(t *testing.T) {
	if _, err := NewHTTP(&config.Config{Resources: []config.Resource{{Name: "a", Match: config.Match{DestinationPort: 1}}}}, nil, request.NewStream()); err == nil {
		t.Error("HTTP takes a port")
	}
	if _, err := NewTCP(&config.Config{Resources: []config.Resource{{Name: "a", Match: config.Match{Not: &config.Match{Method: []string{"GET"}}}}}}, request.NewStream()); err == nil {
		t.Error("TCP takes a method")
	}
}

func TestNoAllocations(t *testing.T) {
	h := newHTTP(t, httpDocument, "/paid")
	for _, line := range []string{"GET h /orders", "POST h /orders", "GET h /orders/7", "GET api.example.com:80 /", "GET h /paid?x=1", "GET h /"} {
		r := requesttest.Parse(line)
		r.Asked = nil
		if n := testing.AllocsPerRun(100, func() { h.of(r) }); n != 0 {
			t.Errorf("%s: %v allocations", line, n)
		}
	}
	tcp := newTCP(t, tcpDocument)
	for _, c := range []*requesttest.Client{
		connection("", "10.9.8.7", 5432), connection("", "::ffff:192.0.2.1", 0), connection("a.example.com", "203.0.113.1", 443),
	} {
		c.Asked = nil
		if n := testing.AllocsPerRun(100, func() { tcp.of(c) }); n != 0 {
			t.Errorf("%+v: %v allocations", c.Properties, n)
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
	r := requesttest.Parse("GET h /x" + strings.Repeat("y", 100))
	r.Asked = nil
	for b.Loop() {
		h.of(r)
	}
}
