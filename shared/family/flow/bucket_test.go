package flow_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/family/flow"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/record"
)

// taken are permits that were taken at a time, and not given back.
type taken struct{ at, n int64 }

// excess is by how much more permits were taken in any interval than its bucket has at most: Burst, and what comes back
// meanwhile.
func excess(all []taken, b flow.Bucket) float64 {
	slices.SortFunc(all, func(a, b taken) int { return int(a.at - b.at) })
	worst, sum, least := math.Inf(-1), 0.0, math.Inf(1)
	begin := all[0].at
	for _, one := range all {
		came := float64(one.at-begin) * b.PerNs
		least = min(least, sum-came)
		sum += float64(one.n)
		worst = max(worst, sum-came-least-float64(b.Burst))
	}
	return worst
}

// pour runs workers that take of one bucket and give a part of it back, and returns what stays taken.
func pour(t *testing.T, seed uint64, b flow.Bucket, workers int, perWorker float64, dearest, duration int64, faults bool) (all []taken) {
	t.Helper()
	begin := 1000 * second
	sim := memhost.NewSim(seed, begin)
	defer sim.Close()
	for i := range workers {
		sim.Go(func(task *memhost.Task) {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			tokens := flow.NewTokens(record.NewTable(task), record.IDOf("tokens", "r"))
			for now := task.Now(); now < begin+duration; now = task.Now() {
				n := 1 + rng.Int64N(dearest)
				v, mark, err := tokens.Take(b, n, now)
				if err != nil {
					t.Error(err)
				}
				if v.OK {
					if faults && rng.IntN(3) == 0 {
						if rng.IntN(2) == 0 {
							task.Sleep(now + rng.Int64N(second))
						}
						if err := tokens.GiveBack(b, n, mark, task.Now()); err != nil {
							t.Error(err)
						}
					} else {
						all = append(all, taken{v.At, n})
					}
				}
				task.Sleep(task.Now() + int64(2*rng.Float64()*float64(second)/perWorker))
			}
		})
	}
	s := scenario{stalls: faults, deaths: faults}
	for sim.Step() {
		disturb(sim, s)
	}
	return all
}

func TestGuarantee1NoIntervalIsOverOfATokenBucket(t *testing.T) {
	seeds.Try(t, *simRuns, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 31))
		b := flow.BucketOf(1+r.Int64N(200), []float64{0.5, 3, 33.3, 100, 1000}[r.IntN(5)], []uint64{100, 1000, 1500, 7}[r.IntN(4)])
		workers, dearest := 1+r.IntN(64), 1+r.Int64N(20)
		if r.IntN(4) == 0 {
			workers = 64 + r.IntN(193)
		}
		demand := min((1+2*r.Float64())*(b.PerNs*1e9+float64(b.Burst))/float64(workers*int(1+dearest)/2+1), 10_000/float64(workers))
		all := pour(t, seed, b, workers, max(demand, 1), dearest, 2*second+r.Int64N(2*second), r.IntN(2) == 0)
		if len(all) == 0 {
			return // every request may be dearer than the burst
		}
		if worst := excess(all, b); worst > 1e-6 {
			t.Errorf("an interval has %.6f permits more than %+v, %d workers, up to %d a request", worst, b, workers, dearest)
		}
	})
}

func TestGuarantee2ATokenBucketGivesWhatComesBack(t *testing.T) {
	seeds.Try(t, *simRuns, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 32))
		rate := []float64{20, 100, 1000}[r.IntN(3)]
		b := flow.BucketOf(1+r.Int64N(100), rate, 1000)
		workers := 1 + r.IntN(32)
		// A bucket of one token is full, and runs over, until the next request: these come ten times as often then.
		demand := max(2*rate, 50*rate/float64(b.Burst))
		all := pour(t, seed, b, workers, min(demand, 20_000)/float64(workers), 1, 10*second, false)
		want := float64(b.Burst) + 10*rate
		if demand > 20_000 {
			return // too many for a simulation
		}
		if got := float64(len(all)); got < 0.98*want-2 {
			t.Errorf("%v of %v in 10 s: %+v, %d workers, %.0f/s", got, want, b, workers, demand)
		}
	})
}

func TestATokenBucket(t *testing.T) {
	p := memhost.NewProcess(start)
	b := flow.BucketOf(10, 3, 1000)
	tokens := flow.NewTokens(record.NewTable(p.Worker(nil)), record.IDOf("r"))
	take := func(n int64) (flow.Verdict, uint64) {
		t.Helper()
		v, mark, err := tokens.Take(b, n, p.Now())
		if err != nil {
			t.Fatal(err)
		}
		return v, mark
	}
	for i := range 10 {
		if v, _ := take(1); !v.OK {
			t.Fatalf("token %d of 10 was not there", i+1)
		}
	}
	v, _ := take(1)
	if v.OK || v.Used != 10 || v.Capacity != 10 || v.FreeAt < p.Now()+second/3 || v.FreeAt > p.Now()+second/3+3 {
		t.Errorf("an eleventh: %+v at %d", v, p.Now())
	}
	p.Advance(v.FreeAt - 2 - p.Now())
	if v, _ := take(1); v.OK {
		t.Error("before it is there")
	}
	p.Advance(4)
	if v, _ := take(1); !v.OK {
		t.Errorf("when it is there: %+v", v)
	}
	p.Advance(3600 * second)
	if v, _ := take(11); v.OK || v.FreeAt != 0 {
		t.Errorf("11 of 10: %+v", v)
	}
	v, mark := take(6)
	if !v.OK {
		t.Fatal("6 of a full bucket")
	}
	if err := tokens.GiveBack(b, 6, mark, p.Now()); err != nil {
		t.Fatal(err)
	}
	v, mark = take(10)
	if !v.OK {
		t.Fatal("10 of a bucket to which 6 were given back")
	}
	p.Advance(10 * second) // it is full again, and has run over
	if v, _ := take(10); !v.OK {
		t.Fatal("10 of a full bucket")
	}
	if err := tokens.GiveBack(b, 10, mark, p.Now()); err != nil {
		t.Fatal(err)
	}
	if v, _ := take(1); v.OK {
		t.Error("what was given back late came on top of what had come back by itself")
	}
	// Another rate, and another burst, keep what is used.
	b = flow.BucketOf(12, 1, 1000)
	p.Advance(3 * millisecond)
	if v, _ := take(2); !v.OK {
		t.Error("2 of the 2 that the burst has grown by")
	}
	if v, _ := take(1); v.OK {
		t.Error("a third")
	}
}

// FuzzBucketState reads rubbish as a bucket.
func FuzzBucketState(f *testing.F) {
	f.Add((&flow.BucketState{Used: 3.5, Latest: 9, Taken: 4}).Encode(nil), int64(100))
	f.Add(bytes.Repeat([]byte{0xff}, 24), int64(1))
	f.Add(bytes.Repeat([]byte{0x7f}, 24), int64(1))
	f.Fuzz(func(t *testing.T, code []byte, later int64) {
		var s flow.BucketState
		if !s.Decode(code) || s.Latest > 1<<60 {
			return
		}
		if again := s.Encode(nil); !bytes.Equal(again, code) {
			t.Errorf("%x was encoded as %x", code, again)
		}
		b := flow.BucketOf(10, 5, 1000)
		s.Drain(b, s.Latest+later&0xffffffffff)
		before := s.Used
		if s.Take(b, 3) && (s.Used > 10 || before > 7) {
			t.Errorf("3 of 10 where %v are used", before)
		}
		s.GiveBack(3, s.Taken-1)
		if s.Used < 0 || math.IsNaN(s.Used) {
			t.Errorf("%v used", s.Used)
		}
	})
}

// A bucket that was large and has become small and slow tells a time that is far, and not one that is past.
func TestTimeOfABucketThatHasBecomeSlow(t *testing.T) {
	p := memhost.NewProcess(start)
	tokens := flow.NewTokens(record.NewTable(p.Worker(nil)), record.IDOf("r"))
	if v, _, err := tokens.Take(flow.BucketOf(100_000, 1000, 1000), 100_000, p.Now()); err != nil || !v.OK {
		t.Fatal(v, err)
	}
	v, _, err := tokens.Take(flow.BucketOf(1, 1, 86_400_000), 1, p.Now())
	if err != nil || v.OK || v.FreeAt < p.Now()+86_400*second {
		t.Errorf("%+v, %v", v, err)
	}
	v, _, err = tokens.Take(flow.BucketOf(1, 1e-6, 86_400_000), 1, p.Now())
	if err != nil || v.OK || v.FreeAt < p.Now()+86_400*second {
		t.Errorf("slower: %+v, %v", v, err)
	}
}
