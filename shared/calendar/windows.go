package calendar

import (
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/rule"
)

// Period is a unit of a zone's calendar, such as its days.
type Period struct {
	Unit rule.Unit
	Zone Zone
}

// Number tells the period that holds a time, in seconds since 1970, from others: the next has the next number. Seconds,
// minutes and hours are those of the standard clock: none is twice as long, or missing, because the clocks are changed.
func (p *Period) Number(at int64) int64 {
	switch p.Unit {
	case rule.Second:
		return at
	case rule.Minute:
		return floor(at+p.Zone.standard, 60)
	case rule.Hour:
		return floor(at+p.Zone.standard, 3600)
	}
	local := at + p.Zone.Offset(at)
	switch p.Unit {
	case rule.Day:
		return floor(local, daySeconds)
	case rule.Week:
		return floor(floor(local, daySeconds)+weekShift, 7)
	}
	year, month := monthOf(floor(local, daySeconds))
	if p.Unit == rule.Month {
		return 12*year + month - 1
	}
	return year
}

// weekShift is on which day of the week, from Monday on, 1970 began.
const weekShift = 3

// Start is when a period begins, in seconds since 1970.
func (p *Period) Start(number int64) int64 {
	switch p.Unit {
	case rule.Second:
		return number
	case rule.Minute:
		return number*60 - p.Zone.standard
	case rule.Hour:
		return number*3600 - p.Zone.standard
	case rule.Day:
		return p.Zone.midnight(number)
	case rule.Week:
		return p.Zone.midnight(number*7 - weekShift)
	}
	year, month := number, int64(1)
	if p.Unit == rule.Month {
		year = floor(number, 12)
		month = number - 12*year + 1
	}
	return p.Zone.midnight(firstOf(year, month))
}

func floor(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// Windows are the periods of a calendar by a worker's monotonic clock, in nanoseconds. It is not safe for concurrent use.
type Windows struct {
	period Period
	wall   *host.Wall
	// number is of the period that was asked about last, from start to end by the wall clock, in nanoseconds.
	number, start, end int64
}

// NewWindows returns a period's windows.
func NewWindows(p Period, wall *host.Wall) *Windows { return &Windows{period: p, wall: wall} }

// Bucket is the number of the window that holds the time now.
func (w *Windows) Bucket(now int64) int64 {
	at := now + w.wall.Offset(now)
	if at < w.start || at >= w.end {
		w.number = w.period.Number(floor(at, 1e9))
		w.start, w.end = w.period.Start(w.number)*1e9, w.period.Start(w.number+1)*1e9
	}
	return w.number
}

// Start is when a window begins, as seen at the time now.
func (w *Windows) Start(number, now int64) int64 {
	return w.period.Start(number)*1e9 - w.wall.Offset(now)
}

// Bounds are when the window that holds the time now begins, and when the next does.
func (w *Windows) Bounds(now int64) (start, end int64) {
	w.Bucket(now)
	offset := w.wall.Offset(now)
	return w.start - offset, w.end - offset
}
