// Package util is, in the plugin, what sentinel-golang's file of clocks is replaced by: a clock that is set, of which the
// windows take the time. The original's clocks and tickers know package time's Time, whose formatting and zones would be
// compiled by every Envoy.
package util

import "strconv"

// Clock gives the time since the epoch.
type Clock interface {
	CurrentTimeMillis() uint64
	CurrentTimeNano() uint64
}

var clock Clock

// SetClock sets the clock. Before it, the time is zero.
func SetClock(c Clock) { clock = c }

// CurrentTimeMillis is the time in milliseconds.
func CurrentTimeMillis() uint64 {
	if clock == nil {
		return 0
	}
	return clock.CurrentTimeMillis()
}

// FormatTimeMillis is a time in milliseconds as a number.
func FormatTimeMillis(ms uint64) string { return strconv.FormatUint(ms, 10) }
