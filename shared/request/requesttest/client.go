// Package requesttest has clients for tests.
package requesttest

import "strings"

// Client is what a stream says of itself, with how often it was asked for what. Its zero value says nothing.
type Client struct {
	Headers    map[string]string   // a header's first line
	More       map[string][]string // its other lines
	Properties map[string]string   // by their paths' parts with dots between
	Asked      map[string]int      // nil counts nothing
}

// Parse makes a client of "METHOD authority path name=value…"; "-" leaves out a part, and a name may come again.
func Parse(line string) *Client {
	c := &Client{Headers: map[string]string{}, More: map[string][]string{}, Properties: map[string]string{}, Asked: map[string]int{}}
	for i, part := range strings.Fields(line) {
		if part == "-" {
			continue
		}
		if i < 3 {
			c.Headers[[]string{":method", ":authority", ":path"}[i]] = part
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		if _, again := c.Headers[name]; again {
			c.More[name] = append(c.More[name], value)
			continue
		}
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

// Lines implements request.Host.
func (c *Client) Lines(dst []string, name string) []string {
	c.count([]byte("all " + name))
	if v, ok := c.Headers[name]; ok {
		dst = append(append(dst, v), c.More[name]...)
	}
	return dst
}

// Property implements request.Host. It knows request.headers, as Envoy does: all lines with commas between.
func (c *Client) Property(path []string) (string, bool) {
	if len(path) == 3 && path[0] == "request" && path[1] == "headers" {
		var room [64]byte
		c.count(append(room[:0], path[2]...))
		v, ok := c.Headers[path[2]]
		for _, line := range c.More[path[2]] {
			v += "," + line
		}
		return v, ok
	}
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
