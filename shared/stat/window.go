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
	second   *sbase.SlidingWindowMetric
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
	w := &window{hash: hash, array: sbase.NewBucketLeapArray(windowBuckets, windowBuckets*BucketMs), newest: bucket}
	// The parameters are constants that sentinel-golang accepts.
	w.second, _ = sbase.NewSlidingWindowMetric(RateBuckets, RateBuckets*BucketMs, w.array)
	return w
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

// read is the window's last second, at the time now in nanoseconds.
func (w *window) read(now int64) Rates {
	*windowClock = clock(max(BucketOf(now), w.newest) * BucketMs)
	return Rates{
		Pass:        sum(w.second, base.MetricEventPass),
		Block:       sum(w.second, base.MetricEventBlock),
		Complete:    sum(w.second, base.MetricEventComplete),
		RT:          sum(w.second, base.MetricEventRt),
		MinRT:       uint32(min(w.second.MinRT(), NoRT)),
		InFlight:    uint32(max(w.inFlight, 0)),
		MaxComplete: uint64(max(w.second.GetMaxOfSingleBucket(base.MetricEventComplete), 0)),
	}
}

func sum(m *sbase.SlidingWindowMetric, event base.MetricEvent) uint64 {
	return uint64(max(m.GetSum(event), 0))
}
