package request_test

import (
	"strings"
	"testing"

	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/request/requesttest"
	"sentinel-envoy/shared/rule"
)

var (
	tenant = rule.Param{ParamSource: rule.Header, ParamKey: "X-Tenant"}
	user   = rule.Param{ParamSource: rule.Query, ParamKey: "u", Lowercase: true}
	anyone = rule.Param{ParamSource: rule.Query, ParamKey: "u", Missing: rule.EmptyMissing}
)

// asked are the values that a rule is asked about, each after the other: of several parameters with dots between.
func asked(c *requesttest.Client, of ...rule.Param) string {
	s := request.NewStream()
	s.Of(c)
	k := s.Key(request.ParamsOf(&rule.Hotspot{Params: of}))
	var all []string
	for more := true; more; s.Nth++ {
		var there bool
		if there, more = k.Ask(); there {
			all = append(all, strings.Join(k.Values(), "."))
		}
	}
	if k.TooMany() {
		return "too many"
	}
	return strings.Join(all, " ")
}

func TestKey(t *testing.T) {
	for _, c := range []struct {
		of   []rule.Param
		line string
		want string
	}{
		{[]rule.Param{tenant}, "GET h / x-tenant=a x-tenant=b", "a b"},
		{[]rule.Param{tenant, user}, "GET h /?u=X x-tenant=A", "A.x"},
		{[]rule.Param{tenant, user}, "GET h /?u=X&u=x x-tenant=A", "A.x"},
		{[]rule.Param{tenant, user}, "GET h /?u=1&u=2 x-tenant=a x-tenant=b", "a.1 b.1 a.2 b.2"},
		{[]rule.Param{tenant, user}, "GET h /?u=1&u=2&u=3 x-tenant=a x-tenant=b", "too many"},
		{[]rule.Param{tenant, user}, "GET h /?u=1", ""},
		{[]rule.Param{tenant, user}, "GET h / x-tenant=a", ""},
		{[]rule.Param{tenant, anyone}, "GET h / x-tenant=a", "a."},
		{[]rule.Param{tenant, anyone}, "GET h /?u x-tenant=a", "a."},
		{[]rule.Param{tenant, anyone}, "GET h /?u=1&u=2&u=3&u=4&u=5 x-tenant=a", "too many"},
		{[]rule.Param{anyone}, "GET h /", ""},
		{[]rule.Param{anyone, tenant}, "GET h / x-tenant=a", ".a"},
		{[]rule.Param{{ParamSource: rule.Host}, {ParamSource: rule.PathSegment}, tenant}, "GET H:80 /a/b x-tenant=t", "h.a.t"},
	} {
		if got := asked(requesttest.Parse(c.line), c.of...); got != c.want {
			t.Errorf("%s: %q, want %q", c.line, got, c.want)
		}
	}
}

// What names a value to others is the value, and tells all apart.
func TestJoined(t *testing.T) {
	seen := map[string]string{}
	for _, line := range []string{"GET h /?u=1 x-tenant=a", "GET h /?u=+1 x-tenant=a", "GET h /?u=1 x-tenant=1:a", "GET h /?u=a+1 x-tenant=1:", "GET h /?u= x-tenant=a", "GET h /?u=1 x-tenant="} {
		s := request.NewStream()
		s.Of(requesttest.Parse(line))
		k := s.Key(request.ParamsOf(&rule.Hotspot{Params: []rule.Param{tenant, user}}))
		k.Ask()
		if other := seen[k.Joined()]; other != "" {
			t.Errorf("%s and %s are both %q", line, other, k.Joined())
		}
		seen[k.Joined()] = line
	}
	s := request.NewStream()
	s.Of(requesttest.Parse("GET h / x-tenant=a"))
	k := s.Key(request.ParamsOf(&rule.Hotspot{Param: tenant}))
	if k.Ask(); k.Joined() != "a" {
		t.Errorf("one value is %q", k.Joined())
	}
}

// An address counts by its network: v4 in v6 is v4, whoever wrote it.
func TestPrefixes(t *testing.T) {
	p := rule.Param{ParamSource: rule.SourceAddress, V4PrefixLen: 24, V6PrefixLen: 64, TrustedHops: 1}
	for address, want := range map[string]string{
		"192.0.2.7:1": "192.0.2.0", "192.0.2.255:1": "192.0.2.0", "[::ffff:192.0.2.9]:1": "192.0.2.0", "192.0.3.7:1": "192.0.3.0",
		"[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::", "[2001:db8:1:2::]:1": "2001:db8:1:2::", "[2001:db8:1:3::1]:1": "2001:db8:1:3::",
		"/run/envoy.sock": "/run/envoy.sock", "": "",
	} {
		c := requesttest.Parse("GET h /")
		c.Properties["source.address"] = address
		if got := asked(c, p); got != want {
			t.Errorf("%s is %q, want %q", address, got, want)
		}
		c.Properties["source.address"] = "203.0.113.1:1"
		if c.Headers["x-forwarded-for"] = address; want != "" && want[0] != '/' {
			if got := asked(c, p); got != want {
				t.Errorf("forwarded, %s is %q, want %q", address, got, want)
			}
		}
	}
	if got := (&request.Param{Source: rule.SourceAddress, V4: 8}).Canonical("2001:db8::1"); got != "2001:db8::1" {
		t.Errorf("%s", got)
	}
}

// Finding a value of several parameters allocates nothing.
func TestKeyAllocatesNothing(t *testing.T) {
	s := request.NewStream()
	k := s.Key(request.ParamsOf(&rule.Hotspot{Params: []rule.Param{tenant, user}}))
	c := requesttest.Parse("GET h /?u=1 x-tenant=a")
	c.Asked = nil
	s.Of(c)
	if n := testing.AllocsPerRun(100, func() { s.Begin(); k.Ask(); k.TooMany() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
