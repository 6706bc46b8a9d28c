package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// errMalformed says that what came is no HTTP/1.1 response.
var errMalformed = errors.New("malformed response")

// Bounds of a response's head, chunk framing and trailers, so that a server that sends garbage cannot hold a lane.
const (
	maxHeaders = 1000
	maxInterim = 10
)

// readResponse reads one HTTP/1.1 response, its body dropped. keep tells whether the connection may be used again. The
// error is errMalformed, or the reader's; io.EOF means that nothing came at all.
func readResponse(r *bufio.Reader, head bool) (a answer, keep bool, err error) {
	if _, err := r.Peek(1); err != nil {
		return a, false, err
	}
	for range maxInterim {
		h, err := readHead(r)
		if err != nil {
			return a, false, midway(err)
		}
		if h.status == 101 || h.status >= 200 {
			if !head {
				err = h.dropBody(r)
			}
			return h.answer, err == nil && h.keep(head), midway(err)
		}
	}
	return a, false, fmt.Errorf("%w: more than %d interim responses", errMalformed, maxInterim)
}

// midway tells an end inside a response from one before it.
func midway(err error) error {
	if closedByPeer(err) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// responseHead is what the framing and the counting need of a head.
type responseHead struct {
	answer
	length  int64 // -1 without Content-Length
	chunked bool
	close   bool // Connection: close, or HTTP/1.0 without keep-alive
}

func readHead(r *bufio.Reader) (h responseHead, err error) {
	line, err := readLine(r)
	if err != nil {
		return h, err
	}
	h = responseHead{length: -1}
	h.grpc = -1
	version, rest, _ := bytes.Cut(line, []byte(" "))
	code, _, _ := bytes.Cut(rest, []byte(" "))
	status, ok := parseUint(code, 10)
	if !ok || len(code) != 3 || status < 100 || !bytes.HasPrefix(version, []byte("HTTP/1.")) {
		return h, fmt.Errorf("%w: status line %.80q", errMalformed, line)
	}
	h.status = int(status)
	h.close = bytes.Equal(version, []byte("HTTP/1.0"))
	for range maxHeaders {
		line, err := readLine(r)
		if err != nil {
			return h, err
		}
		if len(line) == 0 {
			return h, nil
		}
		if err := h.header(line); err != nil {
			return h, err
		}
	}
	return h, fmt.Errorf("%w: more than %d headers", errMalformed, maxHeaders)
}

// header takes in one header line. It looks at a name only where the length fits: this runs for each line of each answer.
func (h *responseHead) header(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return fmt.Errorf("%w: header line %.80q", errMalformed, line)
	}
	value = bytes.Trim(value, " \t")
	switch {
	case is(name, "content-length"):
		n, ok := parseUint(value, 10)
		if !ok {
			return fmt.Errorf("%w: content-length %.80q", errMalformed, value)
		}
		h.length = n
	case is(name, "transfer-encoding"):
		h.chunked = is(value, "chunked")
	case is(name, "connection"):
		if is(value, "close") {
			h.close = true
		} else if is(value, "keep-alive") {
			h.close = false
		}
	case is(name, "x-envoy-ratelimited"):
		h.ratelimited = true
	case is(name, "grpc-status"):
		if n, ok := parseUint(value, 10); ok && n <= 16 {
			h.grpc = int(n)
		}
	}
	return nil
}

// keep tells whether another response can follow: not when the end of this one is the end of the connection.
func (h *responseHead) keep(head bool) bool {
	return !h.close && h.status != 101 && (head || h.bodiless() || h.chunked || h.length >= 0)
}

func (h *responseHead) bodiless() bool {
	return h.status == 101 || h.status == 204 || h.status == 304
}

func (h *responseHead) dropBody(r *bufio.Reader) error {
	switch {
	case h.bodiless():
		return nil
	case h.chunked:
		return dropChunks(r)
	case h.length >= 0:
		return drop(r, h.length)
	}
	_, err := io.Copy(io.Discard, r) // bounded by the connection's deadline
	return err
}

func dropChunks(r *bufio.Reader) error {
	for {
		line, err := readLine(r)
		if err != nil {
			return err
		}
		size, _, _ := bytes.Cut(line, []byte(";"))
		n, ok := parseUint(bytes.TrimRight(size, " \t"), 16)
		if !ok {
			return fmt.Errorf("%w: chunk size %.80q", errMalformed, line)
		}
		if n == 0 {
			return dropTrailers(r)
		}
		if err := drop(r, n); err != nil {
			return err
		}
		if line, err = readLine(r); err != nil {
			return err
		}
		if len(line) != 0 {
			return fmt.Errorf("%w: chunk longer than its size", errMalformed)
		}
	}
}

func dropTrailers(r *bufio.Reader) error {
	for range maxHeaders {
		line, err := readLine(r)
		if err != nil || len(line) == 0 {
			return err
		}
	}
	return fmt.Errorf("%w: more than %d trailers", errMalformed, maxHeaders)
}

// drop skips n bytes, in steps that fit an int on every platform.
func drop(r *bufio.Reader, n int64) error {
	for n > 0 {
		d, err := r.Discard(int(min(n, math.MaxInt32)))
		if n -= int64(d); err != nil {
			return err
		}
	}
	return nil
}

// readLine returns a line without its end; it is valid until the next read. A line longer than the buffer is malformed.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("%w: line longer than %d bytes", errMalformed, r.Size())
	}
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

// is compares b with a lower-case ASCII word, without regard to case.
func is(b []byte, word string) bool {
	return len(b) == len(word) && bytes.EqualFold(b, []byte(word))
}

// parseUint parses digits only: no sign, no underscore, no 0x.
func parseUint(b []byte, base int) (int64, bool) {
	if len(b) == 0 || b[0] == '+' || b[0] == '-' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(b), base, 64)
	return n, err == nil
}
