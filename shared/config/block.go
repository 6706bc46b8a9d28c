package config

import (
	"sort"
	"strconv"
	"strings"
)

// block reads the answer to what is refused.
func (p *parser) block(at *place, v value, b *Block) {
	p.object(at, v, []field{
		{"status", p.only(KindHTTP, func(at *place, v value) { p.blockStatus(at, v, b) })},
		{"body", p.text(&b.Body, maxBody)},
		{"headers", p.only(KindHTTP, func(at *place, v value) { p.blockHeaders(at, v, b) })},
		{"grpc_status", p.only(KindHTTP, integer(p, &b.GRPCStatus, 1, 16))},
		{"filter_state", p.boolean(&b.FilterState)},
		{"tcp_message", p.only(KindTCP, p.boolean(&b.TCPMessage))},
	})
}

// blockStatus reads a status that may have a body: after one that may not, a client takes the body for the next response.
func (p *parser) blockStatus(at *place, v value, b *Block) {
	before := p.count()
	integer(p, &b.Status, 200, 599)(at, v)
	if p.count() == before && (b.Status == 204 || b.Status == 205 || b.Status == 304) {
		p.add(at, "must be a status with a body, got ", v.describe())
	}
}

// blockHeaders sorts them by name: a protobuf Struct keeps no order.
func (p *parser) blockHeaders(at *place, v value, b *Block) {
	seen := map[string]bool{}
	p.each(at, v, func(key string, v value) {
		at, name := at.at(key), strings.ToLower(key)
		if len(seen) == maxHeaders || !isToken(name) || seen[name] {
			p.add(at, "must be a header's name, given once, of at most ", strconv.Itoa(maxHeaders))
			return
		}
		seen[name] = true
		var s string
		p.text(&s, maxHeaderValue)(at, v)
		if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			p.add(at, "must have no control characters, got ", quote(s))
			return
		}
		b.Headers = append(b.Headers, [2]string{name, s})
	})
	sort.Slice(b.Headers, func(i, j int) bool { return b.Headers[i][0] < b.Headers[j][0] })
}
