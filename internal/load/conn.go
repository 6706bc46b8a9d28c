package load

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

// guardedConn is a connection whose reads and writes fail once a context has ended.
type guardedConn struct {
	net.Conn
	ctx  context.Context
	stop func() bool
}

// dial connects within timeout and counts the connection. An error that closedByPeer knows says that the other end
// accepted and then reset the connection before the dialer had looked at it.
func dial(ctx context.Context, addr string, timeout time.Duration, t *tally) (*guardedConn, error) {
	d := net.Dialer{Timeout: timeout}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err == nil || closedByPeer(err) {
		t.opened()
	}
	if err != nil {
		return nil, err
	}
	g := &guardedConn{Conn: c, ctx: ctx}
	g.stop = context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	return g, nil
}

// begin gives what follows a deadline.
func (g *guardedConn) begin(timeout time.Duration) error {
	if err := g.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	// Asked after the deadline is set: an end before that would have its own deadline overwritten.
	return g.ctx.Err()
}

func (g *guardedConn) Close() error {
	g.stop()
	return g.Conn.Close()
}

// closedByPeer reports whether err says that the other end closed the connection, in order or by reset.
func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
