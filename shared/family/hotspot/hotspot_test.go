package hotspot_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"sentinel-envoy/shared/family/hotspot"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/worker"
)

const (
	millisecond = int64(time.Millisecond)
	second      = int64(time.Second)
	start       = 1000 * second
)

// The vector of the authors of SipHash: key 00…0f, message 00…0e.
func TestSipHash(t *testing.T) {
	seed := hotspot.Seed{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	if got := seed.Hash("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e"); got != 0xa129ca6149be45e5 {
		t.Errorf("%x", got)
	}
}

// Workers that ask at the same time get one seed, also after it was lost.
func TestSeedIsTheProcess(t *testing.T) {
	p := memhost.NewProcess(start)
	var keys []*hotspot.Key
	for range 3 {
		keys = append(keys, hotspot.NewKey(record.NewTable(p.Worker(nil)), rand.Uint64))
	}
	same := func(when string) {
		t.Helper()
		first, err := keys[0].Seed(start)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if s, err := k.Seed(start); s != first || err != nil || s == (hotspot.Seed{}) {
				t.Errorf("%s: %v %v, want %v", when, s, err, first)
			}
		}
	}
	same("at first")
	keys = append(keys, hotspot.NewKey(record.NewTable(p.Worker(nil)), rand.Uint64))
	p.Corrupt(func(string, []byte) ([]byte, bool) { return nil, true })
	if _, err := keys[3].Seed(start); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if err := k.Touch(start); err != nil {
			t.Fatal(err)
		}
	}
	same("after a loss and a touch")
	broken := p.Worker(nil)
	late := hotspot.NewKey(record.NewTable(broken), rand.Uint64)
	broken.Fail(errors.New("no host"))
	if _, err := late.Seed(start); err == nil {
		t.Error("a seed without a host")
	}
	broken.Fail(nil)
	keys = append(keys, late)
	same("after a fault")
}

// taken are the permits that one value got.
type taken struct {
	// first is when it got the first one, in nanoseconds, perBucket how many from each filling of its bucket.
	first, total int64
	perBucket    map[int64]int64
}

func (v *taken) add(at, now int64) {
	if v.perBucket == nil {
		v.first, v.perBucket = now, map[int64]int64{}
	}
	v.perBucket[at]++
	v.total++
}

// check finds out whether a value got more than its limit.
func (v *taken) check(l hotspot.Limit, now int64) error {
	for at, n := range v.perBucket {
		if n > l.Threshold+l.Burst {
			return fmt.Errorf("%d permits of the bucket of %d ms, limit %+v", n, at/millisecond, l)
		}
	}
	most := l.Threshold + l.Burst + ((now-v.first)/millisecond+1)*l.Threshold/l.DurationMs
	if v.total > most {
		return fmt.Errorf("%d permits in %d ms, at most %d, limit %+v", v.total, (now-v.first)/millisecond, most, l)
	}
	return nil
}

func trySeeds(t *testing.T, runs int, check func(t *testing.T, seed uint64)) {
	t.Helper()
	base := uint64(time.Now().UnixNano()) >> 8
	for i := range uint64(runs) {
		if check(t, base+i); t.Failed() {
			t.Fatalf("seed %d", base+i)
		}
	}
}

// Whatever the order in which workers run, wherever they stall or die, no value gets more than its limit.
func TestNeverOverPerValue(t *testing.T) {
	trySeeds(t, 60, func(t *testing.T, seed uint64) {
		sim := memhost.NewSim(seed, start)
		defer sim.Close()
		workers := []int{1, 2, 5, 16, 64}[sim.Rand.IntN(5)]
		limits := &hotspot.Limits{Limit: hotspot.Limit{
			Threshold: 1 + sim.Rand.Int64N([]int64{10, 2000}[sim.Rand.IntN(2)]), Burst: sim.Rand.Int64N(4), DurationMs: 1000,
		}}
		end := start + 4*second
		got := make([]taken, 6)
		limits.Specific = map[uint64]int64{1: 2, 2: 0}
		pause := []int64{20 * millisecond, millisecond}[sim.Rand.IntN(2)]
		for range workers {
			sim.Go(func(task *memhost.Task) {
				values := hotspot.NewValues(record.NewTable(task), 100, "r")
				rng := rand.New(rand.NewPCG(seed, sim.Rand.Uint64()))
				for now, tick := task.Now(), int64(0); now < end; now = task.Now() {
					if now >= tick {
						if err := values.Settle(now); err != nil {
							t.Error(err)
						}
						tick = now + 20*millisecond
					}
					value := rng.Uint64N(uint64(len(got)))
					v, err := values.Take(value, limits, 0, now)
					if err != nil {
						t.Error(err)
						return
					}
					if v.OK {
						got[value].add(v.At, start)
						if rng.IntN(8) == 0 { // it does not enter after all
							got[value].perBucket[v.At]--
							got[value].total--
							if err := values.GiveBack(value, limits, v.At, now); err != nil {
								t.Error(err)
							}
						}
					}
					task.Sleep(now + rng.Int64N(int64(workers)*pause))
				}
			})
		}
		for sim.Step() {
			live := sim.Live()
			switch some := sim.Rand.IntN(3000); {
			case some == 0 && len(live) > 1:
				sim.Kill(live[sim.Rand.IntN(len(live))])
			case some < 10 && len(live) > 0:
				sim.Stall(live[sim.Rand.IntN(len(live))], sim.Rand.Int64N(2*second))
			case some < 100:
				sim.Advance(sim.Rand.Int64N(millisecond))
			}
		}
		for value := range got {
			if err := got[value].check(limits.Of(uint64(value)), sim.Now()); err != nil {
				t.Errorf("value %d, %d workers: %v", value, workers, err)
			}
		}
		if got[2].total != 0 {
			t.Errorf("a value with a threshold of 0 got %d", got[2].total)
		}
		if got[0].total == 0 {
			t.Error("nobody got anything")
		}
	})
}

// Times that are given out for one value are never closer than its interval.
func TestPacedPerValue(t *testing.T) {
	trySeeds(t, 40, func(t *testing.T, seed uint64) {
		sim := memhost.NewSim(seed, start)
		defer sim.Close()
		limits := &hotspot.Limits{Limit: hotspot.Limit{Threshold: 1 + sim.Rand.Int64N(3000), DurationMs: 1000, Paced: true, MaxWaitMs: 300}}
		times := map[uint64][]int64{}
		for range 1 + sim.Rand.IntN(16) {
			sim.Go(func(task *memhost.Task) {
				values := hotspot.NewValues(record.NewTable(task), 100, "r")
				for now := task.Now(); now < start+second; now = task.Now() {
					value := sim.Rand.Uint64N(3)
					v, err := values.Take(value, limits, 300*millisecond, now)
					if err != nil {
						t.Error(err)
						return
					}
					if v.OK {
						times[value] = append(times[value], v.At)
						if v.At > task.Now()+300*millisecond {
							t.Errorf("waits until %d ms ahead", (v.At-now)/millisecond)
						}
					}
					task.Sleep(now + sim.Rand.Int64N(20*millisecond))
				}
			})
		}
		for sim.Step() {
			if live := sim.Live(); len(live) > 0 && sim.Rand.IntN(500) == 0 {
				sim.Stall(live[sim.Rand.IntN(len(live))], sim.Rand.Int64N(second))
			}
		}
		gaps := 0
		for _, list := range times {
			gaps += len(list) - 1
			seen := map[int64]bool{}
			for _, a := range list {
				for _, b := range list {
					if a < b && b-a < limits.Gap() || a == b && seen[a] {
						t.Fatalf("times %d and %d, gap %d", a, b, limits.Gap())
					}
				}
				seen[a] = true
			}
		}
		if gaps < 1 {
			t.Error("no gap was seen")
		}
	})
}

// Half a million values for each of two rules by default; -hotspot.values=5000000 makes it ten million in all.
var manyValues = flag.Int("hotspot.values", 500_000, "how many different values flood each rule")

// Many different values change neither what the rule takes of memory nor what hot values get.
func TestManyValues(t *testing.T) {
	const hot = 20
	p := memhost.NewProcess(start)
	seed := hotspot.Seed{rand.Uint64(), rand.Uint64()}
	t.Logf("seed %x", seed)
	rng := rand.New(rand.NewPCG(seed[0], seed[1]))
	for _, c := range []struct{ threshold, burst int64 }{{1, 0}, {5, 2}} {
		began, threshold := p.Now(), c.threshold
		var workers []*hotspot.Values
		for range 4 {
			w := p.Worker(nil)
			workers = append(workers, hotspot.NewValues(record.NewTable(w), 0, "flood", fmt.Sprint(threshold)))
		}
		limits := &hotspot.Limits{Limit: hotspot.Limit{Threshold: threshold, Burst: c.burst, DurationMs: 1000}}
		var got [hot]taken
		take := func(value string) hotspot.Verdict {
			v, err := workers[rng.IntN(len(workers))].Take(seed.Hash(value), limits, 0, p.Now())
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		for h := range hot { // hot they are once they were refused
			for v := take(fmt.Sprint("hot ", h)); v.OK; v = take(fmt.Sprint("hot ", h)) {
				got[h].add(v.At, p.Now())
			}
		}
		values := *manyValues
		full, _ := p.Keys()
		for i := range values {
			take(fmt.Sprint("cold ", i))
			if i == values/10 {
				full, _ = p.Keys()
			}
			if i%10 == 0 {
				h := rng.IntN(hot)
				if v := take(fmt.Sprint("hot ", h)); v.OK {
					got[h].add(v.At, p.Now())
				}
			}
			if i%50 == 0 {
				p.Advance(millisecond) // 50,000 values a second
			}
		}
		for h := range got {
			if err := got[h].check(limits.Limit, p.Now()); err != nil {
				t.Error(err)
			}
			most := threshold + c.burst + (p.Now()-began)/millisecond*threshold/1000
			if got[h].total < most*8/10 {
				t.Errorf("threshold %d: hot value %d got %d, at most %d", threshold, h, got[h].total, most)
			}
		}
		var evicted, regained uint64
		for _, w := range workers {
			evicted, regained = evicted+w.Evicted, regained+w.Regained
		}
		if evicted == 0 || regained < evicted || regained > evicted*uint64(threshold+c.burst) {
			t.Errorf("%d values were evicted and regained %d", evicted, regained)
		}
		if keys, bytes := p.Keys(); keys != full || bytes > 3<<20 {
			t.Errorf("%d keys after a tenth of the values and %d in the end, with %d bytes", full, keys, bytes)
		}
	}
}

// With demand at twice the threshold, a value gets nearly all of it, although workers reserve; and they seldom look at
// shared data for it.
func TestHardlyUnder(t *testing.T) {
	p := memhost.NewProcess(start)
	limits := &hotspot.Limits{Limit: hotspot.Limit{Threshold: 1000, DurationMs: 1000}}
	var workers []*hotspot.Values
	calls := 0
	for range 4 {
		w := p.Worker(func() { calls++ })
		workers = append(workers, hotspot.NewValues(record.NewTable(w), 0, "r"))
	}
	const windows = 20
	admitted := int64(0)
	for i := range windows * 2000 {
		v, err := workers[i%len(workers)].Take(7, limits, 0, p.Now())
		if err != nil {
			t.Fatal(err)
		}
		if v.OK {
			admitted++
		}
		if p.Advance(millisecond / 2); i%40 == 0 {
			for _, w := range workers {
				if err := w.Settle(p.Now()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	// A bucket is filled once more than its duration has gone by: every 1001 ms.
	if most := int64(windows*1000 + 1000); admitted > most || admitted < windows*1000*99/100 {
		t.Errorf("%d admitted in %d windows of 1000", admitted, windows)
	}
	t.Logf("%d calls to the host", calls)
}

// What a worker has reserved is neither lost nor had twice, when its bucket is over or the threshold changes.
func TestReserved(t *testing.T) {
	p := memhost.NewProcess(start)
	var workers []*hotspot.Values
	for range 2 {
		w := p.Worker(nil)
		workers = append(workers, hotspot.NewValues(record.NewTable(w), 0, "r"))
	}
	limits := func(threshold, burst int64) *hotspot.Limits {
		return &hotspot.Limits{Limit: hotspot.Limit{Threshold: threshold, Burst: burst, DurationMs: 1000}}
	}
	take := func(worker int, hash uint64, l *hotspot.Limits, n int) (got int) {
		for range n {
			v, err := workers[worker].Take(hash, l, 0, p.Now())
			if err != nil {
				t.Fatal(err)
			}
			if v.OK {
				got++
			}
		}
		return got
	}
	same := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	for i := range 10 { // of some of them a permit is reserved in the end
		same("some", take(0, uint64(10+i), limits(640, 640), 900+i), 900+i)
	}
	same("some of another", take(0, 2, limits(640, 0), 100), 100)
	same("some of a third", take(0, 3, limits(640, 0), 100), 100)
	same("a lowered threshold", take(0, 3, limits(5, 0), 100), 5)
	p.Advance(1001 * millisecond)
	for i := range 10 {
		same("what was saved up", take(0, uint64(10+i), limits(640, 640), 2000), 380-i+640)
	}
	same("the next bucket, in the other worker", take(1, 2, limits(640, 0), 1000), 640)
	same("what was reserved of the bucket before", take(0, 2, limits(640, 0), 100), 0)
}

func TestGiveBack(t *testing.T) {
	p := memhost.NewProcess(start)
	w := p.Worker(nil)
	values := hotspot.NewValues(record.NewTable(w), 0, "r")
	limits := &hotspot.Limits{Limit: hotspot.Limit{Threshold: 3, DurationMs: 1000}}
	take := func() (v hotspot.Verdict) {
		v, err := values.Take(7, limits, 0, p.Now())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	first := take()
	for take().OK {
	}
	for range 2 { // there were three in all: what comes back once can be taken once
		if err := values.GiveBack(7, limits, first.At, p.Now()); err != nil {
			t.Fatal(err)
		}
		if !take().OK || take().OK {
			t.Error("a permit that came back is not one permit")
		}
	}
	p.Advance(1001 * millisecond)
	for range 3 {
		if !take().OK {
			t.Error("a new bucket has less")
		}
	}
	if err := values.GiveBack(7, limits, first.At, p.Now()); err != nil || take().OK {
		t.Errorf("a permit of the bucket before came back (%v)", err)
	}
}

// Where a page is lost nobody knows who has had what: no value gets more than if it had had all.
func TestLostPage(t *testing.T) {
	trySeeds(t, 100, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p := memhost.NewProcess(start)
		w := p.Worker(nil)
		values := hotspot.NewValues(record.NewTable(w), 0, "r")
		limits := &hotspot.Limits{Limit: hotspot.Limit{Threshold: 3, Burst: 1, DurationMs: 1000}}
		var got taken
		for range 400 {
			p.Advance(rng.Int64N(50 * millisecond))
			if rng.IntN(20) == 0 {
				p.Corrupt(func(_ string, old []byte) ([]byte, bool) { return old[:rng.IntN(len(old)+1)], true })
			}
			v, err := values.Take(7, limits, 0, p.Now())
			if err != nil {
				t.Fatal(err)
			}
			if v.OK {
				got.add(v.At, p.Now())
			}
		}
		if err := got.check(limits.Limit, p.Now()); err != nil {
			t.Error(err)
		}
	})
}

// No value ever has more in flight than its threshold, and what a dead worker had comes back.
func TestConcurrency(t *testing.T) {
	trySeeds(t, 40, func(t *testing.T, seed uint64) {
		sim := memhost.NewSim(seed, start)
		defer sim.Close()
		threshold := 1 + sim.Rand.Int64N(5)
		const values = 4
		var inFlight [64][values]int64
		var admitted, died int
		tasks := map[*memhost.Task]int{}
		workers := []int{1, 2, 8, 32}[sim.Rand.IntN(4)]
		for i := range workers {
			task := sim.Go(func(task *memhost.Task) {
				crowd := hotspot.NewConcurrency(record.NewTable(task), 20, "r")
				holder := worker.Identity{Slot: uint16(i), Epoch: 1}
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				tick := int64(0)
				for now := task.Now(); now < start+6*second; now = task.Now() {
					if now >= tick {
						if err := crowd.Tick(holder, now); err != nil {
							t.Error(err)
						}
						tick = now + 20*millisecond
					}
					value := rng.Uint64N(values)
					if rng.IntN(2) == 0 && inFlight[i][value] > 0 {
						inFlight[i][value]--
						if err := crowd.Exit(value, now); err != nil {
							t.Error(err)
						}
					} else if c, err := crowd.Enter(holder, value, threshold, now); err != nil {
						t.Error(err)
					} else if c.OK {
						inFlight[i][value]++
						admitted++
						var sum int64
						for w := range inFlight {
							sum += inFlight[w][value]
						}
						if sum > threshold {
							t.Errorf("%d in flight, threshold %d, %d workers", sum, threshold, workers)
							return
						}
					}
					task.Sleep(now + rng.Int64N(int64(workers)*10*millisecond))
				}
			})
			tasks[task] = i
		}
		for sim.Step() {
			live := sim.Live()
			if len(live) > 1 && sim.Rand.IntN(4000) == 0 {
				dead := live[sim.Rand.IntN(len(live))]
				sim.Kill(dead)
				died++
				inFlight[tasks[dead]] = [values]int64{}
			}
		}
		if admitted == 0 {
			t.Error("nobody entered")
		}
	})
}

func TestDeadWorkersConcurrencyComesBack(t *testing.T) {
	p := memhost.NewProcess(start)
	one, two := p.Worker(nil), p.Worker(nil)
	dead := hotspot.NewConcurrency(record.NewTable(one), 0, "r")
	alive := hotspot.NewConcurrency(record.NewTable(two), 0, "r")
	enter := func(c *hotspot.Concurrency, slot uint16) bool {
		got, err := c.Enter(worker.Identity{Slot: slot, Epoch: 1}, 9, 2, p.Now())
		if err != nil {
			t.Fatal(err)
		}
		return got.OK
	}
	if !enter(dead, 1) || !enter(alive, 2) || enter(alive, 2) || enter(dead, 1) {
		t.Fatal("not two in all")
	}
	for range 19 {
		p.Advance(100 * millisecond)
		if err := alive.Tick(worker.Identity{Slot: 2, Epoch: 1}, p.Now()); err != nil {
			t.Fatal(err)
		}
		if enter(alive, 2) {
			t.Fatal("entered before the time")
		}
	}
	p.Advance(200 * millisecond)
	if !enter(alive, 2) || enter(alive, 2) {
		t.Error("what the dead one had has not come back, or more")
	}
	for range 2 {
		if err := alive.Exit(9, p.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if err := alive.Tick(worker.Identity{Slot: 2, Epoch: 1}, p.Now()); err != nil || alive.Holding() {
		t.Errorf("still holding (%v)", err)
	}
}

// Where a page is lost nobody knows what is in flight: nobody enters until all that live have said it again.
func TestConcurrencyOfLostPage(t *testing.T) {
	p := memhost.NewProcess(start)
	var crowds []*hotspot.Concurrency
	for range 2 {
		w := p.Worker(nil)
		crowds = append(crowds, hotspot.NewConcurrency(record.NewTable(w), 0, "r"))
	}
	enter := func(slot int) bool {
		got, err := crowds[slot].Enter(worker.Identity{Slot: uint16(slot), Epoch: 1}, 9, 2, p.Now())
		if err != nil {
			t.Fatal(err)
		}
		return got.OK
	}
	if !enter(0) {
		t.Fatal("refused at first")
	}
	p.Corrupt(func(_ string, old []byte) ([]byte, bool) { return old[:len(old)-1], true })
	if enter(1) {
		t.Error("entered when nobody knew what is in flight")
	}
	for range 22 {
		p.Advance(100 * millisecond)
		for slot, c := range crowds {
			if err := c.Tick(worker.Identity{Slot: uint16(slot), Epoch: 1}, p.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !enter(1) || enter(1) || enter(0) {
		t.Error("not the one that is free has entered")
	}
}

// However many values are in flight, memory has a bound, and what has no room is refused and counted.
func TestConcurrencyIsBounded(t *testing.T) {
	p := memhost.NewProcess(start)
	w := p.Worker(nil)
	crowd := hotspot.NewConcurrency(record.NewTable(w), 32, "r")
	seed := hotspot.Seed{rand.Uint64(), rand.Uint64()}
	admitted := 0
	for i := range 2000 {
		c, err := crowd.Enter(worker.Identity{Slot: 1, Epoch: 1}, seed.Hash(fmt.Sprint(i)), 5, p.Now())
		if err != nil {
			t.Fatal(err)
		}
		if c.OK {
			admitted++
		} else if !c.Full {
			t.Fatal("refused, but not for want of room")
		}
	}
	if admitted != 2*128 || crowd.Full != uint64(2000-admitted) {
		t.Errorf("%d values are in flight, %d had no room", admitted, crowd.Full)
	}
	if _, bytes := p.Keys(); bytes > 16<<10 {
		t.Errorf("%d bytes", bytes)
	}
}

func BenchmarkTake(b *testing.B) {
	p := memhost.NewProcess(start)
	w := p.Worker(nil)
	values := hotspot.NewValues(record.NewTable(w), 0, "r")
	limits := &hotspot.Limits{Limit: hotspot.Limit{Threshold: 1 << 40, DurationMs: 1000}}
	for i := 0; b.Loop(); i++ {
		if _, err := values.Take(uint64(i)*0x9e3779b97f4a7c15, limits, 0, start); err != nil {
			b.Fatal(err)
		}
	}
}
