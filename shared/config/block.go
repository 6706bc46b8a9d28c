package config

import (
	"slices"
	"sort"
	"strconv"
	"strings"

	"sentinel-envoy/shared/answer"
	"sentinel-envoy/shared/rule"
)

// defaultBlock is the answer where nobody says another.
func defaultBlock() Block {
	return Block{Block: answer.Block{Status: 429, GRPCStatus: 8, Problem: answer.No, Limited: answer.Yes}, FilterState: true}
}

// block reads the answer to what is refused.
func (p *parser) block(at *place, v value, b *Block) {
	p.answer(at, v, &b.Block,
		field{"filter_state", p.boolean(&b.FilterState)},
		field{"tcp_message", p.only(KindTCP, p.boolean(&b.TCPMessage))},
	)
}

// ownBlock reads the answer of a rule or a resource, which says what it says and leaves the rest to the filter's.
func (p *parser) ownBlock(dst **answer.Block) setter {
	return func(at *place, v value) {
		*dst = &answer.Block{}
		p.answer(at, v, *dst)
	}
}

// answer reads an answer, and keys besides.
func (p *parser) answer(at *place, v value, b *answer.Block, besides ...field) {
	fields := append([]field{
		{"status", p.only(KindHTTP, func(at *place, v value) { p.blockStatus(at, v, &b.Status) })},
		{"status_of", p.only(KindHTTP, func(at *place, v value) { p.ofKinds(at, v, &b.StatusOf, p.blockStatus) })},
		{"body", p.body(&b.Body)},
		{"problem", p.only(KindHTTP, p.is(&b.Problem))},
		{"headers", p.only(KindHTTP, func(at *place, v value) { p.blockHeaders(at, v, b) })},
		{"grpc_status", p.only(KindHTTP, integer(p, &b.GRPCStatus, 1, 16))},
		{"grpc_status_of", p.only(KindHTTP, func(at *place, v value) {
			p.ofKinds(at, v, &b.GRPCOf, func(at *place, v value, dst *int) { integer(p, dst, 1, 16)(at, v) })
		})},
		{"x_envoy_ratelimited", p.only(KindHTTP, p.is(&b.Limited))},
	}, besides...)
	p.object(at, v, fields)
	if b.Problem == answer.Yes && b.Body != "" {
		p.add(at.at("body"), "does not go with problem, which is a body")
	}
	if b.Problem == answer.Yes && b.ContentType() != "" {
		p.add(at.at("headers"), "must have no content-type with problem, whose is ", answer.ProblemType)
	}
}

// is reads a boolean that may be left unsaid.
func (p *parser) is(dst *answer.Is) setter {
	return func(at *place, v value) {
		var yes bool
		before := p.count()
		if p.boolean(&yes)(at, v); p.count() == before {
			*dst = answer.Of(yes)
		}
	}
}

// ofKinds reads a status for each of some families.
func (p *parser) ofKinds(at *place, v value, dst *[]answer.OfKind, read func(at *place, v value, dst *int)) {
	names := make([]string, len(rule.Families))
	for i, f := range rule.Families {
		names[i] = f.Name
	}
	p.each(at, v, func(key string, v value) {
		at := at.at(key)
		switch {
		case !slices.Contains(names, key):
			p.add(at, "is no kind of rule, which are ", strings.Join(names, ", "))
		case slices.ContainsFunc(*dst, func(s answer.OfKind) bool { return s.Kind == key }):
			p.add(at, "given twice")
		default:
			one := answer.OfKind{Kind: key}
			read(at, v, &one.Status)
			*dst = append(*dst, one)
		}
	})
	sort.Slice(*dst, func(i, j int) bool { return (*dst)[i].Kind < (*dst)[j].Kind })
}

// body reads a text with placeholders, and warns of what looks like one and is none.
func (p *parser) body(dst *string) setter {
	return func(at *place, v value) {
		p.text(dst, maxBody)(at, v)
		for rest := *dst; ; {
			_, after, found := strings.Cut(rest, "{")
			word, behind, closed := strings.Cut(after, "}")
			if !found || !closed {
				return
			}
			rest = after
			if strings.Trim(word, "abcdefghijklmnopqrstuvwxyz_ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
				continue
			}
			rest = behind
			if near := nearPlaceholder(word); near != "" {
				p.warn(at, "{", word, "} is no placeholder, and stays as it is; did you mean {", near, "}?")
			}
		}
	}
}

// nearPlaceholder is the placeholder that a word is nearly, "" if none or one itself.
func nearPlaceholder(word string) string {
	best, nearest := 3, ""
	for _, name := range answer.Placeholders {
		if d := distance(bare(word), bare(name)); d < best && word != name {
			best, nearest = d, name
		} else if word == name {
			return ""
		}
	}
	return nearest
}

// blockStatus reads a status that may have a body: after one that may not, a client takes the body for the next response.
func (p *parser) blockStatus(at *place, v value, status *int) {
	before := p.count()
	integer(p, status, 200, 599)(at, v)
	if p.count() == before && (*status == 204 || *status == 205 || *status == 304) {
		p.add(at, "must be a status with a body, got ", v.describe())
	}
}

// blockHeaders sorts them by name: a protobuf Struct keeps no order.
func (p *parser) blockHeaders(at *place, v value, b *answer.Block) {
	seen := map[string]bool{}
	b.Headers = [][2]string{} // also where it has none: so a rule's answer leaves out the filter's
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
