package load

import (
	"context"
	"strings"
	"time"
)

// Outcomes of a TCP request that got an answer, as they stand in Summary.Status.
const (
	tcpData    = "data"
	tcpClosed  = "closed without data"
	tcpBlocked = "block message"
)

// tcpLane opens one connection per request.
type tcpLane struct {
	target
	tally   *tally
	request []byte // sent first; empty when the server speaks first
	buf     []byte
}

func newTCPLane(t target, tally *tally) *tcpLane {
	l := &tcpLane{target: t, tally: tally, buf: make([]byte, max(4096, len(t.BlockMessage)))}
	if t.Path != "" {
		l.request = appendRequest(nil, t, "Connection: close\r\n")
	}
	return l
}

func (l *tcpLane) depth() int { return 1 }
func (l *tcpLane) close()     {}

func (l *tcpLane) exchange(ctx context.Context, due []time.Duration) {
	c, err := dial(ctx, l.addr, l.Timeout, l.tally)
	if closedByPeer(err) {
		l.tally.stream(due[0], tcpClosed, blocked)
		return
	}
	if err != nil {
		l.tally.fail(due, failConnect, err)
		l.pauseAfterRefusal(ctx)
		return
	}
	defer c.Close()
	kind, class, err := l.converse(c)
	if err != nil {
		l.tally.fail(due, failureOf(err, ctx.Err() != nil), err)
		return
	}
	l.tally.stream(due[0], kind, class)
}

// converse sends the request and reads until it is clear what the connection counts as. A close before any data is a
// block, whether it shows in writing or in reading.
func (l *tcpLane) converse(c *guardedConn) (kind string, _ class, _ error) {
	if err := c.begin(l.Timeout); err != nil {
		return "", failed, err
	}
	if len(l.request) > 0 {
		if _, err := c.Write(l.request); err != nil && !closedByPeer(err) {
			return "", failed, err
		}
	}
	got := 0
	for {
		n, err := c.Read(l.buf[got:])
		got += n
		data := string(l.buf[:got])
		switch {
		case l.BlockMessage != "" && strings.HasPrefix(data, l.BlockMessage):
			return tcpBlocked, blocked, nil
		case got > 0 && (err != nil || !strings.HasPrefix(l.BlockMessage, data)):
			return tcpData, passed, nil
		case closedByPeer(err):
			return tcpClosed, blocked, nil
		case err != nil:
			return "", failed, err
		}
		// What came so far is the start of the block message, or nothing: the rest decides.
	}
}
