package resource

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/request/requesttest"
)

// one is a resolver whose only entry is "in"; the rest is "out".
func one(t *testing.T, match string) httpResolver {
	t.Helper()
	return newHTTP(t, `{"resource_name": "out", "resources": [{"name": "in", "match": `+match+`}]}`)
}

func TestConditions(t *testing.T) {
	long := strings.Repeat("x", 3000)
	for _, c := range []struct{ match, in, out string }{
		// Texts.
		{`{"path": {"suffix": ".png"}}`, "/a.png|/a.png?x=.jpg|/a.%70ng|/.png", "/a.jpg?x=.png|/a.PNG|/a.png/"},
		{`{"path": {"contains": "/admin"}}`, "/admin|/x/admin/y|/x/%61dmin", "/Admin|/adm/in|/x?y=/admin"},
		{`{"path": {"exact": "/Straße", "case_insensitive": true}}`, "/straße|/STRAßE|/stra%C3%9Fe", "/strasse|/straße/"},
		{`{"path": {"prefix": "/API", "case_insensitive": true}}`, "/api|/apis|/Api/x|/aPI", "/ap|/x/api|/"},
		{`{"path": {"suffix": ".PNG", "case_insensitive": true}}`, "/a.png|/.pNg", "/a.pn|/png|/a.png/"},
		{`{"path": {"contains": "admin", "case_insensitive": true}}`, "/x/ADMIN/y|/admin|/" + long, "/adm/in|/"},
		{`{"path": {"template": "/Users/{id}/*.png", "case_insensitive": true}}`, "/users/7/A.PNG|/USERS/x/.png", "/users/7/a.jp|/users//a.png|/users/7/x/a.png"},
		{`{"path": {"regex": "/a[0-9]+|/b", "case_insensitive": true}}`, "/A7|/B", "/a|/Bb"},
		{`{"path": {"exact": "/orders/", "ignore_trailing_slash": true}}`, "/orders|/orders/|/orders//|/orders/?x", "/order|/orders/7|/"},
		{`{"path": {"exact": "/", "ignore_trailing_slash": true}}`, "/|//", "/a"},
		{`{"path": {"template": "/users/{id}", "ignore_trailing_slash": true}}`, "/users/7|/users/7/", "/users/|/users/7/x"},
		{`{"path": {"template": "/users/{id}/", "ignore_trailing_slash": true}}`, "/users/7|/users/7/", "/users/|/users/7/x"},
		{`{"path": {"regex": "/a[0-9]", "ignore_trailing_slash": true}}`, "/a7|/a7/", "/a|/a7/x"},
		{`{"path": {"suffix": "/x/", "ignore_trailing_slash": true}}`, "/a/x|/a/x/|/x", "/ax"},
		{`{"path": {"exact": "/Orders", "case_insensitive": true, "ignore_trailing_slash": true}}`, "/ORDERS/|/orders", "/orders/x"},

		// The query.
		{`{"query": [{"name": "v", "exact": "2"}]}`, "/?v=2|/?v=1&v=2|/a?x&v=%32#v=1|/?%76=2", "/|/?v=1|/?v|/v=2|/?V=2|/?v=22"},
		{`{"query": [{"name": "debug", "present": true}]}`, "/?debug|/?debug=|/?x&debug=0", "/|/?Debug|/#?debug"},
		{`{"query": [{"name": "q", "contains": "a b"}]}`, "/?q=xa+by|/?q=a%20b", "/?q=ab"},
		{`{"query": [{"name": "q", "regex": "[a-z]+"}, {"name": "p", "present": true}]}`, "/?p&q=ab", "/?q=ab|/?p&q=1"},
		{`{"query": [{"name": "v", "exact": "2", "invert": true}]}`, "/|/?v=1|/?v=2&v=1|/?v=1&v=2", "/?v=2|/?v=2&v=2"},
		{`{"not": {"query": [{"name": "v", "exact": "2"}]}}`, "/|/?v=1|/?v=2&v=1", "/?v=2|/?v=2&v=2"},
		{`{"not": {"query": [{"name": "v", "exact": "2", "invert": true}]}}`, "/?v=2|/?v=2&v=1", "/|/?v=1"},
		// More values than anybody needs are no way out of an entry.
		{`{"query": [{"name": "v", "exact": "9"}]}`, "/?v=1&v=2&v=3&v=4&v=5", "/?v=1&v=2&v=3&v=4|/?v=1&v=1&v=1&v=1&v=1&v=1"},
		{`{"query": [{"name": "v", "exact": "1", "invert": true}]}`, "/?v=1&v=2&v=3&v=4&v=5", "/?v=1&v=1&v=1&v=1&v=1"},
		{`{"not": {"query": [{"name": "v", "present": true}]}}`, "/", "/?v=1&v=2&v=3&v=4&v=5|/?v"},
		// Nor is more text than an expression reads.
		{`{"query": [{"name": "v", "regex": "x+"}]}`, "/?v=xx|/?v=" + long, "/?v=y"},
		{`{"query": [{"name": "v", "regex": "x+", "invert": true}]}`, "/?v=y|/?v=" + long, "/?v=xx"},
		{`{"not": {"path": {"regex": "/x+"}}}`, "/y|/" + long, "/xx"},
	} {
		h := one(t, c.match)
		for want, paths := range map[string]string{"in": c.in, "out": c.out} {
			for path := range strings.SplitSeq(paths, "|") {
				r := requesttest.Parse("GET h " + path)
				if got := h.of(r); got != want {
					t.Errorf("%s: %.60s is %s, want %s", c.match, path, got, want)
				}
				if r.Asked[":path"] != 1 || len(r.Asked) > 1 {
					t.Errorf("%s: %.60s: asked for %v", c.match, path, r.Asked)
				}
			}
		}
	}
}

func TestCookiesAndHeaders(t *testing.T) {
	for _, c := range []struct{ match, in, out string }{
		{`{"cookies": [{"name": "beta", "exact": "1"}]}`,
			`cookie=beta=1|cookie=a=2;beta=1|cookie=beta="1"|cookie=a cookie=beta=1|cookie=beta=0;beta=1`, "|cookie=beta=11|cookie=Beta=1|beta=1|cookie=xbeta=1"},
		{`{"cookies": [{"name": "session", "present": true, "invert": true}]}`, "|cookie=a=1|cookie=sessions=1", "cookie=session=|cookie=a=1;session=2"},
		{`{"headers": [{"name": "x-a", "suffix": "-b"}]}`, "x-a=a-b|x-a=1 x-a=-b", "|x-a=b|x-a=-B|x-a=-b-"},
		{`{"headers": [{"name": "User-Agent", "contains": "BOT", "case_insensitive": true}]}`, "user-agent=GoogleBot/2|user-agent=bot", "|user-agent=bo"},
		{`{"headers": [{"name": "x-a", "exact": "V", "case_insensitive": true}]}`, "x-a=v|x-a=V", "x-a=vv|x-a="},
		{`{"headers": [{"name": "x-a", "exact": "1", "invert": true}]}`, "|x-a=2|x-a=1 x-a=2", "x-a=1|x-a=1 x-a=1"},
		{`{"not": {"headers": [{"name": "x-a", "exact": "1"}, {"name": "x-b", "exact": "2"}]}}`, "|x-a=1|x-b=2|x-a=1 x-b=3|x-a=1 x-b=2 x-b=3", "x-a=1 x-b=2"},
		{`{"not": {"method": ["GET"], "headers": [{"name": "x-a", "present": true}]}}`, "|x-b=1", "x-a="},
		{`{"method": ["GET"], "not": {"host": "*.internal"}}`, "", "host"}, // see below
	} {
		h := one(t, c.match)
		for want, lines := range map[string]string{"in": c.in, "out": c.out} {
			for line := range strings.SplitSeq(lines, "|") {
				r := requesttest.Parse("GET h / " + line)
				if line == "host" {
					r = requesttest.Parse("GET db.internal:80 /")
				}
				if got := h.of(r); got != want {
					t.Errorf("%s: %s is %s, want %s", c.match, line, got, want)
				}
			}
		}
	}
}

func TestSourceAddress(t *testing.T) {
	for _, c := range []struct{ match, address, forwarded, want string }{
		{`{"source_ip": ["10.0.0.0/8", "2001:db8::/32"]}`, "10.1.2.3:4711", "", "in"},
		{`{"source_ip": ["10.0.0.0/8", "2001:db8::/32"]}`, "[::ffff:10.1.2.3]:4711", "", "in"},
		{`{"source_ip": ["10.0.0.0/8", "2001:db8::/32"]}`, "[2001:db8::1]:4711", "", "in"},
		{`{"source_ip": ["10.0.0.0/8", "2001:db8::/32"]}`, "11.1.2.3:4711", "10.1.2.3", "out"}, // nobody is trusted
		{`{"source_ip": "10.0.0.0/8"}`, "/run/envoy.sock", "", "out"},
		{`{"source_ip": "10.0.0.0/8"}`, "", "", "out"},
		{`{"not": {"source_ip": "10.0.0.0/8"}}`, "10.1.2.3:4711", "", "out"},
		{`{"not": {"source_ip": "10.0.0.0/8"}}`, "/run/envoy.sock", "", "in"},
		{`{"source_ip": "10.0.0.0/8", "trusted_hops": 1}`, "11.0.0.1:1", "9.9.9.9,10.0.0.7", "in"},
		{`{"source_ip": "10.0.0.0/8", "trusted_hops": 1}`, "11.0.0.1:1", "10.0.0.7,9.9.9.9", "out"},
		{`{"source_ip": "10.0.0.0/8", "trusted_hops": 2}`, "11.0.0.1:1", "10.0.0.7:80,9.9.9.9", "in"},
		{`{"source_ip": "10.0.0.0/8", "trusted_hops": 2}`, "11.0.0.1:1", "9.9.9.9", "out"},
		{`{"source_ip": "10.0.0.0/8", "trusted_hops": 2}`, "10.0.0.1:1", "9.9.9.9", "in"},
		{`{"source_ip": "10.0.0.0/8", "trusted_hops": 1}`, "10.0.0.1:1", "unknown", "in"},
	} {
		r := requesttest.Parse("GET h /")
		if c.address != "" {
			r.Properties["source.address"] = c.address
		}
		if c.forwarded != "" {
			r.Headers["x-forwarded-for"] = c.forwarded
		}
		if got := one(t, c.match).of(r); got != c.want {
			t.Errorf("%s: from %s, forwarded %q, is %s, want %s", c.match, c.address, c.forwarded, got, c.want)
		}
	}
}

// What is new of a connection's conditions.
func TestConditionsOfConnections(t *testing.T) {
	tcp := newTCP(t, `{"resource_name": "out", "resources": [{"name": "in", "match": {"destination_port": 5432, "not": {"source_ip": ["10.0.0.0/8"], "sni": "a"}}}]}`)
	for _, c := range []struct {
		sni, source string
		want        string
	}{{"a", "10.0.0.1", "out"}, {"b", "10.0.0.1", "in"}, {"a", "11.0.0.1", "in"}, {"", "::ffff:10.0.0.1", "in"}} {
		if got := tcp.of(connection(c.sni, c.source, 5432)); got != c.want {
			t.Errorf("%+v is %s", c, got)
		}
	}
}

// No condition costs an allocation, unless a client encodes what is compared.
func TestConditionsAllocateNothing(t *testing.T) {
	h := newHTTP(t, `{"resource_name": "out", "resources": [
		{"name": "a", "match": {"path": {"exact": "/Orders", "case_insensitive": true, "ignore_trailing_slash": true}, "query": [{"name": "v", "exact": "2"}]}},
		{"name": "b", "match": {"cookies": [{"name": "beta", "contains": "ON", "case_insensitive": true}]}},
		{"name": "c", "match": {"source_ip": ["10.0.0.0/8"], "trusted_hops": 1, "not": {"headers": [{"name": "x-a", "exact": "1", "invert": true}]}}}]}`)
	for _, line := range []string{"GET h /orders/?v=1&v=2", "GET h / cookie=a=b;beta=xon", "GET h /?v=3 x-forwarded-for=10.0.0.1 x-a=1", "GET h /"} {
		r := requesttest.Parse(line)
		r.Properties["source.address"], r.Asked = "192.0.2.1:80", nil
		h.of(r)
		if n := testing.AllocsPerRun(100, func() { h.of(r) }); n != 0 {
			t.Errorf("%s: %v allocations", line, n)
		}
	}
}

// What is unlimited is asked first, wherever it stands, and nothing that a client adds brings it there.
func TestUnlimited(t *testing.T) {
	h := newHTTP(t, `{"resource_name": "rest", "resources": [
		{"name": "all", "match": {"path": {"prefix": "/"}}},
		{"name": "health", "unlimited": true, "match": {"path": {"exact": "/healthz"}, "source_ip": ["10.0.0.0/8"]}},
		{"name": "health", "unlimited": true, "match": {"path": {"exact": "/readyz"}}},
		{"name": "key", "unlimited": true, "match": {"headers": [{"name": "x-key", "exact": "a"}]}},
		{"name": "query", "unlimited": true, "match": {"query": [{"name": "k", "regex": "[a-z]+"}]}},
		{"name": "but", "unlimited": true, "match": {"path": {"prefix": "/free"}, "not": {"headers": [{"name": "x-paid", "exact": "1"}]}}}]}`)
	long := strings.Repeat("k", 3000)
	for line, want := range map[string]string{
		"GET h /healthz": "health", "GET h /readyz": "health", "GET h /": "",
		"GET h / x-key=a": "key", "GET h / x-key=a x-key=a": "key", "GET h / x-key=a x-key=b": "", "GET h / x-key=b x-key=a": "",
		"GET h /?k=x": "query", "GET h /?k=x&k=y": "query", "GET h /?k=x&k=1": "", "GET h /?k=a&k=b&k=c&k=d&k=e": "",
		"GET h /?k=" + long: "", "GET h /?k=1": "",
		"GET h /free": "but", "GET h /free x-paid=1": "", "GET h /free x-paid=0 x-paid=1": "", "GET h /free x-paid=0": "but",
	} {
		r := requesttest.Parse(line)
		r.Properties["source.address"] = "10.1.2.3:80"
		h.stream.Of(r)
		got := h.Resolve()
		if got.Exempt != (want != "") || got.Exempt && got.Name != want || !got.Exempt && got.Name != "all" {
			t.Errorf("%.60s is %+v, want %q", line, got, want)
		}
	}
	tcp := newTCP(t, `{"resources": [{"name": "all", "match": {"destination_port": 80}}, {"name": "a", "unlimited": true, "match": {"source_ip": ["10.0.0.0/8"]}},
		{"name": "b", "unlimited": true, "match": {"sni": "b"}}]}`)
	for _, c := range []struct {
		want   string
		exempt bool
		*requesttest.Client
	}{
		{"a", true, connection("b", "10.1.2.3", 80)}, {"b", true, connection("b", "11.1.2.3", 80)}, {"all", false, connection("c", "11.1.2.3", 80)},
	} {
		tcp.stream.Of(c.Client)
		if got := tcp.Resolve(); got.Name != c.want || got.Exempt != c.exempt {
			t.Errorf("%+v is %+v, want %s", c.Properties, got, c.want)
		}
	}
}

// A name of Envoy's is a resource where one is known by it, after entries and paths.
func TestResourceFrom(t *testing.T) {
	for from, property := range map[string]string{
		"route_name": "xds.route_name", "cluster_name": "xds.cluster_name", "virtual_host": "xds.virtual_host_name",
	} {
		h := newHTTP(t, `{"resource_name": "rest", "resource_from": "`+from+`", "flowRules": [{"resource": "payments", "threshold": 1}],
			"resources": [{"name": "put", "match": {"method": ["PUT"]}}]}`, "payments", "/orders", "put", "rest")
		for _, c := range []struct{ line, name, want string }{
			{"GET h /", "payments", "payments"}, {"GET h /", "other", "rest"}, {"GET h /", "", "rest"}, {"GET h /orders", "payments", "/orders"},
			{"PUT h /", "payments", "put"}, {"GET h /", "put", "put"},
		} {
			r := requesttest.Parse(c.line)
			if c.name != "" {
				r.Properties[property] = c.name
			}
			if got := h.of(r); got != c.want {
				t.Errorf("%s of %s %s is %q, want %q", c.line, from, c.name, got, c.want)
			}
			if c.want != "payments" && c.want != "rest" && c.name == "payments" && r.Asked[property] > 0 {
				t.Errorf("%s: asked for %v", c.line, r.Asked)
			}
		}
	}
}

// spelledTaken are the resources of a stream in their order, with spaces between.
func spelledTaken(in *Taken) string {
	return strings.TrimSpace(strings.Join(append(slices.Clone(in.Before), in.Name), " "))
}

// An entry that goes on adds its resource, and the first that does not ends it.
func TestContinue(t *testing.T) {
	h := newHTTP(t, `{"resource_name": "rest", "resources": [
		{"name": "all", "continue": true, "match": {"path": {"prefix": "/"}}},
		{"name": "free", "unlimited": true, "match": {"path": {"exact": "/free"}}},
		{"name": "login", "match": {"path": {"exact": "/login"}}},
		{"name": "bots", "continue": true, "match": {"headers": [{"name": "user-agent", "contains": "bot"}]}},
		{"name": "all", "continue": true, "match": {"method": ["POST"]}},
		{"name": "exact", "continue": true, "match": {"path": {"exact": "/x"}}},
		{"name": "bots", "match": {"path": {"exact": "/robots"}}}]}`, "/orders")
	for line, want := range map[string]string{
		"GET h /": "all rest", "GET h /login": "all login", "POST h /": "all rest", "GET h / user-agent=bot": "all bots rest",
		"GET h /login user-agent=bot": "all login", "GET h /robots user-agent=bot": "all bots", "GET h /robots": "all bots",
		"GET h /x user-agent=bot": "all bots exact rest", "GET h /orders": "all /orders", "GET h /free": "free", "POST h -": "all rest", "GET h -": "rest",
	} {
		h.stream.Of(requesttest.Parse(line))
		if got := spelledTaken(h.Resolve()); got != want {
			t.Errorf("%s is %q, want %q", line, got, want)
		}
	}
	h = newHTTP(t, `{"resources": [{"name": "a", "continue": true, "match": {"path": {"prefix": "/"}}}, {"name": "b", "continue": true, "match": {"path": {"prefix": "/b"}}}]}`)
	for line, want := range map[string]string{"GET h /": "a", "GET h /b": "a b", "GET h -": ""} {
		r := requesttest.Parse(line)
		r.Asked = nil
		h.stream.Of(r)
		if got := spelledTaken(h.Resolve()); got != want {
			t.Errorf("%s is %q, want %q", line, got, want)
		}
		if n := testing.AllocsPerRun(100, func() { h.of(r) }); n != 0 {
			t.Errorf("%s: %v allocations", line, n)
		}
	}
	tcp := newTCP(t, `{"resource_name": "rest", "resources": [{"name": "all", "continue": true, "match": {"source_ip": ["0.0.0.0/0"]}}, {"name": "db", "match": {"destination_port": 5432}}]}`)
	for port, want := range map[uint16]string{5432: "all db", 80: "all rest"} {
		tcp.stream.Of(connection("", "10.0.0.1", port))
		if got := spelledTaken(tcp.Resolve()); got != want {
			t.Errorf("%d is %q, want %q", port, got, want)
		}
	}
}

// Whatever the conditions, nothing that a client adds to what it sends takes it out of an entry, or into one that is unlimited:
// another line of a header that is there, another value of a parameter or a cookie that is there.
func TestAddingChangesNothingForTheBetter(t *testing.T) {
	seeds.Try(t, 3000, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0))
		pick := func(of ...string) string { return of[rng.IntN(len(of))] }
		field := func() string {
			op := pick(`"exact": "a"`, `"prefix": "a"`, `"suffix": "b"`, `"contains": "b"`, `"regex": "a+b?"`, `"present": true`, `"exact": "A", "case_insensitive": true`)
			return `[{"name": "n", ` + op + pick("", `, "invert": true`) + `}]`
		}
		conditions := func() string {
			c := `"headers": ` + field()
			if rng.IntN(2) == 0 {
				c += `, "query": ` + field()
			}
			if rng.IntN(2) == 0 {
				c += `, "cookies": ` + field()
			}
			return c
		}
		match := conditions()
		if rng.IntN(2) == 0 {
			match += `, "not": {` + conditions() + `}`
		}
		unlimited := rng.IntN(2) == 0
		h := newHTTP(t, fmt.Sprintf(`{"resource_name": "out", "resources": [{"name": "in", "unlimited": %v, "match": {%s}}]}`, unlimited, match))
		value := func() string { return pick("a", "b", "ab", "A", "", "c", "d", strings.Repeat("a", 2100)) }
		headers, query, cookies := []string{"n=" + value()}, []string{"n=" + value()}, []string{"n=" + value()}
		is := func() bool {
			r := requesttest.Parse("GET h /?" + strings.Join(query, "&") + " " + strings.Join(headers, " "))
			r.Headers["cookie"] = strings.Join(cookies, "; ")
			h.stream.Of(r)
			return h.Resolve().Name == "in"
		}
		for before := is(); len(headers)+len(query)+len(cookies) < 14; {
			switch more := "n=" + value(); rng.IntN(3) {
			case 0:
				headers = append(headers, more)
			case 1:
				query = append(query, more)
			case 2:
				cookies = append(cookies, more)
			}
			after := is()
			if before != after && after == unlimited {
				t.Fatalf("%s, unlimited %v: %.60q %.60q %.60q is in %v, before it was %v", match, unlimited, headers, query, cookies, after, before)
			}
			before = after
		}
	})
}
