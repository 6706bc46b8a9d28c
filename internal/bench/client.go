package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// requestTimeout bounds one request, so that a stuck Envoy ends the run.
const requestTimeout = 30 * time.Second

// client is a closed loop over a few keep-alive connections to one listener. One goroutine sends a request on each, then
// reads an answer from each: so Envoy always finds the same amount of work when it wakes, whatever else the machine does,
// and the client takes little from the Envoy it measures.
type client struct {
	connections []*connection
	requests    [][]byte // in the order in which they are sent
	next        int      // index of the next one
	status      int      // of every answer that is as it should be
	held        *client  // what stays open for as long as this does, nil for nothing
}

type connection struct {
	net.Conn

	reader *bufio.Reader
}

// requestsFor are requests for the first n paths, with further headers, each with the end of its line.
func requestsFor(n int, headers ...string) [][]byte {
	requests := make([][]byte, n)
	for i := range requests {
		requests[i] = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nhost: bench\r\n%s\r\n", path(i), strings.Join(headers, ""))
	}
	return requests
}

// dial opens n connections to address, on which to make these requests in turn.
func dial(address string, n int, requests [][]byte) (*client, error) {
	c := &client{requests: requests, status: 200}
	for range n {
		conn, err := net.DialTimeout("tcp", address, requestTimeout)
		if err != nil {
			c.close()
			return nil, err
		}
		c.connections = append(c.connections, &connection{conn, bufio.NewReader(conn)})
	}
	return c, nil
}

func (c *client) close() {
	if c.held != nil {
		c.held.close()
	}
	for _, conn := range c.connections {
		conn.Close()
	}
}

// send makes n requests, on all connections in turn, and counts the answers by their status.
func (c *client) send(ctx context.Context, n int) (map[int]int, error) {
	statuses := map[int]int{}
	for left := n; left > 0; left -= len(c.connections) {
		if err := ctx.Err(); err != nil {
			return statuses, err
		}
		if err := c.sendOnce(c.connections[:min(left, len(c.connections))], statuses); err != nil {
			return statuses, err
		}
	}
	return statuses, nil
}

// sendOnce makes one request on each of the connections.
func (c *client) sendOnce(connections []*connection, statuses map[int]int) error {
	deadline := time.Now().Add(requestTimeout)
	for _, conn := range connections {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
		if _, err := conn.Write(c.requests[c.next]); err != nil {
			return err
		}
		c.next = (c.next + 1) % len(c.requests)
	}
	for _, conn := range connections {
		status, err := readResponse(conn.reader)
		if err != nil {
			return err
		}
		statuses[status]++
	}
	return nil
}

// sendOK is send, and fails where an answer has not the client's status, which is 200 unless it was given another.
func (c *client) sendOK(ctx context.Context, n int) error {
	statuses, err := c.send(ctx, n)
	if err == nil && statuses[c.status] != n {
		err = fmt.Errorf("not every answer is %d: %v", c.status, statuses)
	}
	return err
}

// readResponse reads one HTTP/1.1 response with a content-length and returns its status.
func readResponse(r *bufio.Reader) (int, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, fmt.Errorf("not a response: %q", line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, fmt.Errorf("not a status: %q", line)
	}
	length := 0
	for {
		if line, err = r.ReadSlice('\n'); err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			_, err = io.CopyN(io.Discard, r, int64(length))
			return status, err
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 {
				return 0, fmt.Errorf("content-length %q", value)
			}
		}
	}
}

// say replaces the requests to be made.
func (c *client) say(requests [][]byte) { c.requests, c.next = requests, 0 }
