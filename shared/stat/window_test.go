package stat

import (
	"math/rand/v2"
	"testing"

	"github.com/alibaba/sentinel-golang/core/base"
	sbase "github.com/alibaba/sentinel-golang/core/stat/base"

	"sentinel-envoy/internal/seeds"
)

// What a window says of its last second is what sentinel-golang's own reader of the same array says.
func TestWindowReadsAsSentinelDoes(t *testing.T) {
	seeds.Try(t, 50, func(t *testing.T, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 0))
		bucket := int64(1000)
		w := newWindow(1, bucket)
		second, err := sbase.NewSlidingWindowMetric(RateBuckets, RateBuckets*BucketMs, w.array)
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			bucket += random.Int64N(3)
			b := Bucket{Number: bucket - random.Int64N(2), MinRT: NoRT}
			b.Pass, b.Block, b.Complete = random.Uint64N(9), random.Uint64N(9), random.Uint64N(9)
			if b.Complete > 0 {
				b.MinRT = random.Uint32N(50)
				b.RT = b.Complete * uint64(b.MinRT)
			}
			w.add(&b, &nothing)
			now := (bucket*BucketMs + random.Int64N(BucketMs)) * 1e6
			got := w.read(now)
			*windowClock = clock(max(BucketOf(now), w.newest) * BucketMs)
			want := Rates{
				Pass: uint64(second.GetSum(base.MetricEventPass)), Block: uint64(second.GetSum(base.MetricEventBlock)),
				Complete: uint64(second.GetSum(base.MetricEventComplete)), RT: uint64(second.GetSum(base.MetricEventRt)),
				MinRT: uint32(second.MinRT()), MaxComplete: uint64(second.GetMaxOfSingleBucket(base.MetricEventComplete)),
			}
			if got != want {
				t.Fatalf("in bucket %d: %+v, want %+v", bucket, got, want)
			}
		}
	})
}
