package envoytest

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Behaviour is how an HTTPService answers. Each request may ask for its own with the headers and the path named below.
type Behaviour struct {
	Status int           // default 200; a path /status/<n> wins
	Delay  time.Duration // before the answer; header x-delay-ms
	Body   int           // bytes of body; 0 for "ok"; header x-body-bytes
	Reset  bool          // end the connection or stream before the answer's end; header x-reset, "1". With Body it comes
	// after the header and half of the body, otherwise before anything
	Trailers http.Header // sent after the body
}

// freePort is the address that stands for any free loopback port.
const freePort = "127.0.0.1:0"

// FreePorts gives n different loopback ports that nobody listens on.
func FreePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp4", freePort)
		if err != nil {
			return nil, err
		}
		defer l.Close() // after the loop: a port is not given twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// Serve has a handler answer in HTTP/1.1 and in HTTP/2 without TLS at a host:port, of which port 0 is any that is free. The
// server's Addr is where it really listens; close it after use.
func Serve(addr string, h http.Handler) (*http.Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Addr: l.Addr().String(), Handler: h, Protocols: &protocols}
	go server.Serve(l)
	return server, nil
}

// HTTPService is an upstream that speaks HTTP/1.1 and HTTP/2 without TLS on one port.
type HTTPService struct {
	server    *http.Server
	behaviour atomic.Pointer[Behaviour]
	requests  atomic.Int64
	inFlight  atomic.Int64
	last      atomic.Pointer[http.Request]
}

// NewHTTPService starts the service on a free loopback port.
func NewHTTPService() (*HTTPService, error) {
	s := &HTTPService{}
	s.Behave(Behaviour{})
	var err error
	s.server, err = Serve(freePort, http.HandlerFunc(s.serve))
	return s, err
}

// Addr gives the service's host:port.
func (s *HTTPService) Addr() string { return s.server.Addr }

// Behave sets how the service answers from now on.
func (s *HTTPService) Behave(b Behaviour) { s.behaviour.Store(&b) }

// Requests gives how many requests have arrived.
func (s *HTTPService) Requests() int64 { return s.requests.Load() }

// InFlight gives how many requests are being answered.
func (s *HTTPService) InFlight() int64 { return s.inFlight.Load() }

// Last gives the request that arrived last, without its body; nil before the first.
func (s *HTTPService) Last() *http.Request { return s.last.Load() }

// Close ends the service and its connections.
func (s *HTTPService) Close() { s.server.Close() }

func (s *HTTPService) serve(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	s.last.Store(r)

	b := s.behaviour.Load().with(r)
	if sleep(r.Context(), b.Delay) != nil {
		return // the client has gone
	}
	if b.Reset && b.Body == 0 {
		panic(http.ErrAbortHandler)
	}
	for name, values := range b.Trailers {
		w.Header()[http.TrailerPrefix+name] = values
	}
	body := "ok"
	if b.Body > 0 {
		body = strings.Repeat("x", b.Body)
		w.Header().Set("content-length", strconv.Itoa(b.Body))
	}
	w.WriteHeader(b.Status)
	if b.Reset {
		_, _ = w.Write([]byte(body[:len(body)/2]))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write([]byte(body))
}

// with gives the behaviour for a request, which may ask for its own.
func (b Behaviour) with(r *http.Request) Behaviour {
	b.Status = or(b.Status, http.StatusOK)
	if code, ok := strings.CutPrefix(r.URL.Path, "/status/"); ok {
		if n, err := strconv.Atoi(code); err == nil && n >= 200 && n <= 599 {
			b.Status = n
		}
	}
	if n, err := strconv.Atoi(r.Header.Get("x-delay-ms")); err == nil {
		b.Delay = time.Duration(n) * time.Millisecond
	}
	if n, err := strconv.Atoi(r.Header.Get("x-body-bytes")); err == nil && n >= 0 {
		b.Body = n
	}
	if r.Header.Get("x-reset") == "1" {
		b.Reset = true
	}
	return b
}
