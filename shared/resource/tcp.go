package resource

import (
	"net/netip"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/request"
)

// TCP resolves the connections of one filter.
type TCP struct {
	sni      *request.Attribute
	source   *request.Attribute
	port     *request.Attribute
	entries  []config.Resource
	fallback string
	// Unnamed are the connections that had no server name where an entry looked at it: without a TLS inspector, all.
	Unnamed uint64
	// asked is whether this connection was counted.
	asked bool
}

// NewTCP prepares a resolver of a stream. It fails when the configuration has conditions of HTTP.
func NewTCP(cfg *config.Config, s *request.Stream) (*TCP, error) {
	for i, r := range cfg.Resources {
		if len(r.Method) > 0 || r.Host.Value != "" || r.Path.Op != config.Any || len(r.Headers) > 0 {
			return nil, errKind(i, "a connection")
		}
	}
	return &TCP{
		sni: s.Attribute("connection", "requested_server_name"), source: s.Attribute("source", "address"),
		port: s.Attribute("destination", "port"), entries: cfg.Resources, fallback: cfg.ResourceName,
	}, nil
}

// Resolve names the stream's resource: the first entry of `resources` that matches, or resource_name; "" is guarded by
// nothing. It asks for an attribute only when the answer hangs on it.
func (t *TCP) Resolve() string {
	t.asked = false
	for i := range t.entries {
		if t.meets(&t.entries[i]) {
			return t.entries[i].Name
		}
	}
	return t.fallback
}

// meets is whether the connection meets all conditions of an entry.
func (t *TCP) meets(r *config.Resource) bool {
	if r.DestinationPort != 0 {
		if port, ok := t.port.Int(); !ok || port != int64(r.DestinationPort) {
			return false
		}
	}
	return t.fromOneOf(r.SourceIP) && t.toName(&r.SNI)
}

// fromOneOf takes an address that is v4 in v6 for v4: a listener on [::] sees all clients so.
func (t *TCP) fromOneOf(prefixes []netip.Prefix) bool {
	if len(prefixes) == 0 {
		return true
	}
	text, _ := t.source.Value()
	source, _ := netip.ParseAddrPort(text) // the zero Addr is in no prefix
	ip := source.Addr().Unmap().WithZone("")
	for _, prefix := range prefixes {
		if prefix.Contains(ip) {
			return true
		}
	}
	return false
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
