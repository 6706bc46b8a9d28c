package rule

import (
	"encoding/hex"
	"hash/fnv"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxID is how long an id may be, in bytes.
const MaxID = 128

// IDOf is the id of a rule that was given none: what names its budget, so that a changed threshold keeps window, breaker
// and leases. It is family, parts and resource, as "flow-1000ms-/login"; the nth of several rules with one name, from 2
// on, has its number behind the family. An id that would be too long ends in a hash of what was cut off.
func IDOf(r Rule, nth int) string {
	family := r.Family().Name
	if nth > 1 {
		family += "#" + strconv.Itoa(nth)
	}
	parts := append([]string{family}, r.naming()...)
	to := r.For()
	if to.Only != nil {
		parts = append(parts, bracketed("limitApp", to.LimitApp))
	}
	if to.Regex {
		parts = append(parts, "regex")
	}
	if to.Resource != "" {
		parts = append(parts, to.Resource) // the last: no other part has a text of the user's that is not in brackets
	}
	return shorten(strings.Join(parts, "-"))
}

func shorten(id string) string {
	if len(id) <= MaxID {
		return id
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // a hash never fails
	sum := "~" + hex.EncodeToString(h.Sum(nil))
	cut := MaxID - len(sum)
	for cut > 0 && !utf8.RuneStart(id[cut]) {
		cut--
	}
	return id[:cut] + sum
}

// bracketed is what a name is of, as "Header(x-user)". A bracket that ends a text of the user's is told from one within.
func bracketed(what, of string) string {
	if of == "" {
		return what
	}
	return what + "(" + strings.ReplaceAll(of, ")", "))") + ")"
}

func milliseconds(ms uint64) string { return strconv.FormatUint(ms, 10) + "ms" }

func (r *Flow) naming() []string {
	parts := []string{milliseconds(r.StatIntervalInMs)}
	if r.Unit != NoUnit {
		parts[0] = r.Calendar.Name()
	}
	if r.TokenCalculateStrategy != Direct {
		parts = append(parts, r.TokenCalculateStrategy.String())
	}
	if r.ControlBehavior != Reject {
		parts = append(parts, r.ControlBehavior.String())
	}
	if r.Burst > 0 {
		parts = append(parts, "burst")
	}
	if r.Window != SlidingWindow {
		parts = append(parts, r.Window.String())
	}
	if of := r.Refers(); of != "" {
		parts = append(parts, bracketed("of", of))
	}
	if r.Cluster != nil {
		parts = append(parts, "cluster")
	}
	return append(append(parts, r.CountOnly.naming()...), r.Cost.naming()...)
}

// naming tells budgets apart that count different things: bytes, and requests. A number is none of its own.
func (c *Cost) naming() []string {
	if c == nil || c.ParamSource == NoParam {
		return nil
	}
	return []string{bracketed("batchCount", c.ParamSource.String()+" "+c.parameter())}
}

// Name is what the answers are called where they tell budgets apart, "" of none.
func (a *Answers) Name() string {
	if a == nil {
		return ""
	}
	return bracketed("countOnly", a.String())
}

func (a *Answers) naming() []string {
	if a == nil {
		return nil
	}
	return []string{a.Name()}
}

func (r *CircuitBreaker) naming() []string {
	parts := []string{r.Strategy.String(), milliseconds(uint64(r.StatIntervalMs))}
	if r.StatSlidingWindowBucketCount > 1 {
		parts = append(parts, strconv.FormatUint(uint64(r.StatSlidingWindowBucketCount), 10)+"buckets")
	}
	return parts
}

func (r *Isolation) naming() []string { return []string{r.MetricType.String()} }

func (r *Hotspot) naming() []string {
	parts := []string{r.MetricType.String()}
	if r.MetricType == HotspotQPS {
		if r.Unit != NoUnit {
			parts = append(parts, r.Calendar.Name())
		} else {
			parts = append(parts, strconv.FormatInt(r.DurationInSec, 10)+"s")
		}
		if r.ControlBehavior != Reject {
			parts = append(parts, r.ControlBehavior.String())
		}
	}
	parts = append(append(parts, r.CountOnly.naming()...), r.Cost.naming()...)
	of := ""
	for i, p := range r.Each() {
		if i > 0 {
			of += "+"
		}
		of += bracketed(p.ParamSource.String(), p.parameter()+p.shape())
	}
	return append(parts, of)
}

// shape is what of a value is its own.
func (p *Param) shape() (s string) {
	if p.V4PrefixLen > 0 {
		s += "v4/" + strconv.Itoa(p.V4PrefixLen)
	}
	if p.V6PrefixLen > 0 {
		s += "v6/" + strconv.Itoa(p.V6PrefixLen)
	}
	if p.Lowercase {
		s += ",lowercase"
	}
	return s
}

// parameter is which of a source's values the rule is about.
func (p *Param) parameter() string {
	switch {
	case len(p.ParamPath) > 0:
		return strings.Join(p.ParamPath, "/")
	case p.ParamSource == Header:
		return strings.ToLower(p.ParamKey)
	case p.ParamKey != "":
		return p.ParamKey
	case p.ParamSource == PathSegment || p.ParamSource == Query:
		return strconv.Itoa(p.ParamIndex)
	case p.TrustedHops > 0:
		return strconv.FormatUint(uint64(p.TrustedHops), 10)
	}
	return ""
}

func (r *Authority) naming() []string { return []string{r.Strategy.String()} }

func (r *System) naming() []string { return []string{r.MetricType.String(), r.Strategy.String()} }
