package envoytest

import (
	"net"
	"sync"
	"sync/atomic"
)

// TCPService is an upstream that sends back every byte it gets. It may speak first.
type TCPService struct {
	listener net.Listener
	greeting []byte
	accepted atomic.Int64
	bytes    atomic.Int64

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
}

// NewTCPService starts the service on a free loopback port. It greets each connection with greeting, unless that is
// empty.
func NewTCPService(greeting string) (*TCPService, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &TCPService{listener: l, greeting: []byte(greeting), conns: map[net.Conn]bool{}}
	go s.acceptAll()
	return s, nil
}

// Addr gives the service's host:port.
func (s *TCPService) Addr() string { return s.listener.Addr().String() }

// Accepted gives how many connections have arrived.
func (s *TCPService) Accepted() int64 { return s.accepted.Load() }

// Bytes gives how many bytes have arrived.
func (s *TCPService) Bytes() int64 { return s.bytes.Load() }

// Open gives how many connections are open.
func (s *TCPService) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// CloseConns closes the open connections from the service's side; with reset it does so by an RST.
func (s *TCPService) CloseConns(reset bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if tcp, ok := c.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0)
		}
		c.Close()
	}
}

// Close ends the service and its connections.
func (s *TCPService) Close() {
	s.listener.Close()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.CloseConns(false)
}

func (s *TCPService) acceptAll() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return // closed
		}
		s.accepted.Add(1)
		go s.serve(c)
	}
}

func (s *TCPService) serve(c net.Conn) {
	defer c.Close()
	if !s.add(c) {
		return
	}
	defer s.remove(c)
	if len(s.greeting) > 0 {
		if _, err := c.Write(s.greeting); err != nil {
			return
		}
	}
	buf := make([]byte, 16<<10)
	for {
		n, err := c.Read(buf)
		s.bytes.Add(int64(n))
		if n > 0 {
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// add notes an open connection, and says whether the service still runs.
func (s *TCPService) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.conns[c] = true
	}
	return !s.closed
}

func (s *TCPService) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}
