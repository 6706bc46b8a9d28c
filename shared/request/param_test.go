package request_test

import (
	"testing"

	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/request/requesttest"
	"sentinel-envoy/shared/rule"
)

// read is a parameter's value in what a client sends.
func read(p *rule.Hotspot, c *requesttest.Client) (string, bool) {
	s := request.NewStream()
	s.Of(c)
	return s.Parameter(request.ParamOf(p)).Value()
}

func TestParam(t *testing.T) {
	const absent = "\x00absent"
	for _, c := range []struct {
		param rule.Hotspot
		line  string // as requesttest.Parse takes it
		want  string
	}{
		{rule.Hotspot{ParamSource: rule.Header, ParamKey: "X-User"}, "GET h / x-user=alice", "alice"},
		{rule.Hotspot{ParamSource: rule.Header, ParamKey: "x-user"}, "GET h / x-user=", ""},
		{rule.Hotspot{ParamSource: rule.Header, ParamKey: "x-user"}, "GET h /", absent},

		{rule.Hotspot{ParamSource: rule.Query, ParamKey: "b"}, "GET h /?a=1&b=2&b=3", "2"},
		{rule.Hotspot{ParamSource: rule.Query, ParamKey: "b"}, "GET h /?%62=%2f+x&c#b=7", "/ x"},
		{rule.Hotspot{ParamSource: rule.Query, ParamKey: "b"}, "GET h /?b", ""},
		{rule.Hotspot{ParamSource: rule.Query, ParamKey: "b"}, "GET h /?b=%", "%"},
		{rule.Hotspot{ParamSource: rule.Query, ParamKey: "b"}, "GET h /?b=%4", "%4"},
		{rule.Hotspot{ParamSource: rule.Query, ParamKey: "b"}, "GET h /?b=%zz%C3%A4", "%zzä"},
		{rule.Hotspot{ParamSource: rule.Query, ParamKey: "b"}, "GET h /b=1", absent},
		{rule.Hotspot{ParamSource: rule.Query, ParamKey: "b"}, "GET h /#?b=1", absent},
		{rule.Hotspot{ParamSource: rule.Query, ParamKey: "b"}, "GET h /?", absent},
		{rule.Hotspot{ParamSource: rule.Query, ParamKey: "b"}, "CONNECT h -", absent},
		{rule.Hotspot{ParamSource: rule.Query}, "GET h /?a=1&b=2", "1"},
		{rule.Hotspot{ParamSource: rule.Query, ParamIndex: 1}, "GET h /?a=1&b=2", "2"},
		{rule.Hotspot{ParamSource: rule.Query, ParamIndex: 2}, "GET h /?a=1&b=2", absent},
		{rule.Hotspot{ParamSource: rule.Query, ParamIndex: -1}, "GET h /?a=1&b=2", "2"},
		{rule.Hotspot{ParamSource: rule.Query, ParamIndex: -2}, "GET h /?a=1&b=2", "1"},
		{rule.Hotspot{ParamSource: rule.Query, ParamIndex: -3}, "GET h /?a=1&b=2", absent},

		{rule.Hotspot{ParamSource: rule.PathSegment}, "GET h /orders/7?x=/y", "orders"},
		{rule.Hotspot{ParamSource: rule.PathSegment, ParamIndex: 1}, "GET h /orders/%37?x=/y", "7"},
		{rule.Hotspot{ParamSource: rule.PathSegment, ParamIndex: 2}, "GET h /orders/7", absent},
		{rule.Hotspot{ParamSource: rule.PathSegment, ParamIndex: 2}, "GET h /orders/7/", ""},
		{rule.Hotspot{ParamSource: rule.PathSegment, ParamIndex: -1}, "GET h /orders/7", "7"},
		{rule.Hotspot{ParamSource: rule.PathSegment, ParamIndex: -3}, "GET h /orders/7", absent},
		{rule.Hotspot{ParamSource: rule.PathSegment}, "GET h /", absent},
		{rule.Hotspot{ParamSource: rule.PathSegment, ParamIndex: 1}, "GET h /a/b+c", "b+c"},

		{rule.Hotspot{ParamSource: rule.Host}, "GET API.Example.com:8080 /", "api.example.com"},
		{rule.Hotspot{ParamSource: rule.Host}, "GET api.example.com. /", "api.example.com"},
		{rule.Hotspot{ParamSource: rule.Host}, "GET - /", absent},

		{rule.Hotspot{ParamSource: rule.SourceAddress}, "GET h / x-forwarded-for=1.2.3.4", "192.0.2.9"},
		{rule.Hotspot{ParamSource: rule.SourceAddress, TrustedHops: 1}, "GET h / x-forwarded-for=6.6.6.6,1.2.3.4", "1.2.3.4"},
		{rule.Hotspot{ParamSource: rule.SourceAddress, TrustedHops: 2}, "GET h / x-forwarded-for=6.6.6.6,1.2.3.4:99,10.0.0.1", "1.2.3.4"},
		{rule.Hotspot{ParamSource: rule.SourceAddress, TrustedHops: 2}, "GET h / x-forwarded-for=1.2.3.4", "192.0.2.9"},
		{rule.Hotspot{ParamSource: rule.SourceAddress, TrustedHops: 1}, "GET h / x-forwarded-for=unknown", "192.0.2.9"},
		{rule.Hotspot{ParamSource: rule.SourceAddress, TrustedHops: 1}, "GET h / x-forwarded-for=2001:DB8:0::1", "2001:db8::1"},
		{rule.Hotspot{ParamSource: rule.SourceAddress, TrustedHops: 1}, "GET h / x-forwarded-for=::ffff:1.2.3.4", "1.2.3.4"},
		{rule.Hotspot{ParamSource: rule.SourceAddress, TrustedHops: 1}, "GET h /", "192.0.2.9"},

		{rule.Hotspot{ParamSource: rule.SNI}, "GET h /", "www.example.com"},
		{rule.Hotspot{ParamSource: rule.Property, ParamKey: "connection.id"}, "GET h /", "77"},
		{rule.Hotspot{ParamSource: rule.Property, ParamKey: "no.such"}, "GET h /", absent},
		{rule.Hotspot{}, "GET h /", absent},
	} {
		client := requesttest.Parse(c.line)
		client.Properties = map[string]string{
			"source.address": "192.0.2.9:4711", "connection.requested_server_name": "WWW.example.com", "connection.id": "77",
		}
		got, ok := read(&c.param, client)
		if !ok {
			got = absent
		}
		if got != c.want {
			t.Errorf("%s %q %d of %s: %q, want %q", c.param.ParamSource, c.param.ParamKey, c.param.ParamIndex, c.line, got, c.want)
		}
	}
}

func TestCookie(t *testing.T) {
	for header, want := range map[string]string{
		"s=1": "1", "a=2; s=1": "1", `as=2;s="x y";s=3`: "x y", "s=a=b": "a=b", "s=": "", "s": "-", "a=s": "-", "": "-", " ; ;s=1": "1",
	} {
		client := &requesttest.Client{Headers: map[string]string{"cookie": header}}
		got, ok := read(&rule.Hotspot{ParamSource: rule.Cookie, ParamKey: "s"}, client)
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
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
			r := &rule.Hotspot{ParamSource: source, ParamKey: "s", ParamIndex: index % 1000, TrustedHops: uint32(index) % 64}
			value, ok := read(r, c)
			if !ok && value != "" {
				t.Errorf("%s: %q and absent", source, value)
			}
			const longestAddress = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")
			const lower = 3 // bytes that a byte which is no UTF-8 becomes in lower case
			if len(value) > max(lower*len(path), len(cookies), len(forwarded), longestAddress) {
				t.Errorf("%s: %d bytes, of a request with less", source, len(value))
			}
			r.ParamKey = ""
			read(r, c)
		}
	})
}
