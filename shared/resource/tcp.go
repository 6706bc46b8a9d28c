package resource

import (
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/request"
)

// TCP resolves the connections of one filter.
type TCP struct {
	sni      *request.Attribute
	port     *request.Attribute
	entries  []entry
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
		t.entries = append(t.entries, entry{r.Name, newMatch(&r.Match, s)})
	}
	return t, nil
}

// Resolve names the stream's resource: the first entry of `resources` that matches, or resource_name; "" is guarded by
// nothing. It asks for an attribute only when the answer hangs on it.
func (t *TCP) Resolve() string {
	t.asked = false
	for i := range t.entries {
		if t.meets(t.entries[i].match) {
			return t.entries[i].name
		}
	}
	return t.fallback
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
