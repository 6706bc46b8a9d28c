package demo

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"sentinel-envoy/internal/audit"
	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
)

const (
	// everySnapshot is how often the page gets news, and perSecond how many of them there are in one second.
	everySnapshot = 250 * time.Millisecond
	perSecond     = int(time.Second / everySnapshot)
	// remembered is how many snapshots a page gets that has just been opened: two minutes.
	remembered = 120 * perSecond
	// windowBuckets is how many buckets a flow rule's window of one second has.
	windowBuckets = 2
)

// traffic is about one path: the first four as clients saw it, in the last second.
type traffic struct {
	Offered  int `json:"offered"`
	Passed   int `json:"passed"`
	Refused  int `json:"refused"`
	Failed   int `json:"failed"`
	InFlight int `json:"in_flight"` // by Envoy's metrics
}

// window is what was decided in the last window of shopRule, two whole buckets of half a second.
type window struct {
	Admitted int         `json:"admitted"`
	Workers  []decisions `json:"workers"`
}

// decisions are those of one worker in a window.
type decisions struct {
	Admitted int `json:"admitted"`
	Refused  int `json:"refused"`
}

// totals are Sentinel's own counters since the start.
type totals struct {
	Passed  map[string]int `json:"passed"`  // by path
	Refused map[string]int `json:"refused"` // by rule
}

// snapshot is what the page is told.
type snapshot struct {
	At         int64              `json:"at"` // ms since 1970
	Chapter    string             `json:"chapter"`
	Played     float64            `json:"played"` // seconds of the chapter
	Length     float64            `json:"length"` // of the whole of it
	Traffic    map[string]traffic `json:"traffic"`
	Thresholds map[string]float64 `json:"thresholds"`
	Breaker    int                `json:"breaker"` // 0 closed, 1 half-open, 2 open
	Window     window             `json:"window"`
	Totals     totals             `json:"totals"`
	VMs        int                `json:"vms"`
}

// observer puts together what clients, Envoy's metrics and the plugin's audit say.
type observer struct {
	admin *envoytest.Admin

	mu      sync.Mutex
	sent    map[string]load.Counts // by path, since the start
	earlier []map[string]load.Counts
	metrics []envoytest.Sample
	// buckets are shopRule's decisions by bucket and thread, those of the last few buckets only.
	buckets map[int]map[int]decisions
	threads []int // of the workers that have decided anything, ascending
}

func newObserver(adminAddr string) *observer {
	return &observer{
		admin: envoytest.NewAdmin(adminAddr), sent: map[string]load.Counts{}, buckets: map[int]map[int]decisions{},
	}
}

// clientsSent adds what became of requests to a path.
func (o *observer) clientsSent(path string, c load.Counts) {
	o.mu.Lock()
	defer o.mu.Unlock()
	sum := o.sent[path]
	sum.Sent, sum.Passed, sum.Blocked, sum.Failed = sum.Sent+c.Sent, sum.Passed+c.Passed, sum.Blocked+c.Blocked, sum.Failed+c.Failed
	o.sent[path] = sum
}

// decided adds a line of the audit.
func (o *observer) decided(l audit.Line) {
	thread, err := strconv.Atoi(l.Thread)
	if err != nil || l.Rule != shopRule {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if at, found := slices.BinarySearch(o.threads, thread); !found {
		o.threads = slices.Insert(o.threads, at, thread)
	}
	bucket := o.buckets[l.Bucket]
	if bucket == nil {
		bucket = map[int]decisions{}
		o.buckets[l.Bucket] = bucket
		for old := range o.buckets {
			if old < l.Bucket-windowBuckets {
				delete(o.buckets, old)
			}
		}
	}
	d := bucket[thread]
	bucket[thread] = decisions{d.Admitted + l.Admitted, d.Refused + l.Refused}
}

// lastWindow is the one before the bucket in which was decided last, and in which more may be.
func (o *observer) lastWindow() window {
	last := 0
	for bucket := range o.buckets {
		last = max(last, bucket)
	}
	w := window{Workers: make([]decisions, len(o.threads))}
	for i, thread := range o.threads {
		for bucket := last - windowBuckets; bucket < last; bucket++ {
			d := o.buckets[bucket][thread]
			w.Workers[i].Admitted += d.Admitted
			w.Workers[i].Refused += d.Refused
			w.Admitted += d.Admitted
		}
	}
	return w
}

// ask reads Envoy's metrics. While Envoy does not answer, the last ones stay.
func (o *observer) ask(ctx context.Context) {
	samples, err := o.admin.Prometheus(ctx)
	if err != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.metrics = samples
}

// snapshot is what is known now, without what is about the story and the rules. It is to be called every everySnapshot.
func (o *observer) snapshot(now time.Time) snapshot {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := snapshot{
		At: now.UnixMilli(), Traffic: map[string]traffic{}, Window: o.lastWindow(),
		Totals:  totals{Passed: map[string]int{}, Refused: map[string]int{}},
		Breaker: int(envoytest.Sum(o.metrics, "sentinel_breaker_state", "rule", payRule)),
		VMs:     int(envoytest.Sum(o.metrics, "sentinel_workers")),
	}
	before := o.secondAgo()
	for path, sum := range o.sent {
		was := before[path]
		s.Traffic[path] = traffic{
			Offered: int(sum.Sent - was.Sent), Passed: int(sum.Passed - was.Passed), Refused: int(sum.Blocked - was.Blocked),
			Failed: int(sum.Failed - was.Failed), InFlight: int(envoytest.Sum(o.metrics, "sentinel_in_flight", "resource", path)),
		}
		s.Totals.Passed[path] = int(envoytest.Sum(o.metrics, "sentinel_passed", "resource", path))
	}
	for rule := range bounds {
		s.Totals.Refused[rule] = int(envoytest.Sum(o.metrics, "sentinel_blocked", "rule", rule))
	}
	return s
}

// secondAgo is what had been sent a second ago, and remembers what has been until now.
func (o *observer) secondAgo() map[string]load.Counts {
	now := make(map[string]load.Counts, len(o.sent))
	for path, sum := range o.sent {
		now[path] = sum
	}
	o.earlier = append(o.earlier, now)
	if len(o.earlier) > perSecond+1 {
		o.earlier = o.earlier[1:]
	}
	return o.earlier[0]
}

// maxLine bounds how much of a line of Envoy's log is kept.
const maxLine = 8 << 10

// logReader is a writer that takes Envoy's log: decided gets what is of the audit, and other lines go on unless they are
// debug messages.
type logReader struct {
	decided func(audit.Line)
	other   func(line []byte)
	partial []byte
}

// Write implements io.Writer.
func (r *logReader) Write(p []byte) (int, error) {
	rest := p
	for {
		part, after, whole := bytes.Cut(rest, []byte("\n"))
		r.partial = append(r.partial, part[:min(len(part), maxLine-len(r.partial))]...)
		if !whole {
			return len(p), nil
		}
		r.line(r.partial)
		r.partial, rest = r.partial[:0], after
	}
}

func (r *logReader) line(text []byte) {
	if l, ok := audit.Parse(text); ok {
		r.decided(l)
	} else if !bytes.Contains(text, []byte("][debug][")) {
		r.other(text)
	}
}
