package request

import (
	"net/netip"
	"strings"
)

// Source is the client's address: that of x-forwarded-for at a place from its end, which proxies have written that are
// trusted, or where there is none what Envoy says.
type Source struct {
	hops      uint32
	forwarded *Header
	address   *Attribute
}

// Source registers the client's address, hops from the end of x-forwarded-for, 0 for the connection's.
func (s *Stream) Source(hops uint32) *Source {
	c := &Source{hops: hops, address: s.Attribute("source", "address")}
	if hops > 0 {
		c.forwarded = s.Header("x-forwarded-for")
	}
	return c
}

// Addr is the address, v4 where it is v4 in v6, and the zero Addr where there is none: a client may come through a socket
// of the machine's.
func (s *Source) Addr() netip.Addr {
	text, _ := s.text()
	a, _ := parseAddress(text)
	return a
}

// text is the address as somebody has written it, and whether there is one.
func (s *Source) text() (string, bool) {
	if s.hops > 0 {
		if list, ok := s.forwarded.Value(); ok {
			text := fromEnd(list, int(s.hops))
			if _, ok := parseAddress(text); ok {
				return text, true
			}
		}
	}
	text, ok := s.address.Value()
	return text, ok && text != ""
}

// fromEnd is an element of a list with commas, by its place from the end; "" where there is none.
func fromEnd(list string, place int) string {
	for ; place > 1; place-- {
		comma := strings.LastIndexByte(list, ',')
		if comma < 0 {
			return ""
		}
		list = list[:comma]
	}
	return list[strings.LastIndexByte(list, ',')+1:]
}
