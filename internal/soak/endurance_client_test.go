package soak

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// patience is how long a client waits for an answer.
	patience = 30 * time.Second
	// renewAfter is how many requests a kept connection carries before its client opens another, perhaps to another worker.
	renewAfter = 2000
	// batch is how many streams an HTTP/2 client has open at once.
	batch = 5
)

// ask is a request: a path, and the parameters that hotspot rules and the upstream look at.
type ask struct{ path, user, delay string }

// answer is what a client got: a status, and the rule that the body names where it is a refusal of ours.
type answer struct {
	status int
	rule   string
}

// ruleIn is the rule that a refusal names: "blocked by flow rule limited: 50 of 50 …".
func ruleIn(body []byte) string {
	_, after, ok := bytes.Cut(body, []byte(" rule "))
	name, _, ok2 := bytes.Cut(after, []byte(":"))
	if !ok || !ok2 || !bytes.HasPrefix(body, []byte("blocked by ")) {
		return ""
	}
	return string(name)
}

// http1 is a client with one kept connection. It exists because it shares two cores with what it exercises: net/http's
// costs several times as much.
type http1 struct {
	addr string
	conn net.Conn
	in   *bufio.Reader
	out  []byte
	used int
}

func (c *http1) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// get sends a request and reads the whole answer.
func (c *http1) get(a ask) (answer, error) {
	if c.used++; c.used%renewAfter == 0 {
		c.close()
	}
	if c.conn == nil {
		var err error
		if c.conn, err = net.DialTimeout("tcp", c.addr, patience); err != nil {
			return answer{}, err
		}
		c.in = bufio.NewReader(c.conn)
	}
	c.out = append(c.out[:0], "GET "...)
	c.out = append(c.out, a.path...)
	c.out = append(c.out, " HTTP/1.1\r\nhost: soak\r\n"...)
	c.out = appendHeader(c.out, "x-user", a.user)
	c.out = appendHeader(c.out, "x-delay-ms", a.delay)
	c.out = append(c.out, "\r\n"...)
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return answer{}, err
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return answer{}, err
	}
	return readAnswer(c.in)
}

func appendHeader(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// readAnswer reads an HTTP/1.1 response that has a content-length, as all do that Envoy and our upstream make here.
func readAnswer(in *bufio.Reader) (answer, error) {
	first, err := in.ReadSlice('\n')
	if err != nil {
		return answer{}, err
	}
	var a answer
	if len(first) < 12 {
		return a, fmt.Errorf("status line %q", first)
	}
	if a.status, err = strconv.Atoi(string(first[9:12])); err != nil {
		return a, fmt.Errorf("status line %q", first)
	}
	length := 0
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return a, err
		}
		if len(line) <= 2 {
			break
		}
		if text, ok := bytes.CutPrefix(line, []byte("content-length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(text))); err != nil {
				return a, err
			}
		}
	}
	body, err := in.Peek(length)
	if err != nil {
		return a, err
	}
	if a.status == 429 {
		a.rule = ruleIn(body)
	}
	_, err = in.Discard(length)
	return a, err
}

// http2Client is a client with one connection, on which it has several streams at once.
type http2Client struct {
	addr    string
	conn    net.Conn
	framer  *http2.Framer
	out     bytes.Buffer
	block   bytes.Buffer
	encoder *hpack.Encoder
	next    uint32 // id of the next stream
	streams [batch]stream2
}

type stream2 struct {
	answer
	body []byte
	done bool
}

func (c *http2Client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *http2Client) open() (err error) {
	if c.conn, err = net.DialTimeout("tcp", c.addr, patience); err != nil {
		return err
	}
	c.out.Reset()
	c.framer = http2.NewFramer(&c.out, bufio.NewReader(c.conn))
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.encoder, c.next = hpack.NewEncoder(&c.block), 1
	c.out.WriteString(http2.ClientPreface)
	if err := c.framer.WriteSettings(); err != nil {
		return err
	}
	// More than the bodies of all answers that the connection will carry: it need not be renewed.
	return c.framer.WriteWindowUpdate(0, 1<<30)
}

// get sends requests at once, and reads the answers to all.
func (c *http2Client) get(asks *[batch]ask) (answers [batch]answer, err error) {
	if c.next > 2*renewAfter {
		c.close()
	}
	if c.conn == nil {
		if err := c.open(); err != nil {
			return answers, err
		}
	}
	first := c.next
	for i := range asks {
		c.streams[i] = stream2{body: c.streams[i].body[:0]}
		if err := c.request(&asks[i]); err != nil {
			return answers, err
		}
	}
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return answers, err
	}
	for open := batch; open > 0; {
		if c.out.Len() > 0 {
			if _, err := c.out.WriteTo(c.conn); err != nil {
				return answers, err
			}
		}
		ended, err := c.hear(first)
		if err != nil {
			return answers, err
		}
		open -= ended
	}
	for i := range answers {
		s := &c.streams[i]
		if answers[i] = s.answer; s.status == 429 {
			answers[i].rule = ruleIn(s.body)
		}
	}
	return answers, nil
}

func (c *http2Client) request(a *ask) error {
	c.block.Reset()
	for _, f := range [...]hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"},
		{Name: ":authority", Value: "soak"}, {Name: ":path", Value: a.path}, {Name: "x-user", Value: a.user},
		{Name: "x-delay-ms", Value: a.delay}} {
		if f.Value == "" {
			continue
		}
		if err := c.encoder.WriteField(f); err != nil {
			return err
		}
	}
	id := c.next
	c.next += 2
	return c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: c.block.Bytes(), EndStream: true, EndHeaders: true})
}

// hear reads a frame, and gives how many streams ended with it; first is the id of the batch's first stream.
func (c *http2Client) hear(first uint32) (ended int, err error) {
	frame, err := c.framer.ReadFrame()
	if err != nil {
		return 0, err
	}
	h := frame.Header()
	var s *stream2
	if h.StreamID >= first && h.StreamID < first+2*batch {
		s = &c.streams[(h.StreamID-first)/2]
	}
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return 0, c.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return 0, c.framer.WritePing(true, f.Data)
		}
	case *http2.GoAwayFrame:
		return 0, fmt.Errorf("GOAWAY: %v", f.ErrCode)
	case *http2.RSTStreamFrame:
		return 0, fmt.Errorf("stream reset: %v", f.ErrCode)
	case *http2.MetaHeadersFrame:
		if s == nil {
			return 0, fmt.Errorf("headers on stream %d", h.StreamID)
		}
		if s.status, err = strconv.Atoi(f.PseudoValue("status")); err != nil {
			return 0, err
		}
		return s.end(f.StreamEnded())
	case *http2.DataFrame:
		if s == nil {
			return 0, fmt.Errorf("data on stream %d", h.StreamID)
		}
		s.body = append(s.body, f.Data()...)
		return s.end(f.StreamEnded())
	}
	return 0, nil
}

func (s *stream2) end(ended bool) (int, error) {
	if !ended {
		return 0, nil
	}
	if s.done {
		return 0, errors.New("a stream ended twice")
	}
	s.done = true
	return 1, nil
}

// connect opens a TCP connection from a loopback address, says a byte and waits for its echo. It tells whether that came,
// or the connection was closed without. Half of the connections end by a reset, half in order. The many source addresses
// keep ports from running out.
func connect(addr string, r *rand.Rand) (passed bool, err error) {
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+r.IntN(16)))}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		// Closed by Envoy between its SYN and our look at it.
		return false, unlessClosed(err)
	}
	defer conn.Close()
	if r.IntN(2) == 0 {
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
			return false, err
		}
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return false, err
	}
	word := [1]byte{'x'}
	if _, err := conn.Write(word[:]); err != nil {
		return false, unlessClosed(err)
	}
	if _, err := io.ReadFull(conn, word[:]); err != nil {
		return false, unlessClosed(err)
	}
	return true, nil
}

// unlessClosed is nil where the other side has closed or reset the connection.
func unlessClosed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}
