package request_test

import (
	"slices"
	"strings"
	"testing"

	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/request/requesttest"
	"sentinel-envoy/shared/rule"
)

// read are a parameter's values in what a client sends.
func read(p *rule.Hotspot, c *requesttest.Client) *request.Values {
	s := request.NewStream()
	s.Of(c)
	return s.Parameter(request.ParamsOf(p)[0]).Values()
}

// spelled is how tables here write values: with bars between, and "-" for none.
func spelled(v *request.Values) string {
	switch {
	case v.TooMany():
		return "too many"
	case len(v.All()) == 0:
		return "-"
	}
	return strings.Join(v.All(), "|")
}

func TestParam(t *testing.T) {
	const absent = "-"
	for _, c := range []struct {
		param rule.Hotspot
		line  string // as requesttest.Parse takes it
		want  string
	}{
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Header, ParamKey: "X-User"}}, "GET h / x-user=alice", "alice"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Header, ParamKey: "x-user"}}, "GET h / x-user=", ""},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Header, ParamKey: "x-user"}}, "GET h /", absent},

		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamKey: "b"}}, "GET h /?a=1&b=2&b=3", "2|3"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamKey: "b"}}, "GET h /?%62=%2f+x&c#b=7", "/ x"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamKey: "b"}}, "GET h /?b", ""},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamKey: "b"}}, "GET h /?b=%", "%"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamKey: "b"}}, "GET h /?b=%4", "%4"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamKey: "b"}}, "GET h /?b=%zz%C3%A4", "%zzä"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamKey: "b"}}, "GET h /b=1", absent},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamKey: "b"}}, "GET h /#?b=1", absent},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamKey: "b"}}, "GET h /?", absent},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamKey: "b"}}, "CONNECT h -", absent},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query}}, "GET h /?a=1&b=2", "1"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamIndex: 1}}, "GET h /?a=1&b=2", "2"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamIndex: 2}}, "GET h /?a=1&b=2", absent},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamIndex: -1}}, "GET h /?a=1&b=2", "2"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamIndex: -2}}, "GET h /?a=1&b=2", "1"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamIndex: -3}}, "GET h /?a=1&b=2", absent},

		{rule.Hotspot{Param: rule.Param{ParamSource: rule.PathSegment}}, "GET h /orders/7?x=/y", "orders"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.PathSegment, ParamIndex: 1}}, "GET h /orders/%37?x=/y", "7"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.PathSegment, ParamIndex: 1}}, "GET h /orders;a/7;b=c/x", "7"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.PathSegment, ParamIndex: 2}}, "GET h /orders/7", absent},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.PathSegment, ParamIndex: 2}}, "GET h /orders/7/", ""},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.PathSegment, ParamIndex: -1}}, "GET h /orders/7", "7"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.PathSegment, ParamIndex: -3}}, "GET h /orders/7", absent},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.PathSegment}}, "GET h /", absent},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.PathSegment, ParamIndex: 1}}, "GET h /a/b+c", "b+c"},

		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Host}}, "GET API.Example.com:8080 /", "api.example.com"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Host}}, "GET api.example.com. /", "api.example.com"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Host}}, "GET - /", absent},

		{rule.Hotspot{Param: rule.Param{ParamSource: rule.SourceAddress}}, "GET h / x-forwarded-for=1.2.3.4", "192.0.2.9"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.SourceAddress, TrustedHops: 1}}, "GET h / x-forwarded-for=6.6.6.6,1.2.3.4", "1.2.3.4"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.SourceAddress, TrustedHops: 2}}, "GET h / x-forwarded-for=6.6.6.6,1.2.3.4:99,10.0.0.1", "1.2.3.4"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.SourceAddress, TrustedHops: 2}}, "GET h / x-forwarded-for=1.2.3.4", "192.0.2.9"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.SourceAddress, TrustedHops: 1}}, "GET h / x-forwarded-for=unknown", "192.0.2.9"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.SourceAddress, TrustedHops: 1}}, "GET h / x-forwarded-for=2001:DB8:0::1", "2001:db8::1"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.SourceAddress, TrustedHops: 1}}, "GET h / x-forwarded-for=::ffff:1.2.3.4", "1.2.3.4"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.SourceAddress, TrustedHops: 1}}, "GET h /", "192.0.2.9"},

		{rule.Hotspot{Param: rule.Param{ParamSource: rule.SNI}}, "GET h /", "www.example.com"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Property, ParamKey: "connection.id"}}, "GET h /", "77"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Property, ParamKey: "no.such"}}, "GET h /", absent},
		{rule.Hotspot{}, "GET h /", absent},
	} {
		client := requesttest.Parse(c.line)
		client.Properties = map[string]string{
			"source.address": "192.0.2.9:4711", "connection.requested_server_name": "WWW.example.com", "connection.id": "\x4d\x00\x00\x00\x00\x00\x00\x00",
		}
		if got := spelled(read(&c.param, client)); got != c.want {
			t.Errorf("%s %q %d of %s: %q, want %q", c.param.ParamSource, c.param.ParamKey, c.param.ParamIndex, c.line, got, c.want)
		}
	}
}

func TestCookie(t *testing.T) {
	for header, want := range map[string]string{
		"s=1": "1", "a=2; s=1": "1", `as=2;s="x y";s=3`: "x y|3", "s=a=b": "a=b", "s=": "", "s": "-", "a=s": "-", "": "-", " ; ;s=1": "1", "s =x; s=\ty ": "x|y",
	} {
		client := &requesttest.Client{Headers: map[string]string{"cookie": header}}
		if got := spelled(read(&rule.Hotspot{Param: rule.Param{ParamSource: rule.Cookie, ParamKey: "s"}}, client)); got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}

// A client that gives a parameter several values gives all of them.
func TestSeveralValues(t *testing.T) {
	header := rule.Hotspot{Param: rule.Param{ParamSource: rule.Header, ParamKey: "x-user"}}
	query := rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamKey: "u"}}
	cookie := rule.Hotspot{Param: rule.Param{ParamSource: rule.Cookie, ParamKey: "s"}}
	property := rule.Hotspot{Param: rule.Param{ParamSource: rule.Property, ParamKey: "request.headers.x-user"}}
	for _, c := range []struct {
		param rule.Hotspot
		line  string // as requesttest.Parse takes it
		want  string
	}{
		{header, "GET h / x-user=any x-user=real", "any|real"},
		{property, "GET h / x-user=any x-user=real", "any|real"},
		{header, "GET h / x-user=a,b", "a,b"}, // one line
		{header, "GET h / x-user=a,b x-user=c", "a,b|c"},
		{header, "GET h / x-user=a x-user=b,c", "a|b,c"},
		{header, "GET h / x-user= x-user=real", "|real"},
		{header, "GET h / x-user=a x-user=a", "a"},
		{header, "GET h / x-user=1 x-user=2 x-user=3 x-user=4 x-user=1", "1|2|3|4"},
		{header, "GET h / x-user=1 x-user=2 x-user=3 x-user=4 x-user=5", "too many"},
		{query, "GET h /?u=any&u=real", "any|real"},
		{query, "GET h /?u=any&%75=real&u=any", "any|real"},
		{query, "GET h /?u=1&u=2&u=3&u=4&u=5", "too many"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query, ParamIndex: 1}}, "GET h /?u=1&u=2", "2"},
		{cookie, "GET h / cookie=junk=1 cookie=s=alice", "alice"},
		{cookie, "GET h / cookie=s=alice;s=bob cookie=s=carol", "alice|bob|carol"},
		{cookie, "GET h / cookie=s=a,b;t=1", "a,b"}, // as servers have it
		{cookie, "GET h / cookie=s=1;s=2;s=3;s=4;s=5", "too many"},
	} {
		if got := spelled(read(&c.param, requesttest.Parse(c.line))); got != c.want {
			t.Errorf("%s of %s: %q, want %q", request.ParamsOf(&c.param)[0], c.line, got, c.want)
		}
	}
}

// An address has many spellings, and a client chooses among them.
func TestForwardedForms(t *testing.T) {
	for list, want := range map[string]string{
		"1.2.3.4": "1.2.3.4", "1.2.3.4:99": "1.2.3.4", "2001:db8::1": "2001:db8::1", "[2001:db8::1]": "2001:db8::1",
		"[2001:DB8:0::1]:99": "2001:db8::1", `"[2001:db8::1]:99"`: "2001:db8::1", `"1.2.3.4"`: "1.2.3.4", " 1.2.3.4 ": "1.2.3.4",
		"::ffff:1.2.3.4": "1.2.3.4", "[::ffff:102:304]": "1.2.3.4", "fe80::1%eth0": "fe80::1", "9.9.9.9, 1.2.3.4": "1.2.3.4",
		// What is no address is nobody's: Envoy's own counts.
		"unknown": "192.0.2.9", "_hidden": "192.0.2.9", "": "192.0.2.9", "1.2.3.4, unknown": "192.0.2.9", "010.1.2.3": "192.0.2.9", "[": "192.0.2.9",
	} {
		c := &requesttest.Client{Headers: map[string]string{"x-forwarded-for": list}, Properties: map[string]string{"source.address": "192.0.2.9:1"}}
		if got := spelled(read(&rule.Hotspot{Param: rule.Param{ParamSource: rule.SourceAddress, TrustedHops: 1}}, c)); got != want {
			t.Errorf("%q: %q, want %q", list, got, want)
		}
	}
	lines := requesttest.Parse("GET h / x-forwarded-for=9.9.9.9 x-forwarded-for=1.2.3.4")
	if got := spelled(read(&rule.Hotspot{Param: rule.Param{ParamSource: rule.SourceAddress, TrustedHops: 1}}, lines)); got != "1.2.3.4" {
		t.Errorf("%q of two lines", got)
	}
}

// A value and an item that mean the same have one form.
func TestCanonical(t *testing.T) {
	item := func(kind rule.ParamKind) []rule.SpecificItem { return []rule.SpecificItem{{ValKind: kind}} }
	for _, c := range []struct {
		param  rule.Hotspot
		values string // all have the form of the first
	}{
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Host}}, "vip.example.com VIP.Example.com vip.example.com. vip.example.com:8080 vip.example.com: vip.example.com.:80 vip.example.com:http"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Host}}, "[2001:db8::1] [2001:DB8:0::1]:80 2001:db8:0:0::1"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.SNI}}, "vip.example.com VIP.Example.com."},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.SourceAddress}}, "2001:db8::1 2001:DB8:0:0::1 [2001:db8::1]:99"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.SourceAddress}}, "10.0.0.1 ::ffff:10.0.0.1 10.0.0.1:99"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Header}, SpecificItems: item(rule.KindInt)}, "7 007 +7 7.0 7e0"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Query}, SpecificItems: item(rule.KindFloat64)}, "0.5 .5 5e-1 0.50"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Cookie}, SpecificItems: item(rule.KindBool)}, "true True TRUE 1 t"},
		{rule.Hotspot{Param: rule.Param{ParamSource: rule.Header}, SpecificItems: item(rule.KindInt)}, "seven"},
	} {
		p, all := request.ParamsOf(&c.param)[0], strings.Fields(c.values)
		for _, v := range all {
			if got := p.Canonical(v); got != all[0] {
				t.Errorf("%s: %s has the form %s, want %s", p, v, got, all[0])
			}
		}
	}
	text := request.ParamsOf(&rule.Hotspot{Param: rule.Param{ParamSource: rule.Header}, SpecificItems: item(rule.KindString)})[0]
	if text.Canonical("007") != "007" {
		t.Error("a text became a number")
	}
}

func TestNetworks(t *testing.T) {
	r := rule.Hotspot{Param: rule.Param{ParamSource: rule.SourceAddress}, SpecificItems: []rule.SpecificItem{
		{ValStr: "10.0.0.0/8", Threshold: 1}, {ValStr: "10.1.0.0/16", Threshold: 2}, {ValStr: "10.1.2.0/24", Threshold: 3},
		{ValStr: "::ffff:192.0.2.0/120", Threshold: 4}, {ValStr: "2001:db8::/32", Threshold: 5}, {ValStr: "10.1.2.3", Threshold: 6},
	}}
	n := request.TiersOf(&r)
	for address, want := range map[string]int64{
		"10.9.9.9": 1, "10.1.9.9": 2, "10.1.2.9": 3, "192.0.2.9": 4, "2001:db8::9": 5, "11.0.0.1": -1, "2001:db9::": -1, "x": -1,
	} {
		got := int64(-1)
		if tier := n.Find(address); tier != nil {
			got = tier.Threshold
		}
		if got != want {
			t.Errorf("%s has %d, want %d", address, got, want)
		}
	}
	if request.TiersOf(&rule.Hotspot{SpecificItems: r.SpecificItems[5:], Param: rule.Param{ParamSource: rule.SourceAddress}}) != nil {
		t.Error("an address is a network")
	}
}

func TestTiers(t *testing.T) {
	r := rule.Hotspot{Param: rule.Param{ParamSource: rule.Header, ParamKey: "x"}, SpecificItems: []rule.SpecificItem{
		{Pattern: rule.PatternPrefix, ValStr: "gold-", Threshold: 1}, {Pattern: rule.PatternSuffix, ValStr: "-trial", Threshold: 2},
		{Pattern: rule.PatternRegex, ValStr: "[a-z]+[0-9]", Threshold: 3}, {Pattern: rule.PatternCIDR, ValStr: "10.0.0.0/8", Threshold: 4},
		{Pattern: rule.PatternCIDR, ValStr: "10.1.0.0/16", Threshold: 5}, {ValStr: "gold-ops", Threshold: 6}, {ValStr: "10.0.0.0/9", Threshold: 7},
	}}
	tiers := request.TiersOf(&r)
	for value, want := range map[string]int64{
		"gold-a": 1, "gold-": 1, "gold-trial": 1, "a-trial": 2, "abc7": 3, "abc77": 0, "10.9.9.9": 4, "::ffff:10.1.2.3": 5, "gold-ops": 6, "10.0.0.0/9": 7,
		"Gold-a": 0, "": 0, strings.Repeat("a", 5000) + "7": 0, // a value that is too long to be read is in no tier
	} {
		got := int64(0)
		if tier := tiers.Find(value); tier != nil {
			got = tier.Threshold
		}
		if got != want {
			t.Errorf("%.20s has %d, want %d", value, got, want)
		}
	}
	plain := rule.Hotspot{SpecificItems: r.SpecificItems[5:]}
	if request.TiersOf(&plain) != nil {
		t.Error("single values are a tier")
	}
	plain.Params = []rule.Param{{ParamSource: rule.Header, ParamKey: "x"}, {ParamSource: rule.Host}}
	if tier := request.TiersOf(&plain).Find("gold-ops"); tier == nil || tier.Threshold != 6 {
		t.Errorf("of several parameters, the first's value is %+v", tier)
	}
}

func TestAttributes(t *testing.T) {
	for _, c := range []struct {
		key, path, value, want string
		mistake                bool
	}{
		{key: "connection.subject_peer_certificate", path: "connection|subject_peer_certificate", value: "CN=a", want: "CN=a"},
		{key: "source.port", path: "source|port", value: "\x67\x12\x00\x00\x00\x00\x00\x00", want: "4711"},
		{key: "connection.mtls", path: "connection|mtls", value: "\x01", want: "true"},
		{key: "metadata.filter_metadata.envoy.filters.http.jwt_authn.payload.sub", value: "alice", want: "alice",
			path: "metadata|filter_metadata|envoy.filters.http.jwt_authn|payload|sub"},
		{key: "metadata.filter_metadata.envoy.lb.canary", path: "metadata|filter_metadata|envoy.lb|canary", value: "\x00", want: "false"},
		{key: "metadata.filter_metadata.mine.a.b", path: "metadata|filter_metadata|mine|a|b",
			value: "\x00\x00\x00\x00\x00\x00\x45\x40", want: "42"}, // a double
		{key: "metadata.filter_metadata.mine.a", path: "metadata|filter_metadata|mine|a", value: "12345678", want: "12345678"},
		{key: "xds.route_metadata.filter_metadata.envoy.lb.tier", path: "xds|route_metadata|filter_metadata|envoy.lb|tier", value: "x", want: "x"},
		{key: "filter_state.envoy.tcp_proxy.cluster", path: "filter_state|envoy.tcp_proxy.cluster", value: "c", want: "c"},
		{key: "xds.node.metadata.REGION", path: "xds|node|metadata|REGION", value: "eu", want: "eu"},
		{key: "request.time", path: "request|time", value: "\x01\x00\x00\x00\x00\x00\x00\x00", want: "1"},
		{key: "request.nosuch", mistake: true},
		{key: "no.such", mistake: true},
		{key: "request", mistake: true},
		{key: "metadata", mistake: true},
		{key: "metadata.nosuch.a.b", mistake: true},
		{key: "metadata.filter_metadata.envoy.filters.http.jwt_authn", mistake: true},
		{key: "filter_state", mistake: true},
		{key: "source.address.x", mistake: true},
		{key: "response.code", mistake: true},
		{key: "", mistake: true},
	} {
		r := &rule.Hotspot{Param: rule.Param{ParamSource: rule.Property, ParamKey: c.key}}
		path := request.AttributeOf(&r.Param)
		if err := request.CheckAttribute(path, false); (err != nil) != c.mistake {
			t.Errorf("%s: %v", c.key, err)
		}
		if c.mistake {
			continue
		}
		if got := strings.Join(path, "|"); got != c.path {
			t.Errorf("%s is %s, want %s", c.key, got, c.path)
		}
		client := &requesttest.Client{Properties: map[string]string{strings.Join(path, "."): c.value}}
		if got := spelled(read(r, client)); got != c.want {
			t.Errorf("%s is %q, want %q", c.key, got, c.want)
		}
		list := &rule.Hotspot{Param: rule.Param{ParamSource: rule.Property, ParamPath: path}}
		if request.ParamOf(&list.Param) != request.ParamsOf(r)[0] {
			t.Errorf("%s as a list is another parameter", c.key)
		}
	}
	if err := request.CheckAttribute([]string{"request", "path"}, true); err == nil {
		t.Error("a connection has a request")
	}
}

// Whatever a client sends, reading it ends and does not fail, and its value is hardly longer than what was sent.
func FuzzParam(f *testing.F) {
	f.Add("/a/b?c=d&e", "s=1; t", "1.2.3.4, 5.6.7.8", 0)
	f.Fuzz(func(t *testing.T, path, cookies, forwarded string, index int) {
		c := &requesttest.Client{Headers: map[string]string{
			":path": path, "cookie": cookies, "x-forwarded-for": forwarded, ":authority": path,
		}}
		for source := rule.NoParam; source <= rule.Property; source++ {
			r := &rule.Hotspot{Param: rule.Param{ParamSource: source, ParamKey: "s", ParamIndex: index % 1000, TrustedHops: uint32(index) % 64}}
			const longestAddress = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")
			const lower = 3 // bytes that a byte which is no UTF-8 becomes in lower case
			values := read(r, c)
			for i, value := range values.All() {
				if len(value) > max(lower*len(path), len(cookies), len(forwarded), longestAddress) {
					t.Errorf("%s: %d bytes, of a request with less", source, len(value))
				}
				if slices.Contains(values.All()[:i], value) {
					t.Errorf("%s: %q twice", source, value)
				}
				if p := request.ParamsOf(r)[0]; p.Canonical(value) != value && source != rule.SourceAddress {
					t.Errorf("%s: %q has the form %q", source, value, p.Canonical(value))
				}
			}
			r.ParamKey = ""
			read(r, c)
		}
	})
}
