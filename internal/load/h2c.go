package load

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// h2Conn is one HTTP/2 connection, made anew when it has ended. Its lanes share it.
type h2Conn struct {
	target
	tally     *tally
	transport *http.Transport

	mu sync.Mutex
	cc *http.ClientConn
}

func newH2Conn(t target, tally *tally) *h2Conn {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return &h2Conn{target: t, tally: tally, transport: &http.Transport{Protocols: &protocols, DisableCompression: true}}
}

// get returns the connection, opened where there is none that takes requests.
func (c *h2Conn) get(ctx context.Context) (*http.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cc != nil {
		// The server may have sent GOAWAY: then there is no error yet, but no room either, now or later.
		if c.cc.Err() == nil && (c.cc.Available() > 0 || c.cc.InFlight() > 0) {
			return c.cc, nil
		}
		c.cc.Close()
		c.cc = nil
	}
	cc, err := c.transport.NewClientConn(ctx, "http", c.addr)
	if err != nil {
		return nil, err
	}
	c.tally.opened()
	c.cc = cc
	return cc, nil
}

func (c *h2Conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cc != nil {
		c.cc.Close()
		c.cc = nil
	}
}

// h2Lane is one stream at a time of an h2Conn.
type h2Lane struct {
	target
	conn  *h2Conn
	tally *tally
}

func (l *h2Lane) depth() int { return 1 }

func (l *h2Lane) close() { l.conn.close() }

func (l *h2Lane) exchange(ctx context.Context, due []time.Duration) {
	timed, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	cc, err := l.conn.get(timed)
	if err != nil {
		l.tally.fail(due, failConnect, err)
		l.pauseAfterRefusal(ctx)
		return
	}
	a, err := l.roundTrip(timed, cc)
	if err != nil {
		l.tally.fail(due, failureOf(err, ctx.Err() != nil), err)
		return
	}
	l.tally.http(due[0], a)
}

func (l *h2Lane) roundTrip(ctx context.Context, cc *http.ClientConn) (answer, error) {
	req := &http.Request{Method: l.Method, URL: l.url, Host: l.authority, Header: l.requestHeader()}
	if len(l.Body) > 0 {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(l.Body)), int64(len(l.Body))
	}
	resp, err := cc.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode, grpc: -1, ratelimited: len(resp.Header["X-Envoy-Ratelimited"]) > 0}
	// A gRPC answer without messages has its status in the headers, any other in the trailers.
	for _, h := range []http.Header{resp.Header, resp.Trailer} {
		if n, err := strconv.ParseUint(h.Get("Grpc-Status"), 10, 8); err == nil && n <= 16 {
			a.grpc = int(n)
		}
	}
	return a, nil
}

// requestHeader returns a copy for one request, which the transport may change.
func (l *h2Lane) requestHeader() http.Header {
	h := make(http.Header, len(l.Header))
	for name, values := range l.Header {
		if !strings.EqualFold(name, "Host") {
			h[http.CanonicalHeaderKey(name)] = values
		}
	}
	return h
}
