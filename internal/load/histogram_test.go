package load

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sentinel-envoy/internal/seeds"
)

func TestBucketsCoverAllDurationsInOrder(t *testing.T) {
	last := -1
	for _, d := range []time.Duration{0, 1, 63, 64, 127, 128, 129, 130, 255, 256, 1e3, 1e6, 1e9, time.Hour, math.MaxInt64} {
		i := bucket(d)
		if i < last || i >= len(histogram{}.counts) {
			t.Errorf("bucket(%d) = %d, after %d, of %d", d, i, last, len(histogram{}.counts))
		}
		last = i
		if top := bucketTop(i); top < d || float64(top-d) > float64(d)/subBuckets {
			t.Errorf("bucket of %d ends at %d", d, top)
		}
	}
	for i := range len(histogram{}.counts) {
		if got := bucket(bucketTop(i)); got != i {
			t.Fatalf("bucketTop(%d) is in bucket %d", i, got)
		}
	}
}

func TestQuantilesAgainstSortedSamples(t *testing.T) {
	seeds.Try(t, 50, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		var a, b histogram
		samples := make([]time.Duration, 1+r.IntN(2000))
		for i := range samples {
			samples[i] = time.Duration(math.Exp(r.Float64() * 25))
			if r.IntN(2) == 0 {
				a.add(samples[i])
			} else {
				b.add(samples[i])
			}
		}
		a.merge(&b)
		slices.Sort(samples)
		for _, q := range []float64{.001, .5, .9, .99, 1} {
			want := samples[max(int(math.Ceil(q*float64(len(samples)))), 1)-1]
			got := a.quantile(q)
			if got < want || float64(got-want) > float64(want)/subBuckets {
				t.Fatalf("quantile %v of %d samples: %d, want %d or at most 1/%d more", q, len(samples), got, want, subBuckets)
			}
		}
		if want := samples[len(samples)-1]; a.latency().Max != want {
			t.Fatalf("max %d, want %d", a.latency().Max, want)
		}
	})
}

func TestEmptyHistogram(t *testing.T) {
	var h histogram
	if got := h.latency(); got != (Latency{}) {
		t.Errorf("latency of nothing: %+v", got)
	}
	h.add(-time.Second)
	if h.n != 1 || h.max != 0 {
		t.Errorf("a negative duration must count as 0, got n %d, max %v", h.n, h.max)
	}
}
