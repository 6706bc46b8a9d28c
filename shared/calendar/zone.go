// Package calendar cuts time into the days, weeks, months and so on of a time zone.
//
//go:generate go run ../../internal/zones
package calendar

import "strings"

// Zone is a time zone by its newest rule: what it was before the rule, nobody here asks. Its zero value is UTC.
type Zone struct {
	// standard and summer are seconds east of Greenwich; both are the same where the clocks are never changed.
	standard, summer int64
	// begins and ends say when summer's clock begins and ends.
	begins, ends change
}

// change is when the clocks are changed in a year: at seconds from the midnight that begins the week-th such day, from 0 for
// Sunday on, in a month, of week 5 the last.
type change struct {
	month, week, day, at int64
}

// ParseZone reads a zone: a name of the time zone database such as "Europe/Berlin", an offset such as "+02:00", or a rule in
// the form of POSIX's TZ such as "CET-1CEST,M3.5.0,M10.5.0/3". "" is UTC.
func ParseZone(text string) (z Zone, ok bool) {
	if text == "" {
		return z, true
	}
	if text[0] == '+' || text[0] == '-' {
		return offsetZone(text)
	}
	if rule := ruleOf(text); rule != "" {
		text = rule
	}
	return parseRule(text)
}

// ruleOf is the rule of a zone of the time zone database, "" of what is none.
func ruleOf(name string) string {
	if name == "" || strings.ContainsAny(name, " \n,") {
		return ""
	}
	at := strings.Index(zones, " "+name+" ")
	if at < 0 {
		return ""
	}
	line := zones[strings.LastIndexByte(zones[:at+1], '\n')+1:]
	return line[:strings.IndexByte(line, ' ')]
}

// offsetZone reads "+02:00".
func offsetZone(text string) (z Zone, ok bool) {
	p := parser{text: text[1:]}
	hours, minutes := p.digits(2), int64(0)
	if p.take(':') {
		minutes = p.digits(2)
	}
	if p.bad || p.text != "" || len(text) != len("+02:00") || hours > 18 || minutes > 59 {
		return z, false
	}
	z.standard = hours*3600 + minutes*60
	if text[0] == '-' {
		z.standard = -z.standard
	}
	z.summer = z.standard
	return z, true
}

// parseRule reads a rule in POSIX's form.
func parseRule(text string) (z Zone, ok bool) {
	p := parser{text: text}
	p.name()
	z.standard = -p.clock()
	z.summer = z.standard
	if p.bad || p.text == "" {
		return z, !p.bad
	}
	p.name()
	if z.summer = z.standard + 3600; p.text != "" && p.text[0] != ',' {
		z.summer = -p.clock()
	}
	z.begins, z.ends = p.change(), p.change()
	return z, !p.bad && p.text == ""
}

// parser reads a text from its beginning; bad is whether it is not what it should be.
type parser struct {
	text string
	bad  bool
}

func (p *parser) take(c byte) bool {
	if p.text == "" || p.text[0] != c {
		return false
	}
	p.text = p.text[1:]
	return true
}

// name reads the name of a clock: at least three letters, or anything in angle brackets.
func (p *parser) name() {
	n := 0
	if p.take('<') {
		n = strings.IndexByte(p.text, '>')
		if p.bad = p.bad || n < 3; !p.bad {
			p.text = p.text[n+1:]
		}
		return
	}
	for n < len(p.text) && (p.text[n]|0x20 >= 'a' && p.text[n]|0x20 <= 'z') {
		n++
	}
	p.bad = p.bad || n < 3
	p.text = p.text[n:]
}

// digits reads a number of up to so many digits.
func (p *parser) digits(most int) (v int64) {
	n := 0
	for ; n < most && n < len(p.text) && p.text[n] >= '0' && p.text[n] <= '9'; n++ {
		v = 10*v + int64(p.text[n]-'0')
	}
	p.bad = p.bad || n == 0
	p.text = p.text[n:]
	return v
}

// clock reads a time such as "-3:30", in seconds. It has at most 167 hours.
func (p *parser) clock() (seconds int64) {
	negative := p.take('-')
	if !negative {
		p.take('+')
	}
	hours := p.digits(3)
	p.bad = p.bad || hours > 167
	seconds = hours * 3600
	for unit := int64(60); unit >= 1 && p.take(':'); unit /= 60 {
		part := p.digits(2)
		p.bad = p.bad || part > 59
		seconds += part * unit
	}
	if negative {
		return -seconds
	}
	return seconds
}

// change reads ",M10.5.0/3".
func (p *parser) change() (c change) {
	if !p.take(',') || !p.take('M') {
		p.bad = true
		return c
	}
	c.month = p.digits(2)
	p.bad = !p.take('.') || p.bad
	c.week = p.digits(1)
	p.bad = !p.take('.') || p.bad
	c.day = p.digits(1)
	if c.at = 2 * 3600; p.take('/') {
		c.at = p.clock()
	}
	p.bad = p.bad || c.month < 1 || c.month > 12 || c.week < 1 || c.week > 5 || c.day > 6
	return c
}

// in is when the clocks are changed in a year, in seconds since 1970 by the clock that is changed.
func (c change) in(year int64) int64 {
	first := firstOf(year, c.month)
	day := first + (c.day-weekday(first)+7)%7 + 7*(c.week-1)
	if day >= firstOf(year, c.month+1) {
		day -= 7
	}
	return day*daySeconds + c.at
}

// Offset is how far the zone's clock is east of Greenwich, in seconds, at a time in seconds since 1970.
func (z *Zone) Offset(at int64) int64 {
	if z.standard == z.summer {
		return z.standard
	}
	year, _ := monthOf(floor(at+z.standard, daySeconds))
	begins, ends := z.begins.in(year)-z.standard, z.ends.in(year)-z.summer
	isSummer := begins <= at && at < ends
	if begins > ends {
		isSummer = at < ends || begins <= at
	}
	if isSummer {
		return z.summer
	}
	return z.standard
}

// midnight is when a day begins, by its number since 1970, in seconds since then. Where the clocks are put back over
// midnight it is the first that begins the day for good, where they are put forward over it when that happens.
func (z *Zone) midnight(day int64) int64 {
	local := day * daySeconds
	east, west := max(z.standard, z.summer), min(z.standard, z.summer)
	early, late := local-east, local-west
	switch {
	case z.Offset(early) == east:
		return early
	case z.Offset(late) == west:
		return late
	}
	low, high := early, late // there the clocks go forward
	for high-low > 1 {
		if middle := low + (high-low)/2; z.Offset(middle) == east {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}

const daySeconds = 24 * 3600
