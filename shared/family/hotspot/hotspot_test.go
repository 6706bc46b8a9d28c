package hotspot_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"sentinel-envoy/internal/seeds"
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

// TestJoin: a hash of two is that of their bytes.
func TestJoin(t *testing.T) {
	seed := hotspot.Seed{3, 4}
	if got, want := seed.Join(new([16]byte), 0x0807060504030201, 0x100f0e0d0c0b0a09),
		seed.Hash("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"); got != want {
		t.Errorf("%x, want %x", got, want)
	}
}

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
		keys = append(keys, hotspot.NewKey(record.NewTable(p.Worker(nil)), "seed", rand.Uint64))
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
	keys = append(keys, hotspot.NewKey(record.NewTable(p.Worker(nil)), "seed", rand.Uint64))
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
	late := hotspot.NewKey(record.NewTable(broken), "seed", rand.Uint64)
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
				values := hotspot.NewValues(record.NewTable(task), record.IDOf("r"))
				rng := rand.New(rand.NewPCG(seed, sim.Rand.Uint64()))
				for now, tick := task.Now(), int64(0); now < end; now = task.Now() {
					if now >= tick {
						if err := values.Settle(now); err != nil {
							t.Error(err)
						}
						tick = now + 20*millisecond
					}
					value := rng.Uint64N(uint64(len(got)))
					v, err := values.Take(value, limits, 1, 0, now)
					if err != nil {
						t.Error(err)
						return
					}
					if v.OK {
						got[value].add(v.At, start)
						if rng.IntN(8) == 0 { // it does not enter after all
							got[value].perBucket[v.At]--
							got[value].total--
							if err := values.GiveBack(value, limits, v.At, 1, now); err != nil {
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
			if err := got[value].check(*limits.Of(uint64(value)), sim.Now()); err != nil {
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
				values := hotspot.NewValues(record.NewTable(task), record.IDOf("r"))
				for now := task.Now(); now < start+second; now = task.Now() {
					value := sim.Rand.Uint64N(3)
					v, err := values.Take(value, limits, 1, 300*millisecond, now)
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
					if a < b && b-a < limits.Gap(1) || a == b && seen[a] {
						t.Fatalf("times %d and %d, gap %d", a, b, limits.Gap(1))
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
			workers = append(workers, hotspot.NewValues(record.NewTable(w), record.IDOf("flood", fmt.Sprint(threshold))))
		}
		limits := &hotspot.Limits{Limit: hotspot.Limit{Threshold: threshold, Burst: c.burst, DurationMs: 1000}}
		var got [hot]taken
		take := func(value string) hotspot.Verdict {
			v, err := workers[rng.IntN(len(workers))].Take(seed.Hash(value), limits, 1, 0, p.Now())
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
		for i := range values {
			take(fmt.Sprint("cold ", i))
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
		if keys, bytes := p.Keys(); keys > hotspot.Capacity/16 || bytes > 40*hotspot.Capacity {
			t.Errorf("%d keys of %d bytes", keys, bytes)
		}
	}
}

// A rule that is flooded with values makes room for them itself: those of another rule keep what they have spent.
func TestAFloodOfOneRuleSparesTheOthers(t *testing.T) {
	const values = 2000
	p := memhost.NewProcess(start)
	seed := hotspot.Seed{rand.Uint64(), rand.Uint64()}
	t.Logf("seed %x", seed)
	quiet, loud := record.IDOf("quiet"), record.IDOf("loud")
	table := record.NewTable(p.Worker(nil))
	few, many := hotspot.NewValues(table, quiet), hotspot.NewValues(table, loud)
	limits := &hotspot.Limits{Limit: hotspot.Limit{Threshold: 3, DurationMs: 3600_000}}
	take := func(v *hotspot.Values, rule record.ID, value int) bool {
		got, err := v.Take(seed.Of(rule).Hash(fmt.Sprint(value)), limits, 1, 0, p.Now())
		if err != nil {
			t.Fatal(err)
		}
		return got.OK
	}
	for value := range values {
		take(few, quiet, value)
	}
	for value := range 2 * hotspot.Capacity {
		take(many, loud, value)
		take(many, loud, value) // hotter than those of the other
	}
	if many.Evicted == 0 || few.Evicted > 0 {
		t.Errorf("%d and %d values were forgotten", many.Evicted, few.Evicted)
	}
	regained := 0
	for value := range values {
		for n := 0; take(few, quiet, value); n++ {
			if n == 2 {
				regained++
			}
		}
	}
	if regained > 0 {
		t.Errorf("%d of %d values had a permit too many", regained, values)
	}
	late := record.IDOf("late") // the counters of others have filled the memory: Kong/kong#3124
	v := hotspot.NewValues(table, late)
	for value := range values {
		for n := range 5 {
			if ok := take(v, late, value); ok != (n < 3) {
				t.Fatalf("value %d of a new rule: entry %d is let in: %t", value, n, ok)
			}
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
		workers = append(workers, hotspot.NewValues(record.NewTable(w), record.IDOf("r")))
	}
	const windows = 20
	admitted := int64(0)
	for i := range windows * 2000 {
		v, err := workers[i%len(workers)].Take(7, limits, 1, 0, p.Now())
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
		workers = append(workers, hotspot.NewValues(record.NewTable(w), record.IDOf("r")))
	}
	limits := func(threshold, burst int64) *hotspot.Limits {
		return &hotspot.Limits{Limit: hotspot.Limit{Threshold: threshold, Burst: burst, DurationMs: 1000}}
	}
	take := func(worker int, hash uint64, l *hotspot.Limits, n int) (got int) {
		for range n {
			v, err := workers[worker].Take(hash, l, 1, 0, p.Now())
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
	values := hotspot.NewValues(record.NewTable(w), record.IDOf("r"))
	limits := &hotspot.Limits{Limit: hotspot.Limit{Threshold: 3, DurationMs: 1000}}
	take := func() (v hotspot.Verdict) {
		v, err := values.Take(7, limits, 1, 0, p.Now())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	first := take()
	for take().OK {
	}
	for range 2 { // there were three in all: what comes back once can be taken once
		if err := values.GiveBack(7, limits, first.At, 1, p.Now()); err != nil {
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
	if err := values.GiveBack(7, limits, first.At, 1, p.Now()); err != nil || take().OK {
		t.Errorf("a permit of the bucket before came back (%v)", err)
	}
}

// A refusal of a hot value is remembered for 2 ms, unless it gets something back, and not into its next bucket.
func TestRefusalIsRemembered(t *testing.T) {
	p := memhost.NewProcess(start)
	asked := 0
	here := hotspot.NewValues(record.NewTable(p.Worker(func() { asked++ })), record.IDOf("r"))
	there := hotspot.NewValues(record.NewTable(p.Worker(nil)), record.IDOf("r"))
	limits := &hotspot.Limits{Limit: hotspot.Limit{Threshold: 2, DurationMs: 1000}}
	take := func(by *hotspot.Values) hotspot.Verdict {
		t.Helper()
		v, err := by.Take(7, limits, 1, 0, p.Now())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	theirs, ours := take(there), take(here)
	check := func(what string, ok, asks bool) {
		t.Helper()
		before := asked
		if v := take(here); v.OK != ok || (asked > before) != asks {
			t.Errorf("%s: admitted %v, asked %v", what, v.OK, asked > before)
		}
	}
	for range 8 { // it is known to be hot
		check("a refusal", false, true)
	}
	check("the same again", false, false)
	giveBack := func(by *hotspot.Values, at int64) {
		if err := by.GiveBack(7, limits, at, 1, p.Now()); err != nil {
			t.Fatal(err)
		}
	}
	giveBack(here, ours.At)
	check("what came back here", true, true)
	for range 8 {
		check("a refusal", false, true)
	}
	giveBack(there, theirs.At)
	check("what came back elsewhere, at once", false, false)
	p.Advance(2 * millisecond)
	check("and 2 ms later", true, true)
	for range 8 {
		check("a refusal", false, true)
	}
	p.Advance(take(here).FreeAt - p.Now() - 1)
	check("just before the next bucket", false, true)
	p.Advance(1)
	check("in the next bucket", true, true)
}

// Where a page is lost nobody knows who has had what: no value gets more than if it had had all.
func TestLostPage(t *testing.T) {
	trySeeds(t, 100, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p := memhost.NewProcess(start)
		w := p.Worker(nil)
		values := hotspot.NewValues(record.NewTable(w), record.IDOf("r"))
		limits := &hotspot.Limits{Limit: hotspot.Limit{Threshold: 3, Burst: 1, DurationMs: 1000}}
		var got taken
		for range 400 {
			p.Advance(rng.Int64N(50 * millisecond))
			if rng.IntN(20) == 0 {
				p.Corrupt(func(_ string, old []byte) ([]byte, bool) { return old[:rng.IntN(len(old)+1)], true })
			}
			v, err := values.Take(7, limits, 1, 0, p.Now())
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

// crowd is the entries in flight as one worker of a test counts them.
type crowd struct {
	*hotspot.Concurrency
	watch  worker.Watch
	holder worker.Identity
	// open are the keys that its entries were counted by.
	open map[uint64][]uint64
	// full are the entries that share a count.
	full uint64
}

func newCrowd(w record.Host, slot int) *crowd {
	c := &crowd{holder: worker.Identity{Slot: uint16(slot), Epoch: 1}, open: map[uint64][]uint64{}}
	c.Concurrency = hotspot.NewConcurrency(record.NewTable(w), &c.watch)
	return c
}

func (c *crowd) enter(t *testing.T, value uint64, threshold, now int64) bool {
	t.Helper()
	got, err := c.Enter(c.holder, value, threshold, now)
	if err != nil {
		t.Error(err)
	}
	if got.Full {
		c.full++
	}
	if got.OK {
		c.open[value] = append(c.open[value], got.Key)
	}
	return got.OK
}

// leave ends an entry of a value, and reports whether there was one.
func (c *crowd) leave(t *testing.T, value uint64, now int64) bool {
	t.Helper()
	open := c.open[value]
	if len(open) == 0 {
		return false
	}
	c.open[value] = open[1:]
	if err := c.Exit(value, open[0], now); err != nil {
		t.Error(err)
	}
	return true
}

func (c *crowd) tick(t *testing.T, now int64) {
	t.Helper()
	c.watch.Look(now)
	if err := c.Tick(c.holder, now); err != nil {
		t.Error(err)
	}
}

// pass lets d nanoseconds pass, in which only some workers tick.
func pass(t *testing.T, p *memhost.Process, d int64, ticking ...*crowd) {
	t.Helper()
	for end := p.Now() + d; p.Now() < end; p.Advance(min(20*millisecond, end-p.Now())) {
		for _, c := range ticking {
			c.tick(t, p.Now())
		}
	}
}

// No value ever has more in flight than its threshold, also where values share a count, and what a dead worker had comes
// back.
func TestConcurrency(t *testing.T) {
	shared := uint64(0)
	seeds.Try(t, 160, func(t *testing.T, seed uint64) {
		sim := memhost.NewSim(seed, start)
		defer sim.Close()
		threshold := 1 + sim.Rand.Int64N(5)
		values := make([]uint64, []int{4, 4, 300}[sim.Rand.IntN(3)])
		for i := range values {
			values[i] = sim.Rand.Uint64()&onePage | uint64(i%2)<<63 // two pages are soon full
		}
		var crowds []*crowd
		var admitted int
		tasks := map[*memhost.Task]int{}
		workers := []int{1, 2, 8, 32}[sim.Rand.IntN(4)]
		for i := range workers {
			crowds = append(crowds, nil)
			task := sim.Go(func(task *memhost.Task) {
				c := newCrowd(task, i)
				crowds[i] = c
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				tick := int64(0)
				for now := task.Now(); now < start+6*second; now = task.Now() {
					if now >= tick {
						c.tick(t, now)
						tick = now + 20*millisecond
					}
					value := values[rng.IntN(len(values))]
					if rng.IntN(3) == 0 {
						c.leave(t, value, now)
					} else if c.enter(t, value, threshold, now) {
						admitted++
						sum := 0
						for _, other := range crowds {
							if other != nil {
								sum += len(other.open[value])
							}
						}
						if sum > int(threshold) {
							t.Errorf("%d in flight, threshold %d, %d workers", sum, threshold, workers)
							return
						}
					}
					task.Sleep(now + rng.Int64N(int64(workers)*5*millisecond))
				}
			})
			tasks[task] = i
		}
		for sim.Step() {
			live := sim.Live()
			if len(live) > 1 && sim.Rand.IntN(4000) == 0 {
				dead := live[sim.Rand.IntN(len(live))]
				sim.Kill(dead)
				crowds[tasks[dead]] = nil
			}
		}
		if admitted == 0 {
			t.Error("nobody entered")
		}
		for _, c := range crowds {
			if c != nil {
				shared += c.full
			}
		}
	})
	if seeds.Complete() && shared == 0 {
		t.Error("no values shared a count: the test tries nothing")
	}
}

func TestDeadWorkersConcurrencyComesBack(t *testing.T) {
	p := memhost.NewProcess(start)
	dead, alive := newCrowd(p.Worker(nil), 1), newCrowd(p.Worker(nil), 2)
	enter := func(c *crowd) bool { return c.enter(t, 99, 2, p.Now()) }
	if !enter(dead) || !enter(alive) || enter(alive) || enter(dead) {
		t.Fatal("not two in all")
	}
	for range 100 {
		pass(t, p, 20*millisecond, alive)
		if enter(alive) {
			t.Fatal("entered before the time")
		}
	}
	pass(t, p, 20*millisecond, alive)
	if !enter(alive) || enter(alive) {
		t.Error("what the dead one had has not come back, or more")
	}
	for alive.leave(t, 99, p.Now()) {
	}
	if alive.tick(t, p.Now()); alive.Holding() {
		t.Error("still holding")
	}
}

// A process that stands still keeps the threshold of each value, whoever wakes first.
func TestConcurrencyOfAProcessThatStandsStill(t *testing.T) {
	p := memhost.NewProcess(start)
	a, b := newCrowd(p.Worker(nil), 1), newCrowd(p.Worker(nil), 2)
	for range 2 {
		if !a.enter(t, 99, 2, p.Now()) {
			t.Fatal("refused")
		}
	}
	pass(t, p, 3*second, a, b)
	p.Advance(2500 * millisecond)
	for range 50 {
		if b.enter(t, 99, 2, p.Now()) {
			t.Fatal("after the pause a third of 2 entered")
		}
		pass(t, p, 20*millisecond, b)
	}
	pass(t, p, 5*second, a, b)
	if b.enter(t, 99, 2, p.Now()) {
		t.Error("long after the pause a third of 2 entered")
	}
	pass(t, p, worker.TTL+second, b)
	if !b.enter(t, 99, 2, p.Now()) {
		t.Error("what the dead one had has not come back")
	}
}

// Where a page is lost nobody knows what is in flight: nobody enters until all that live have said it again.
func TestConcurrencyOfLostPage(t *testing.T) {
	p := memhost.NewProcess(start)
	a, b := newCrowd(p.Worker(nil), 0), newCrowd(p.Worker(nil), 1)
	if !a.enter(t, 99, 2, p.Now()) {
		t.Fatal("refused at first")
	}
	p.Corrupt(func(_ string, old []byte) ([]byte, bool) { return old[:len(old)-1], true })
	if b.enter(t, 99, 2, p.Now()) {
		t.Error("entered when nobody knew what is in flight")
	}
	pass(t, p, 2200*millisecond, a, b)
	if !b.enter(t, 99, 2, p.Now()) || b.enter(t, 99, 2, p.Now()) || a.enter(t, 99, 2, p.Now()) {
		t.Error("not the one that is free has entered")
	}
}

// onePage are the bits of a hash that do not say in which page a value is.
const onePage = 1<<32 - 1

// An entry that ends while the host fails is over all the same: its place is back with the next tick of its worker.
func TestConcurrencyOfAnEndThatCouldNotBeWritten(t *testing.T) {
	p := memhost.NewProcess(start)
	w := p.Worker(nil)
	a, b := newCrowd(w, 1), newCrowd(p.Worker(nil), 2)
	if !a.enter(t, 99, 1, p.Now()) {
		t.Fatal("refused")
	}
	failure := errors.New("the host fails")
	w.Fail(failure)
	if err := a.Exit(99, 99, p.Now()); !errors.Is(err, failure) {
		t.Errorf("the end of an entry: %v", err)
	}
	w.Fail(nil)
	if a.tick(t, p.Now()); !b.enter(t, 99, 1, p.Now()) {
		t.Error("its place is not back")
	}
}

// No worker takes another's room, and no value that of another: what is far from its threshold is never refused.
func TestConcurrencyHasRoomForAllWorkers(t *testing.T) {
	for _, c := range []struct{ workers, values int }{{16, 16}, {64, 128}, {256, 16}} {
		p := memhost.NewProcess(start)
		seed := hotspot.Seed{rand.Uint64(), rand.Uint64()}
		for slot := range c.workers {
			w := newCrowd(p.Worker(nil), slot)
			for value := range c.values {
				if !w.enter(t, onePage&seed.Hash(fmt.Sprint(value)), 1000, p.Now()) {
					t.Fatalf("%d workers, %d values: value %d was refused to worker %d", c.workers, c.values, value, slot)
				}
			}
			if w.full > 0 {
				t.Errorf("%d workers, %d values: %d had no count of their own", c.workers, c.values, w.full)
			}
		}
		if _, bytes := p.Keys(); bytes > 1000+c.workers*(20+12*c.values) {
			t.Errorf("%d workers, %d values: %d bytes", c.workers, c.values, bytes)
		}
	}
}

// However many values are in flight, memory has a bound. What comes beyond shares a count with other values and is counted:
// each has at most its threshold, and those that came before are none the worse.
func TestConcurrencyIsBounded(t *testing.T) {
	p := memhost.NewProcess(start)
	c := newCrowd(p.Worker(nil), 1)
	seed := hotspot.Seed{rand.Uint64(), rand.Uint64()}
	admitted := 0
	for i := range 20000 {
		if c.enter(t, onePage&seed.Hash(fmt.Sprint(i))|uint64(i%2)<<63, 5, p.Now()) {
			admitted++
		}
	}
	if want := 2 * (128 + 16*5); admitted != want || c.full != 20000-2*128 {
		t.Errorf("%d of %d values are in flight, %d share a count", admitted, want, c.full)
	}
	if _, bytes := p.Keys(); bytes > 4<<10 {
		t.Errorf("%d bytes", bytes)
	}
	for value := range c.open {
		for c.leave(t, value, p.Now()) {
		}
	}
	if pass(t, p, 20*millisecond, c); c.Holding() {
		t.Error("something is left in flight")
	}
}

func BenchmarkTake(b *testing.B) {
	p := memhost.NewProcess(start)
	w := p.Worker(nil)
	values := hotspot.NewValues(record.NewTable(w), record.IDOf("r"))
	limits := &hotspot.Limits{Limit: hotspot.Limit{Threshold: 1 << 40, DurationMs: 1000}}
	for i := 0; b.Loop(); i++ {
		if _, err := values.Take(uint64(i)*0x9e3779b97f4a7c15, limits, 1, 0, start); err != nil {
			b.Fatal(err)
		}
	}
}
