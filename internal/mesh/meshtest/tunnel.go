package meshtest

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"

	"golang.org/x/net/http2"
)

// StartTunnel listens on a loopback port until the test's end, and gives its host:port. Each connection goes through a
// CONNECT to target, in HTTP/2 without TLS, at the proxy.
func StartTunnel(t testing.TB, proxy, target string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); l.Close() })
	transport := &http2.Transport{
		AllowHTTP: true,
		DialTLSContext: func(ctx context.Context, _, _ string, _ *tls.Config) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", proxy)
		},
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go tunnel(ctx, transport, c, proxy, target)
		}
	}()
	return l.Addr().String()
}

// tunnel carries one connection until either side ends it.
func tunnel(ctx context.Context, transport *http2.Transport, c net.Conn, proxy, target string) {
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &http.Request{
		Method: http.MethodConnect, URL: &url.URL{Scheme: "http", Host: proxy}, Host: target,
		Header: http.Header{}, Body: io.NopCloser(c),
	}
	answer, err := transport.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK {
		_, _ = io.Copy(c, answer.Body)
	}
}
