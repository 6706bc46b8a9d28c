package load

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// http1Lane speaks HTTP/1.1 on one kept connection. It writes a batch of pipelined requests at once and then reads their
// answers. It exists beside net/http because the client shares its cores with what it measures.
type http1Lane struct {
	target
	tally *tally
	one   int    // length of one request
	batch []byte // Pipeline requests in a row

	conn *guardedConn // nil: not connected
	r    *bufio.Reader
	used bool // conn has answered before
}

func newHTTP1Lane(t target, tally *tally) *http1Lane {
	request := appendRequest(nil, t, "")
	return &http1Lane{
		target: t, tally: tally,
		one: len(request), batch: bytes.Repeat(request, t.Pipeline),
		r: bufio.NewReaderSize(nil, 16<<10),
	}
}

// appendRequest appends an HTTP/1.1 request; extra is further header lines.
func appendRequest(b []byte, t target, extra string) []byte {
	b = fmt.Appendf(b, "%s %s HTTP/1.1\r\nHost: %s\r\n%s", t.Method, t.url.RequestURI(), t.authority, extra)
	names := make([]string, 0, len(t.Header))
	for name := range t.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.EqualFold(name, "Host") {
			continue
		}
		for _, v := range t.Header[name] {
			b = fmt.Appendf(b, "%s: %s\r\n", name, v)
		}
	}
	if len(t.Body) > 0 || t.Method != "GET" && t.Method != "HEAD" {
		b = fmt.Appendf(b, "Content-Length: %d\r\n", len(t.Body))
	}
	b = append(b, "\r\n"...)
	return append(b, t.Body...)
}

func (l *http1Lane) depth() int { return l.Pipeline }

func (l *http1Lane) close() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// exchange goes on with a new connection after an answer that announced a close: the server has not looked at what was
// pipelined behind it. Nor has it when a kept connection turns out closed before a first byte came back, which is how an
// idle one ends. Each turn of the loop answers a request or uses up a kept connection, so it ends.
func (l *http1Lane) exchange(ctx context.Context, due []time.Duration) {
	for len(due) > 0 {
		if l.conn == nil {
			c, err := dial(ctx, l.addr, l.Timeout, l.tally)
			if err != nil {
				l.tally.fail(due, failConnect, err)
				l.pauseAfterRefusal(ctx)
				return
			}
			l.conn, l.used = c, false
			l.r.Reset(c)
		}
		stale := l.used
		answered, err := l.round(due)
		due = due[answered:]
		if err == nil {
			continue
		}
		l.close()
		if stale && answered == 0 && closedByPeer(err) {
			continue
		}
		l.tally.fail(due, failureOf(err, ctx.Err() != nil), err)
		return
	}
}

// round sends the requests and reads answers until the last or until one closes the connection. It returns how many
// were answered.
func (l *http1Lane) round(due []time.Duration) (answered int, err error) {
	if err := l.conn.begin(l.Timeout); err != nil {
		return 0, err
	}
	if _, err := l.conn.Write(l.batch[:len(due)*l.one]); err != nil {
		return 0, err
	}
	for i, at := range due {
		a, keep, err := readResponse(l.r, l.Method == "HEAD")
		if err != nil {
			return i, err
		}
		l.tally.http(at, a)
		l.used = true
		if !keep {
			l.close()
			return i + 1, nil
		}
	}
	return len(due), nil
}
