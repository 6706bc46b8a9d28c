package envoytest

import (
	"net"
	"strconv"
	"testing"
)

// A port that is claimed is nobody else's until the claim is closed, and refuses connections until somebody listens on it.
func TestClaimedPorts(t *testing.T) {
	seen := map[int]bool{}
	for range 200 {
		port, claim, err := claimPort()
		if err != nil {
			t.Fatal(err)
		}
		defer claim.Close()
		if seen[port] {
			t.Fatalf("port %d is claimed twice", port)
		}
		seen[port] = true
	}
	if c, err := net.Dial("tcp", Nobody(t)); err == nil {
		c.Close()
		t.Error("somebody answers where nobody should")
	}
}

// Listeners get ports of their own, and keep them under their names.
func TestListenersKeepTheirPorts(t *testing.T) {
	p := &Process{ports: map[string]int{}}
	first, err := p.place([]Listener{HTTP{}, TCP{}, HTTP{Name: "given", Port: 12345}})
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.place([]Listener{HTTP{Name: "new"}, TCP{}, HTTP{}})
	if err != nil {
		t.Fatal(err)
	}
	if first[0].port() != again[2].port() || first[1].port() != again[1].port() || first[2].port() != 12345 {
		t.Errorf("%+v, then %+v", first, again)
	}
	ports := map[string]bool{}
	for _, l := range []Listener{first[0], first[1], again[0]} {
		ports[strconv.Itoa(l.port())] = true
	}
	if len(ports) != 3 || len(p.claims) != 3 {
		t.Errorf("%d ports, %d claims", len(ports), len(p.claims))
	}
	for _, c := range p.claims {
		c.Close()
	}
}
