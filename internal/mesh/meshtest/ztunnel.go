package meshtest

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
)

// Ztunnel stands for a node's proxy in ambient mode. It speaks HBONE, as ztunnel does: each connection is a CONNECT in HTTP/2,
// with mTLS by the identity of the pod.
type Ztunnel struct {
	trust *Trust
	// Addr is where it takes what is for the node's pods.
	Addr string
	// Taken are the connections that came so.
	Taken atomic.Int64
}

// StartZtunnel runs one on a loopback port until the test's end. The pods of its node have the service account given.
func StartZtunnel(t testing.TB, trust *Trust, account string) *Ztunnel {
	t.Helper()
	z := &Ztunnel{trust: trust}
	server := httptest.NewUnstartedServer(http.HandlerFunc(z.take))
	server.EnableHTTP2 = true
	server.TLS = trust.config(account)
	server.StartTLS()
	t.Cleanup(server.Close)
	z.Addr = server.Listener.Addr().String()
	return z
}

// take hands a connection to the pod that it names.
func (z *Ztunnel) take(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect || r.ProtoMajor != 2 {
		http.Error(w, "no HBONE", http.StatusBadRequest)
		return
	}
	z.Taken.Add(1)
	pod, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer pod.Close()
	answer := http.NewResponseController(w)
	_ = answer.Flush()
	go func() { _, _ = io.Copy(pod, r.Body); _ = pod.(*net.TCPConn).CloseWrite() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := pod.Read(buf)
		if _, e := w.Write(buf[:n]); e != nil || err != nil {
			return
		}
		_ = answer.Flush()
	}
}

// Tunnel listens on a loopback port until the test's end, as if it were target, and gives its host:port. Each connection goes to
// target by a waypoint.
func (z *Ztunnel) Tunnel(t testing.TB, waypoint, target, account string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	transport := &http.Transport{TLSClientConfig: z.trust.config(account), Protocols: &protocols}
	t.Cleanup(func() { cancel(); l.Close(); transport.CloseIdleConnections() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go tunnel(ctx, transport, c, waypoint, target)
		}
	}()
	return l.Addr().String()
}

// tunnel carries one connection until either side ends it.
func tunnel(ctx context.Context, transport *http.Transport, c net.Conn, waypoint, target string) {
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := (&http.Request{
		Method: http.MethodConnect, URL: &url.URL{Scheme: "https", Host: waypoint}, Host: target,
		Header: http.Header{
			"Baggage":     {"k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.pod.name=client"},
			"Forwarded":   {`for="` + c.RemoteAddr().String() + `"`},
			"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"},
		},
		Body: io.NopCloser(c),
	}).WithContext(ctx)
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK {
		_, _ = io.Copy(c, answer.Body)
	}
}

// Refused is the error with which a waypoint ends a connection of a client without a certificate.
func Refused(ctx context.Context, waypoint string) error {
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}}
	c, err := d.DialContext(ctx, "tcp", waypoint)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Read(make([]byte, 1)) // with TLS 1.3 the server tells of it after the handshake
	return err
}
