package request_test

import (
	"testing"

	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/request/requesttest"
	"sentinel-envoy/shared/rule"
)

// Whoever looks at a header or an attribute, and however often: the host is asked once a callback.
func TestStreamAsksOnce(t *testing.T) {
	s := request.NewStream()
	header, again := s.Header("x-user"), s.Header("x-user")
	user := s.Parameter(request.ParamOf(&rule.Param{ParamSource: rule.Header, ParamKey: "X-User"}))
	query := s.Parameter(request.ParamOf(&rule.Param{ParamSource: rule.Query, ParamKey: "q"}))
	port := s.Attribute("destination", "port")
	look := func() {
		for range 3 {
			header.Value()
			again.Value()
			user.Values()
			query.Values()
			s.Path()
			port.Int()
			s.Header("absent").Value()
		}
	}
	look() // nobody is there to be asked
	first := requesttest.Parse("GET h /a?q=1 x-user=alice")
	first.Properties["destination.port"] = "\x50\x01\x00\x00\x00\x00\x00\x00"
	s.Of(first)
	look()
	for _, name := range []string{"x-user", ":path", "destination.port", "absent"} {
		if first.Asked[name] != 1 {
			t.Errorf("asked for %s %d times", name, first.Asked[name])
		}
	}
	if n, ok := port.Int(); !ok || n != 0x150 {
		t.Errorf("port %d, %v", n, ok)
	}
	s.Begin()
	look()
	if first.Asked["x-user"] != 2 {
		t.Errorf("asked %d times in two callbacks", first.Asked["x-user"])
	}
	s.Of(requesttest.Parse("GET h -"))
	if v := user.Values().All(); len(v) > 0 {
		t.Errorf("the next stream has the last one's %q", v)
	}
	if _, ok := s.Path(); ok {
		t.Error("the next stream has the last one's path")
	}
	if _, ok := port.Int(); ok {
		t.Error("the next stream has the last one's port")
	}
}

func TestStreamAllocatesNothing(t *testing.T) {
	s := request.NewStream()
	user := s.Parameter(request.ParamOf(&rule.Param{ParamSource: rule.Header, ParamKey: "x-user"}))
	query := s.Parameter(request.ParamOf(&rule.Param{ParamSource: rule.Query, ParamKey: "q"}))
	c := requesttest.Parse("GET h /a?p=2&q=1 x-user=alice")
	c.Asked = nil
	if n := testing.AllocsPerRun(100, func() {
		s.Of(c)
		user.Values()
		query.Values()
		s.Path()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
