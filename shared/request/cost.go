package request

import (
	"strings"

	"sentinel-envoy/shared/rule"
)

// Cost is how many permits a stream takes of a rule.
type Cost struct {
	param *Parameter // nil: it is always initial
	// initial is what a stream costs that says nothing, or nothing that is a number; most what it costs at most.
	initial, most int64
}

// Cost registers what a rule's cost is read from; nil stands for one permit.
func (s *Stream) Cost(of *rule.Cost) *Cost {
	if of == nil {
		return nil
	}
	c := &Cost{initial: of.Default, most: of.Max}
	if of.ParamSource != rule.NoParam {
		c.param = s.Parameter(ParamOf(&of.Param))
	}
	return c
}

// Permits is the cost of the stream at hand. Of several values the dearest counts, and of more than a stream may give the
// most: whoever hides one behind another gains nothing.
func (c *Cost) Permits() int64 {
	if c == nil {
		return 1
	}
	if c.param == nil {
		return c.initial
	}
	values := c.param.Values()
	if values.TooMany() {
		return c.most
	}
	permits := int64(-1)
	for _, text := range values.All() {
		permits = max(permits, c.read(text))
	}
	if permits < 0 {
		return c.initial
	}
	return permits
}

// read is what a value costs: decimal digits, with space around them. Anything else, a sign or a point included, is no
// number.
func (c *Cost) read(text string) (n int64) {
	text = strings.Trim(text, " \t")
	if text == "" {
		return c.initial
	}
	for i := range len(text) {
		digit := text[i] - '0'
		if digit > 9 {
			return c.initial
		}
		n = min(10*n+int64(digit), c.most)
	}
	return n
}
