package resource

import (
	"net/netip"

	"sentinel-envoy/shared/config"
)

// Connection is what a TCP resolver reads.
type Connection interface {
	SNI() string          // the server name the client asked for; "" when there is none
	SourceIP() netip.Addr // the client's address; the zero Addr when unknown
	DestinationPort() int // the port it connected to; 0 when unknown
}

// TCP resolves connections. It does not change: any number of goroutines may use one.
type TCP struct {
	entries  []config.Resource
	fallback string
}

// NewTCP prepares a resolver. It fails when the configuration has conditions of HTTP.
func NewTCP(cfg *config.Config) (*TCP, error) {
	for i, r := range cfg.Resources {
		if len(r.Method) > 0 || r.Host.Value != "" || r.Path.Op != config.Any || len(r.Headers) > 0 {
			return nil, errKind(i, "a connection")
		}
	}
	return &TCP{entries: cfg.Resources, fallback: cfg.ResourceName}, nil
}

// Resolve names the resource: the first entry of `resources` that matches, or resource_name; "" is guarded by nothing.
// It asks the connection for what the answer hangs on, and once.
func (t *TCP) Resolve(c Connection) string {
	p := properties{connection: c}
	for i := range t.entries {
		if p.meets(&t.entries[i]) {
			return t.entries[i].Name
		}
	}
	return t.fallback
}

// properties are those of one connection as far as they were needed: each is a call to the host.
type properties struct {
	connection Connection
	sni        string
	source     netip.Addr
	port       int

	hasSNI, hasSource, hasPort bool
}

func (p *properties) meets(r *config.Resource) bool {
	if r.DestinationPort != 0 {
		if !p.hasPort {
			p.port, p.hasPort = p.connection.DestinationPort(), true
		}
		if p.port != r.DestinationPort {
			return false
		}
	}
	return p.fromOneOf(r.SourceIP) && p.toName(&r.SNI)
}

// fromOneOf takes an address that is v4 in v6 for v4: a listener on [::] sees all clients so.
func (p *properties) fromOneOf(prefixes []netip.Prefix) bool {
	if len(prefixes) == 0 {
		return true
	}
	if !p.hasSource {
		p.source, p.hasSource = p.connection.SourceIP().Unmap().WithZone(""), true
	}
	for _, prefix := range prefixes {
		if prefix.Contains(p.source) {
			return true
		}
	}
	return false
}

func (p *properties) toName(n *config.Name) bool {
	if n.Value == "" {
		return true
	}
	if !p.hasSNI {
		p.sni, p.hasSNI = p.connection.SNI(), true
	}
	return matchName(n, p.sni)
}
