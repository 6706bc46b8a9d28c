package stat

import (
	"time"

	"github.com/alibaba/sentinel-golang/core/base"
	sbase "github.com/alibaba/sentinel-golang/core/stat/base"
	"github.com/alibaba/sentinel-golang/util"
)

// windowBuckets are the buckets that a process-wide window keeps: the second that is read, and one more for reports that
// come late.
const windowBuckets = 4

// window is the process-wide statistic of one resource: sentinel-golang's leap array, fed with what the workers report.
type window struct {
	hash     uint64
	name     string // empty while nobody has told it
	array    *sbase.BucketLeapArray
	newest   int64
	inFlight int64
	// published is whether the last snapshot said anything but zeros.
	published bool
	// shown is when the rates were last shown, in nanoseconds.
	shown int64
}

// clock is the time that sentinel-golang's windows see, in milliseconds. They know no other way to be told.
type clock uint64

func (c *clock) Now() time.Time            { return time.UnixMilli(int64(*c)) }
func (c *clock) Sleep(time.Duration)       {}
func (c *clock) CurrentTimeMillis() uint64 { return uint64(*c) }
func (c *clock) CurrentTimeNano() uint64   { return uint64(*c) * 1e6 }

var windowClock = new(clock)

func newWindow(hash uint64, bucket int64) *window {
	util.SetClock(windowClock)
	// A leap array accepts no bucket older than its first one: begin with the oldest that add lets through.
	*windowClock = clock((bucket - windowBuckets + 1) * BucketMs)
	return &window{hash: hash, array: sbase.NewBucketLeapArray(windowBuckets, windowBuckets*BucketMs), newest: bucket}
}

// add counts in bucket what b has more than before, both of the same worker and bucket. A bucket that has left the
// window is passed over.
func (w *window) add(b, before *Bucket) {
	if b.Number <= w.newest-windowBuckets || b.Number <= 0 {
		return
	}
	w.newest = max(w.newest, b.Number)
	*windowClock = clock(b.Number * BucketMs)
	w.count(base.MetricEventPass, b.Pass, before.Pass)
	w.count(base.MetricEventBlock, b.Block, before.Block)
	w.count(base.MetricEventComplete, b.Complete, before.Complete)
	if b.RT < before.RT {
		return
	}
	// The leap array takes each addition for one duration and keeps the shortest. What is new is one duration that is
	// the shortest so far and others that are not shorter.
	rest := b.RT - before.RT
	if b.MinRT < before.MinRT && uint64(b.MinRT) <= rest {
		w.array.AddCount(base.MetricEventRt, int64(b.MinRT))
		rest -= uint64(b.MinRT)
	}
	if rest > 0 {
		w.array.AddCount(base.MetricEventRt, int64(rest))
	}
}

func (w *window) count(event base.MetricEvent, now, before uint64) {
	if now > before {
		w.array.AddCount(event, int64(now-before))
	}
}

// silent is whether there is nothing to read at the time now, and nothing to take back: to find that by reading costs some
// microseconds, in every tick.
func (w *window) silent(now int64) bool {
	return !w.published && w.inFlight == 0 && w.newest < BucketOf(now)-RateBuckets
}

// read is the window's last second, at the time now in nanoseconds: what sentinel-golang's SlidingWindowMetric says of it,
// which looks for its buckets anew for each figure.
func (w *window) read(now int64) Rates {
	end := uint64(max(BucketOf(now), w.newest) * BucketMs)
	begin := end - (RateBuckets-1)*BucketMs
	second := w.array.ValuesConditional(end, func(start uint64) bool { return begin <= start && start <= end })
	r := Rates{InFlight: uint32(max(w.inFlight, 0))}
	shortest := base.DefaultStatisticMaxRt
	for _, wrap := range second {
		b := wrap.Value.Load().(*sbase.MetricBucket)
		complete := count(b, base.MetricEventComplete)
		r.Pass += count(b, base.MetricEventPass)
		r.Block += count(b, base.MetricEventBlock)
		r.Complete += complete
		r.RT += count(b, base.MetricEventRt)
		r.MaxComplete = max(r.MaxComplete, complete)
		shortest = min(shortest, b.MinRt())
	}
	r.MinRT = uint32(max(shortest, 1))
	return r
}

func count(b *sbase.MetricBucket, event base.MetricEvent) uint64 { return uint64(max(b.Get(event), 0)) }
