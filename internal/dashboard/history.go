package dashboard

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"sentinel-envoy/internal/envoytest"
)

const (
	// remembered is for how long the figures of each second are kept. The dashboard asks for those of the last 15 s or less.
	remembered = 5 * time.Minute
	// maxLines bounds what is kept of all seconds together, the oldest goes first, and what one answer has.
	maxLines = 100_000
	// total is the resource that has all traffic, as Java Sentinel calls it.
	total = "__total_inbound_traffic__"
)

// counters are the entries of one resource since Envoy was started.
type counters struct{ passed, blocked, ended, failed, rtSum float64 }

// minus are what came since an earlier reading. Where there is less, Envoy was started anew.
func (c counters) minus(before counters) counters {
	if c.passed < before.passed || c.blocked < before.blocked || c.ended < before.ended {
		return c
	}
	return counters{c.passed - before.passed, c.blocked - before.blocked, c.ended - before.ended, c.failed - before.failed,
		c.rtSum - before.rtSum}
}

func (c counters) plus(more counters) counters {
	return counters{c.passed + more.passed, c.blocked + more.blocked, c.ended + more.ended, c.failed + more.failed,
		c.rtSum + more.rtSum}
}

// gauges are what Envoy says of a resource's last second.
type gauges struct{ inFlight, passQPS, blockQPS, rtMs float64 }

// resource is what one reading says of a resource.
type resource struct {
	counters
	gauges
}

// reading is one reading of the admin page, by resource.
type reading map[string]resource

// readingOf takes our samples of resources.
func readingOf(samples []envoytest.Sample) reading {
	all := reading{}
	for _, s := range samples {
		name, has := s.Labels["resource"]
		if !has || !strings.HasPrefix(s.Name, "sentinel_") {
			continue
		}
		r, known := all[name], true
		switch strings.TrimPrefix(s.Name, "sentinel_") {
		case "passed":
			r.passed = s.Value
		case "blocked":
			r.blocked += s.Value // of each rule
		case "completed":
			r.ended = s.Value
		case "failed":
			r.failed = s.Value
		case "rt_ms_sum":
			r.rtSum = s.Value
		case "in_flight":
			r.inFlight = s.Value
		case "pass_qps":
			r.passQPS = s.Value
		case "block_qps":
			r.blockQPS = s.Value
		case "rt_ms":
			r.rtMs = s.Value
		default:
			known = false
		}
		if known {
			all[name] = r
		}
	}
	return all
}

// line is what came of a resource in a second.
type line struct {
	resource string
	counters
	inFlight float64
}

// history is what came in each second, the oldest first. It is to be used by one goroutine at a time.
type history struct {
	last    reading
	at      time.Time
	seconds []second
	lines   int
}

type second struct {
	unix  int64
	lines []line
}

// add takes a reading. What came since the one before is the share of each of the seconds between them.
func (h *history) add(now reading, at time.Time) {
	before := h.last
	h.last = now
	from, to := h.at.Unix(), at.Unix()
	if before == nil || to <= from { // the first, or a clock that was put back
		if h.at = at; before == nil || to < from {
			return
		}
		from = to - 1
	}
	h.at = at
	from = max(from, to-int64(remembered/time.Second))
	var came []line
	for name, r := range now {
		if grown := r.minus(before[name].counters); grown != (counters{}) || r.inFlight > 0 {
			came = append(came, line{name, grown, r.inFlight})
		}
	}
	slices.SortFunc(came, func(a, b line) int { return cmp.Compare(a.resource, b.resource) })
	for s := from; s < to && len(came) > 0; s++ {
		h.put(s, shares(came, s-from, to-from))
	}
	for len(h.seconds) > 0 && (h.lines > maxLines || h.seconds[0].unix < to-int64(remembered/time.Second)) {
		h.lines -= len(h.seconds[0].lines)
		h.seconds = h.seconds[1:]
	}
}

// put adds to a second.
func (h *history) put(unix int64, lines []line) {
	h.lines += len(lines)
	if n := len(h.seconds); n > 0 && h.seconds[n-1].unix == unix {
		h.seconds[n-1].lines = merged(h.seconds[n-1].lines, lines)
		return
	}
	h.seconds = append(h.seconds, second{unix, lines})
}

// merged adds up lines of the same resource.
func merged(a, b []line) []line {
	for _, l := range b {
		i := slices.IndexFunc(a, func(x line) bool { return x.resource == l.resource })
		if i < 0 {
			a = append(a, l)
			continue
		}
		a[i].counters, a[i].inFlight = a[i].plus(l.counters), l.inFlight
	}
	return a
}

// shares are what of some lines is for one of several seconds, in whole entries.
func shares(all []line, i, of int64) []line {
	part := func(v float64) float64 {
		return math.Floor(v*float64(i+1)/float64(of)) - math.Floor(v*float64(i)/float64(of))
	}
	parts := make([]line, len(all))
	for n, l := range all {
		parts[n] = line{l.resource, counters{part(l.passed), part(l.blocked), part(l.ended), part(l.failed), part(l.rtSum)},
			l.inFlight}
	}
	return parts
}

// minutes are what came of each resource in the last minute.
func (h *history) minutes() map[string]counters {
	sums := map[string]counters{}
	for _, s := range h.seconds {
		if s.unix >= h.at.Unix()-60 {
			for _, l := range s.lines {
				sums[l.resource] = sums[l.resource].plus(l.counters)
			}
		}
	}
	return sums
}

// newest are the counters of the last second, unless that was long ago.
func (h *history) newest() map[string]counters {
	last := map[string]counters{}
	if n := len(h.seconds); n > 0 && h.seconds[n-1].unix >= h.at.Unix()-2 {
		for _, l := range h.seconds[n-1].lines {
			last[l.resource] = l.counters
		}
	}
	return last
}

// write writes the lines of seconds from one time in Unix milliseconds to another, both included, of one resource or with ""
// of all, as Java Sentinel does. A resource's "|" becomes "_".
func (h *history) write(fromMs, toMs int64, resource string, limit int) string {
	var b strings.Builder
	for _, s := range h.seconds {
		if ms := s.unix * 1000; ms < fromMs || ms > toMs {
			continue
		}
		all := line{resource: total}
		for _, l := range s.lines {
			if all.counters = all.plus(l.counters); resource == "" || l.resource == resource {
				l.append(&b, s.unix*1000)
				limit--
			}
			all.inFlight += l.inFlight
		}
		if resource == "" || resource == total {
			all.append(&b, s.unix*1000)
			limit--
		}
		if limit <= 0 {
			break
		}
	}
	return b.String()
}

// append writes time, resource, passed, blocked, ended, failed, mean response time, occupied, in flight, and the kind of the
// resource, which is 0.
func (l line) append(b *strings.Builder, ms int64) {
	rt := 0.0
	if l.ended > 0 {
		rt = l.rtSum / l.ended
	}
	name := strings.NewReplacer("|", "_", "\n", "_", "\r", "_").Replace(l.resource)
	b.WriteString(strconv.FormatInt(ms, 10) + "|" + name)
	for _, v := range []float64{l.passed, l.blocked, l.ended, l.failed, rt, 0, l.inFlight, 0} {
		b.WriteString("|" + strconv.FormatInt(int64(math.Round(v)), 10))
	}
	b.WriteByte('\n')
}
