package resource

import (
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/request"
)

// TCP resolves the connections of one filter.
type TCP struct {
	sni      *request.Attribute
	port     *request.Attribute
	entries  []entry // those that are unlimited first, exempt of them
	exempt   int
	before   []string // of the stream that is being resolved
	taken    Taken
	fallback string
	// Unnamed are the connections that had no server name where an entry looked at it: without a TLS inspector, all.
	Unnamed uint64
	// asked is whether this connection was counted.
	asked bool
}

// NewTCP prepares a resolver of a stream. It fails when the configuration has conditions of HTTP.
func NewTCP(cfg *config.Config, s *request.Stream) (*TCP, error) {
	t := &TCP{
		sni: s.Attribute("connection", "requested_server_name"), port: s.Attribute("destination", "port"),
		fallback: cfg.ResourceName,
	}
	for i := range cfg.Resources {
		r := &cfg.Resources[i]
		if r.OfHTTP() {
			return nil, errKind(i, "a connection")
		}
		e := entry{name: r.Name, match: newMatch(&r.Match, s), goesOn: r.Continue}
		if !r.Unlimited {
			t.entries = append(t.entries, e)
			continue
		}
		t.entries = append(t.entries, e)
		copy(t.entries[t.exempt+1:], t.entries[t.exempt:])
		t.entries[t.exempt] = e
		t.exempt++
	}
	return t, nil
}

// Resolve names the stream's resource: the first entry of `resources` that matches, or resource_name. Those that are
// unlimited are asked first. It asks for an attribute only when the answer hangs on it.
func (t *TCP) Resolve() *Taken {
	t.asked, t.before = false, t.before[:0]
	for i := range t.entries {
		switch e := &t.entries[i]; {
		case !t.meets(e.match):
		case i < t.exempt:
			return t.taken.isExempt(e.name)
		case e.goesOn:
			t.before = also(t.before, e.name)
		default:
			return t.taken.is(t.before, e.name)
		}
	}
	return t.taken.is(t.before, t.fallback)
}

// meets is whether the connection meets all conditions of a match.
func (t *TCP) meets(m *match) bool {
	if m.DestinationPort != 0 {
		if port, ok := t.port.Int(); !ok || port != int64(m.DestinationPort) {
			return false
		}
	}
	return fromOneOf(m.SourceIP, m.source) && t.toName(&m.SNI) && (m.not == nil || !t.meets(m.not))
}

func (t *TCP) toName(n *config.Name) bool {
	if n.Value == "" {
		return true
	}
	name, _ := t.sni.Value()
	if name == "" && !t.asked {
		t.Unnamed++
	}
	t.asked = true
	return matchName(n, name)
}
