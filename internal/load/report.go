package load

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// describe says in a line what a run with these options, defaults filled in, does.
func describe(o Options) string {
	rate := "as fast as answers come"
	if o.QPS > 0 {
		rate = fmt.Sprintf("%g/s", o.QPS)
	}
	what := fmt.Sprintf("%s %s %s", o.Proto, o.Method, o.Path)
	if o.Proto == TCP {
		what = strings.TrimSpace("tcp " + o.Path)
	}
	return fmt.Sprintf("%s to %s port %d, %s for %v, %d connections", what, o.Host, o.Port, rate, o.Duration, o.Connections)
}

// String is the live line of a second.
func (s Second) String() string {
	line := fmt.Sprintf("%3ds  sent %d  passed %d  blocked %d  failed %d  p50 %v  p99 %v",
		s.Index, s.Sent, s.Passed, s.Blocked, s.Failed, brief(s.P50), brief(s.P99))
	if s.Behind > 0 {
		line += fmt.Sprintf("  behind %d", s.Behind)
	}
	return line
}

// String is the summary for people, several lines long.
func (s Summary) String() string {
	var b strings.Builder
	perSecond := func(n uint64) float64 { return float64(n) / max(s.Elapsed.Seconds(), 1e-9) }
	fmt.Fprintf(&b, "total    sent %d  passed %d  blocked %d  failed %d  in %v\n",
		s.Sent, s.Passed, s.Blocked, s.Failed, brief(s.Elapsed))
	fmt.Fprintf(&b, "rate     sent %.1f/s  passed %.1f/s  blocked %.1f/s  failed %.1f/s\n",
		perSecond(s.Sent), perSecond(s.Passed), perSecond(s.Blocked), perSecond(s.Failed))
	fmt.Fprintf(&b, "latency  p50 %v  p90 %v  p99 %v  max %v\n", brief(s.P50), brief(s.P90), brief(s.P99), brief(s.Max))
	fmt.Fprintf(&b, "answers  %s\n", list(s.Status))
	if len(s.Errors) > 0 {
		fmt.Fprintf(&b, "errors   %s  (last: %s)\n", list(s.Errors), s.LastError)
	}
	if s.Behind > 0 || s.Unsent > 0 {
		fmt.Fprintf(&b, "behind   %d left more than %v late, %d never left: more -c or -pipeline, or a faster server, would help\n",
			s.Behind, lateAfter, s.Unsent)
	}
	fmt.Fprintf(&b, "opened   %d connections\n", s.Connections)
	return b.String()
}

// list writes counts in the order of their names.
func list(counts map[string]uint64) string {
	if len(counts) == 0 {
		return "none"
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s: %d", name, counts[name]))
	}
	return strings.Join(parts, "  ")
}

// brief rounds d to about three digits.
func brief(d time.Duration) time.Duration {
	for unit := time.Duration(1); unit < time.Hour; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit)
		}
	}
	return d.Round(time.Second)
}

// writeJSON writes the summary as one JSON object, times in milliseconds.
func writeJSON(w io.Writer, s Summary) {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.Encode(struct {
		Sent        uint64            `json:"sent"`
		Passed      uint64            `json:"passed"`
		Blocked     uint64            `json:"blocked"`
		Failed      uint64            `json:"failed"`
		Behind      uint64            `json:"behind"`
		Unsent      uint64            `json:"unsent"`
		ElapsedMs   float64           `json:"elapsed_ms"`
		P50Ms       float64           `json:"p50_ms"`
		P90Ms       float64           `json:"p90_ms"`
		P99Ms       float64           `json:"p99_ms"`
		MaxMs       float64           `json:"max_ms"`
		Connections uint64            `json:"connections"`
		Status      map[string]uint64 `json:"status"`
		Errors      map[string]uint64 `json:"errors"`
		LastError   string            `json:"last_error,omitempty"`
	}{
		s.Sent, s.Passed, s.Blocked, s.Failed, s.Behind, s.Unsent, ms(s.Elapsed),
		ms(s.P50), ms(s.P90), ms(s.P99), ms(s.Max), s.Connections, s.Status, s.Errors, s.LastError,
	})
}
