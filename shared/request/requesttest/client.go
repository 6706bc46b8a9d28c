// Package requesttest has clients for tests.
package requesttest

import "strings"

// Client is what a stream says of itself, with how often it was asked for what. Its zero value says nothing.
type Client struct {
	Headers    map[string]string
	Properties map[string]string // by their paths' parts with dots between
	Asked      map[string]int    // nil counts nothing
}

// Parse makes a client of "METHOD authority path name=value…"; "-" leaves out a part.
func Parse(line string) *Client {
	c := &Client{Headers: map[string]string{}, Properties: map[string]string{}, Asked: map[string]int{}}
	for i, part := range strings.Fields(line) {
		if part == "-" {
			continue
		}
		if i < 3 {
			c.Headers[[]string{":method", ":authority", ":path"}[i]] = part
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		c.Headers[name] = value
	}
	return c
}

func (c *Client) count(what []byte) {
	if c.Asked != nil {
		c.Asked[string(what)]++
	}
}

// Header implements request.Host.
func (c *Client) Header(name string) (string, bool) {
	var room [64]byte // no allocation: tests count them
	c.count(append(room[:0], name...))
	v, ok := c.Headers[name]
	return v, ok
}

// Property implements request.Host.
func (c *Client) Property(path []string) (string, bool) {
	var room [256]byte
	name := room[:0]
	for i, part := range path {
		if i > 0 {
			name = append(name, '.')
		}
		name = append(name, part...)
	}
	c.count(name)
	v, ok := c.Properties[string(name)]
	return v, ok
}
