package envoytest

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// firstPort and lastPort are below what systems give to clients' sockets and to whoever asks for any port.
const firstPort, lastPort = 16384, 32767

// claimPort finds a loopback port that nobody listens on, and that no other Process gets until the claim is closed.
//
// Envoy's workers each bind a socket of their own with SO_REUSEPORT, for which Linux may choose a port that another Envoy's
// workers have: the two would then share connections. A UDP socket on the same port is what tells the claim to others.
func claimPort() (port int, claim io.Closer, err error) {
	for range 1000 {
		port = firstPort + rand.IntN(lastPort-firstPort+1)
		loopback := net.IPv4(127, 0, 0, 1)
		claim, err = net.ListenUDP("udp", &net.UDPAddr{IP: loopback, Port: port})
		if err != nil {
			continue
		}
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: loopback, Port: port})
		if err == nil {
			return port, claim, l.Close()
		}
		claim.Close()
	}
	return 0, nil, errors.Join(errors.New("no port is free"), err)
}

// place gives each listener without a port one that is its own until the Process has ended, and the same whenever a listener
// of its name comes again.
func (p *Process) place(listeners []Listener) ([]Listener, error) {
	placed := make([]Listener, len(listeners))
	for i, l := range listeners {
		port := p.ports[l.name()]
		if l.port() == 0 && port == 0 {
			var claim io.Closer
			var err error
			if port, claim, err = claimPort(); err != nil {
				return nil, err
			}
			p.ports[l.name()], p.claims = port, append(p.claims, claim)
		}
		placed[i] = l.on(port)
	}
	return placed, nil
}

// Port is one for listeners that take over from each other. It is the test's until that ends.
func Port(tb testing.TB) int {
	tb.Helper()
	port, claim, err := claimPort()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { claim.Close() })
	return port
}

// Nobody is the host:port of a loopback address that refuses connections until the test ends.
func Nobody(tb testing.TB) string {
	tb.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(Port(tb)))
}
