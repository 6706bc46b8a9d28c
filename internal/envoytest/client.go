package envoytest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// Response is what a client got.
type Response struct {
	Status  int
	Proto   string // such as "HTTP/2.0"
	Header  http.Header
	Trailer http.Header
	Body    string
}

// NewHTTPClient gives a client that speaks HTTP/1.1, or HTTP/2 with prior knowledge, without TLS, and follows no
// redirects. Close its idle connections after use.
func NewHTTPClient(http2 bool) *http.Client {
	var protocols http.Protocols
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	return &http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{Protocols: &protocols, MaxIdleConnsPerHost: 1000},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Do sends a request without a body and reads the whole answer. headers are names and values in turn; "host" sets the
// request's host.
func Do(ctx context.Context, c *http.Client, method, url string, headers ...string) (Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return Response{}, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if strings.EqualFold(headers[i], "host") {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return Response{}, err
	}
	defer resp.Body.Close()
	return readResponse(resp)
}

func readResponse(resp *http.Response) (Response, error) {
	var body strings.Builder
	_, err := io.Copy(&body, resp.Body)
	return Response{
		Status: resp.StatusCode, Proto: resp.Proto, Header: resp.Header, Trailer: resp.Trailer, Body: body.String(),
	}, err
}

// Raw sends bytes to a host:port and gives what comes back until the other side closes or resets the connection, or
// nothing has come for quiet. (Who closes without having read all resets, so the two can't be told apart reliably.)
func Raw(ctx context.Context, addr string, send []byte, quiet time.Duration) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := conn.Write(send); err != nil && !isClosed(err) {
		return nil, err
	}
	var got []byte
	buf := make([]byte, 16<<10)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(quiet)); err != nil {
			return got, err
		}
		n, err := conn.Read(buf)
		got = append(got, buf[:n]...)
		if isClosed(err) || errors.Is(err, os.ErrDeadlineExceeded) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
}

// isClosed says whether an error means that the other side has closed or reset the connection.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// Reset closes a connection by an RST.
func Reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}
