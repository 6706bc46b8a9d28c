package load

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadResponse(t *testing.T) {
	ok := answer{status: 200, grpc: -1}
	for _, tc := range []struct {
		name, in string
		head     bool
		want     answer
		keep     bool
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", false, ok, true},
		{"lower case, bare LF", "HTTP/1.1 200 OK\ncontent-length:3\n\nabc", false, ok, true},
		{"no reason phrase", "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", false, ok, true},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", false, ok, true},
		{"chunked with trailers", "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n1\r\na\r\n0\r\nx: y\r\nz: w\r\n\r\n", false, ok, true},
		{"close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na", false, ok, false},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", false, ok, false},
		{"HTTP/1.0 kept", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", false, ok, true},
		{"until close", "HTTP/1.1 200 OK\r\n\r\nabc", false, ok, false},
		{"interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, ok, true},
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true, ok, true},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", false, answer{status: 204, grpc: -1}, true},
		{"not modified, with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", false, answer{status: 304, grpc: -1}, true},
		{"blocked", "HTTP/1.1 503 x\r\nX-Envoy-RateLimited: true\r\nContent-Length: 0\r\n\r\n", false, answer{status: 503, grpc: -1, ratelimited: true}, true},
		{"grpc", "HTTP/1.1 200 OK\r\ngrpc-status: 8\r\nContent-Length: 0\r\n\r\n", false, answer{status: 200, grpc: 8}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// What follows must be left alone, unless the connection's end is the body's.
			next := "HTTP/1.1 299 next\r\nContent-Length: 0\r\n\r\n"
			untilClose := tc.name == "until close"
			in := tc.in
			if !untilClose {
				in += next
			}
			r := bufio.NewReader(iotest.OneByteReader(strings.NewReader(in)))
			got, keep, err := readResponse(r, tc.head)
			if err != nil || got != tc.want || keep != tc.keep {
				t.Fatalf("got %+v, keep %v, error %v; want %+v, keep %v", got, keep, err, tc.want, tc.keep)
			}
			if untilClose {
				return
			}
			if got, _, err := readResponse(r, false); err != nil || got.status != 299 {
				t.Errorf("the next response: %+v, error %v", got, err)
			}
		})
	}
}

func TestReadResponseCutAnywhere(t *testing.T) {
	for _, whole := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n",
	} {
		for n := range len(whole) {
			_, _, err := readResponse(bufio.NewReader(strings.NewReader(whole[:n])), false)
			want := io.ErrUnexpectedEOF
			if n == 0 {
				want = io.EOF
			}
			if !errors.Is(err, want) {
				t.Errorf("%q: error %v, want %v", whole[:n], err, want)
			}
		}
	}
}

func TestReadResponseMalformed(t *testing.T) {
	const start = "HTTP/1.1 200 OK\r\n"
	for name, in := range map[string]string{
		"another protocol":      "SSH-2.0-x\r\n\r\n",
		"no status":             "HTTP/1.1\r\n\r\n",
		"signed status":         "HTTP/1.1 +20 x\r\n\r\n",
		"status of two digits":  "HTTP/1.1 99 x\r\n\r\n",
		"header without colon":  start + "abc\r\n\r\n",
		"negative length":       start + "Content-Length: -1\r\n\r\n",
		"length beyond int64":   start + "Content-Length: 99999999999999999999\r\n\r\n",
		"chunk size":            start + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
		"chunk beyond its size": start + "Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
		"endless line":          start + "x: " + strings.Repeat("y", 1<<20),
		"endless headers":       start + strings.Repeat("x: y\r\n", 1<<16),
		"endless trailers":      start + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("x: y\r\n", 1<<16),
		"endless interim":       strings.Repeat("HTTP/1.1 100 x\r\n\r\n", 1<<16),
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := readResponse(bufio.NewReader(strings.NewReader(in)), false)
			if !errors.Is(err, errMalformed) {
				t.Errorf("error %v, want %v", err, errMalformed)
			}
		})
	}
}

func FuzzReadResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), false)
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), false)
	f.Add([]byte("HTTP/1.0 304 x\r\n\r\n"), true)
	f.Fuzz(func(t *testing.T, in []byte, head bool) {
		a, keep, err := readResponse(bufio.NewReader(strings.NewReader(string(in))), head)
		if err != nil && keep {
			t.Error("a connection with an error may not be kept")
		}
		if err == nil && (a.status < 101 || a.status > 999) {
			t.Errorf("status %d", a.status)
		}
	})
}

func TestAnswerClass(t *testing.T) {
	for _, tc := range []struct {
		a    answer
		want class
	}{
		{answer{status: 200, grpc: -1}, passed},
		{answer{status: 404, grpc: -1}, passed},
		{answer{status: 429, grpc: -1}, blocked},
		{answer{status: 503, grpc: -1}, failed},
		{answer{status: 503, grpc: -1, ratelimited: true}, blocked},
		{answer{status: 200, grpc: 0}, passed},
		{answer{status: 200, grpc: 5}, passed},
		{answer{status: 200, grpc: 8}, blocked},
		{answer{status: 200, grpc: 14}, failed},
	} {
		if got := tc.a.class(); got != tc.want {
			t.Errorf("%+v counts as %d, want %d", tc.a, got, tc.want)
		}
	}
}
