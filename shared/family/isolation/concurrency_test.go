package isolation_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/family/isolation"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/worker"
)

const (
	millisecond = int64(time.Millisecond)
	second      = int64(time.Second)
	tick        = 20 * millisecond
	start       = 1000 * second
)

// peer is one worker's count, and what it really has in flight.
type peer struct {
	*isolation.Concurrency
	watch  worker.Watch
	holder worker.Identity
	// ends are when its entries end.
	ends []int64
	// ticked is when it last began a tick that it has completed, thawing whether it has not since it was frozen.
	ticked        int64
	thawing, dead bool
}

func newPeer(host *memhost.Worker, slot int) *peer {
	p := &peer{holder: worker.Identity{Slot: uint16(slot), Epoch: uint64(start + int64(slot))}, ticked: start}
	p.Concurrency = isolation.NewConcurrency(record.NewTable(host), &p.watch, record.IDOf("isolation", "r"))
	return p
}

// Tick is what a worker does in each tick.
func (p *peer) Tick(holder worker.Identity, now int64) error {
	p.watch.Look(now)
	return p.Concurrency.Tick(holder, now)
}

// pass lets d nanoseconds pass, in which only some workers tick.
func pass(t *testing.T, p *memhost.Process, d int64, ticking ...*peer) {
	t.Helper()
	for end := p.Now() + d; p.Now() < end; p.Advance(min(tick, end-p.Now())) {
		for _, w := range ticking {
			if err := w.Tick(w.holder, p.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// contest is a random simulation of workers that fight for one threshold, interleaved at every call to the host.
type contest struct {
	t         *testing.T
	sim       *memhost.Sim
	rng       *rand.Rand
	threshold int64
	workers   []*peer
	tasks     []*memhost.Task
	// until calmAt entries come and go and the workers are disturbed; from fullAt on none ends.
	calmAt, fullAt, end int64
	longest             int64 // of an entry
	entered, refused    int

	stall          int64 // the longest, 0 for none
	deaths, faults bool
	garbage        bool
}

func newContest(t *testing.T, seed uint64) *contest {
	rng := rand.New(rand.NewPCG(seed, 0x150))
	c := &contest{
		t: t, rng: rng, sim: memhost.NewSim(seed, start),
		threshold: []int64{1, 2, 5, 20, 64, 300}[rng.IntN(6)],
		calmAt:    start + 2*second,
		longest:   millisecond * []int64{1, 20, 200, 2000}[rng.IntN(4)],
	}
	c.fullAt = c.calmAt + worker.TTL + 2*tick
	c.end = c.fullAt + 5*tick
	for range []int{1, 2, 4, 16, 64}[rng.IntN(5)] {
		c.workers = append(c.workers, nil)
	}
	return c
}

func (c *contest) String() string {
	return fmt.Sprintf("%d workers, threshold %d, entries of up to %d ms, stalls of up to %d ms, deaths %t, faults %t, garbage %t",
		len(c.workers), c.threshold, c.longest/millisecond, c.stall/millisecond, c.deaths, c.faults, c.garbage)
}

// inFlight is what all workers have that live and were not frozen so long that others no longer count them.
func (c *contest) inFlight() (sum int64) {
	for _, w := range c.workers {
		if w != nil && !w.thawing && !w.dead {
			sum += int64(len(w.ends))
		}
	}
	return sum
}

func (c *contest) run() {
	defer c.sim.Close()
	for i := range c.workers {
		c.tasks = append(c.tasks, c.sim.Go(func(task *memhost.Task) { c.live(task, i) }))
	}
	for c.sim.Step() && !c.t.Failed() {
		c.disturb()
	}
}

func (c *contest) live(task *memhost.Task, i int) {
	w := newPeer(task.Worker, i)
	c.workers[i] = w
	rng := rand.New(rand.NewPCG(uint64(i), uint64(c.rng.Uint32())))
	nextTick := start + rng.Int64N(tick)
	for now := start; now < c.end; now = task.Now() {
		if now >= nextTick {
			nextTick = now + tick
			c.check(w.Tick(w.holder, now))
			w.ticked, w.thawing = now, w.thawing && now-w.ticked > second
		}
		if now < c.fullAt {
			c.leave(w, now)
		}
		c.enter(w, now, rng)
		task.Sleep(min(nextTick, now+rng.Int64N(10*millisecond)))
	}
}

func (c *contest) enter(w *peer, now int64, rng *rand.Rand) {
	tries := 1 + rng.IntN(3)
	if now >= c.fullAt {
		tries = 1000
	}
	for range tries {
		v, err := w.Enter(w.holder, c.threshold, now)
		c.check(err)
		if !v.OK {
			c.refused++
			return
		}
		c.entered++
		w.ends = append(w.ends, now+rng.Int64N(c.longest))
		if got := c.inFlight(); got > c.threshold && !w.thawing {
			c.t.Errorf("at %d ms %d in flight: %v", (now-start)/millisecond, got, c)
		}
	}
}

func (c *contest) leave(w *peer, now int64) {
	for i := 0; i < len(w.ends); {
		if w.ends[i] > now {
			i++
			continue
		}
		w.ends = append(w.ends[:i], w.ends[i+1:]...)
		c.check(w.Exit(now))
	}
}

var errHost = errors.New("the host fails")

func (c *contest) check(err error) {
	if err != nil && !errors.Is(err, errHost) {
		c.t.Errorf("%v: %v", err, c)
	}
}

func (c *contest) disturb() {
	rng, now := c.sim.Rand, c.sim.Now()
	if rng.IntN(100) == 0 {
		c.sim.Advance(rng.Int64N(millisecond / 4))
	}
	if now >= c.calmAt {
		for _, w := range c.tasks {
			w.Fail(nil)
		}
		return
	}
	i := rng.IntN(len(c.workers))
	w, task := c.workers[i], c.tasks[i]
	switch {
	case w == nil:
	case c.stall > 0 && rng.IntN(1000) == 0:
		c.freeze(w, task)
	case c.deaths && rng.IntN(5000) == 0 && len(c.sim.Live()) > 1:
		c.sim.Kill(task)
		w.dead = true
	case c.faults && rng.IntN(200) == 0:
		task.Fail(errHost)
	case c.faults && rng.IntN(20) == 0:
		task.Fail(nil)
	case c.garbage && rng.IntN(5000) == 0:
		c.sim.Corrupt(func(_ string, value []byte) ([]byte, bool) { return value[:rng.IntN(len(value)+1)], true })
	}
}

// freeze stalls a worker, unless it has not ticked since it was stalled last: what counts is how long it was silent.
func (c *contest) freeze(w *peer, task *memhost.Task) {
	now := c.sim.Now()
	if now-w.ticked > 2*tick {
		return
	}
	d := c.rng.Int64N(c.stall)
	c.sim.Stall(task, d)
	w.thawing = w.thawing || d > 1500*millisecond
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

// After whatever has happened, all workers that live can together use exactly the threshold again, TTL later.
func (c *contest) mustBeFull() {
	if c.t.Failed() {
		return
	}
	var got int64
	live := 0
	for _, w := range c.workers {
		if !w.dead {
			got += int64(len(w.ends))
			live++
		}
	}
	if got != c.threshold {
		c.t.Errorf("%d in flight at the end, in %d workers that lived: %v", got, live, c)
	}
	if c.refused == 0 || c.entered == 0 {
		c.t.Errorf("%d entered and %d were refused: nothing was tried: %v", c.entered, c.refused, c)
	}
}

func TestNeverAboveAndFullAgain(t *testing.T) {
	for name, disturb := range map[string]func(*contest){
		"calm":        func(*contest) {},
		"stalls":      func(c *contest) { c.stall = 1500 * millisecond },
		"deaths":      func(c *contest) { c.deaths = true },
		"both":        func(c *contest) { c.stall, c.deaths = 1500*millisecond, true },
		"frozen":      func(c *contest) { c.stall, c.deaths = 5*second, true },
		"host faults": func(c *contest) { c.faults, c.deaths = true, true },
		"garbage":     func(c *contest) { c.garbage = true },
	} {
		t.Run(name, func(t *testing.T) {
			trySeeds(t, 8, func(t *testing.T, seed uint64) {
				c := newContest(t, seed)
				disturb(c)
				c.fullAt += c.stall // who has stood still watches for TTL before it calls another dead
				c.end += c.stall
				c.run()
				c.mustBeFull()
			})
		})
	}
}

// With demand above the threshold nearly all of it is in use all the time, however many workers share it.
func TestFullUse(t *testing.T) {
	trySeeds(t, 5, func(t *testing.T, seed uint64) {
		c := newContest(t, seed)
		c.threshold = []int64{20, 100, 300}[c.rng.IntN(3)]
		c.longest = 2 * second
		var used, looked int64
		c.sim.Go(func(task *memhost.Task) {
			for now := start + 500*millisecond; now < c.calmAt; now += millisecond {
				task.Sleep(now)
				used, looked = used+c.inFlight(), looked+1
			}
		})
		for i := range c.workers {
			c.tasks = append(c.tasks, c.sim.Go(func(task *memhost.Task) {
				w := newPeer(task.Worker, i)
				c.workers[i] = w
				rng := rand.New(rand.NewPCG(uint64(i), seed))
				nextTick := start + rng.Int64N(tick)
				for now := start; now < c.calmAt; now = task.Now() {
					if now >= nextTick {
						nextTick = now + tick
						c.check(w.Tick(w.holder, now))
					}
					c.leave(w, now)
					c.enter(w, now, rng)
					task.Sleep(now + rng.Int64N(2*millisecond))
				}
			}))
		}
		defer c.sim.Close()
		for c.sim.Step() && !t.Failed() {
		}
		if share := float64(used) / float64(looked*c.threshold); share < 0.99 {
			t.Errorf("%.2f %% of the threshold was used: %v", 100*share, c)
		}
	})
}

// calls counts what a worker asks of its host.
type calls struct{ n int }

func (c *calls) worker(p *memhost.Process) *memhost.Worker { return p.Worker(func() { c.n++ }) }

func TestFarFromTheThresholdEnteringIsFree(t *testing.T) {
	var asked calls
	p := memhost.NewProcess(start)
	w := newPeer(asked.worker(p), 0)
	serve := func() {
		for range 10 {
			if v, err := w.Enter(w.holder, 1000, p.Now()); err != nil || !v.OK {
				t.Fatal(v, err)
			}
		}
		for range 10 {
			if err := w.Exit(p.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !w.enter(t, 1000, p.Now()) {
		t.Fatal("refused")
	}
	serve()
	before := asked.n
	serve()
	if asked.n != before {
		t.Errorf("ten entries within the lease asked the host %d times", asked.n-before)
	}
	if w.exit(t, p.Now()); w.Holding() {
		t.Error("an idle worker holds a lease")
	}
}

func TestNearTheThresholdAnExitIsFreeForOthersAtOnce(t *testing.T) {
	p := memhost.NewProcess(start)
	a, b := newPeer(p.Worker(nil), 0), newPeer(p.Worker(nil), 1)
	for i := range 20 {
		from, to := a, b
		if i%2 == 1 {
			from, to = b, a
		}
		if v, err := from.Enter(from.holder, 1, p.Now()); err != nil || !v.OK {
			t.Fatalf("entry %d of a sequence was refused: %+v, %v", i, v, err)
		}
		if v, err := to.Enter(to.holder, 1, p.Now()); err != nil || v.OK || v.InFlight != 1 {
			t.Fatalf("a second entry: %+v, %v", v, err)
		}
		if err := from.Exit(p.Now()); err != nil {
			t.Fatal(err)
		}
		p.Advance(2 * millisecond) // a refusal is remembered for one
	}
}

func TestDeadWorkersEntriesAreBackAfterTTL(t *testing.T) {
	p := memhost.NewProcess(start)
	dead, b := newPeer(p.Worker(nil), 0), newPeer(p.Worker(nil), 1)
	for range 3 {
		if v, err := dead.Enter(dead.holder, 3, p.Now()); err != nil || !v.OK {
			t.Fatal(v, err)
		}
	}
	died := p.Now()
	for p.Now() <= died+worker.TTL {
		pass(t, p, tick, b)
		if v, err := b.Enter(b.holder, 3, p.Now()-tick); err != nil || v.OK {
			t.Fatalf("%d ms after the death: %+v, %v", (p.Now()-died)/millisecond, v, err)
		}
	}
	if v, err := b.Enter(b.holder, 3, p.Now()); err != nil || !v.OK {
		t.Errorf("after TTL: %+v, %v", v, err)
	}
}

// A worker that was only slow counts again what it has, and nobody enters until all have room.
func TestSlowWorkerRegistersAgain(t *testing.T) {
	for _, byTick := range []bool{true, false} {
		p := memhost.NewProcess(start)
		slow, b := newPeer(p.Worker(nil), 0), newPeer(p.Worker(nil), 1)
		enter := func(w *peer) bool {
			v, err := w.Enter(w.holder, 3, p.Now())
			if err != nil {
				t.Fatal(err)
			}
			p.Advance(2 * millisecond)
			return v.OK
		}
		for range 3 {
			if !enter(slow) {
				t.Fatal("refused")
			}
		}
		pass(t, p, worker.TTL+tick, b)
		for range 2 {
			if !enter(b) {
				t.Fatal("what the silent worker had was not given back")
			}
		}
		if byTick {
			if err := slow.Tick(slow.holder, p.Now()); err != nil {
				t.Fatal(err)
			}
		}
		for i, w := range []*peer{slow, b, slow} { // 5 in flight, then 4, then 3
			if enter(slow) || enter(b) {
				t.Fatalf("with %d in flight another entered", 5-i)
			}
			if err := w.Exit(p.Now()); err != nil {
				t.Fatal(err)
			}
		}
		if !enter(b) || enter(slow) {
			t.Error("with 2 of 3 in flight not exactly one entered")
		}
	}
}

// A process that stands still, as by SIGSTOP, keeps the threshold, whoever wakes first and however long it stood.
func TestAProcessThatStandsStillKeepsTheThreshold(t *testing.T) {
	for _, still := range []int64{worker.TTL / 2, worker.TTL + 1, 5 * second, 3600 * second} {
		for _, tickFirst := range []bool{true, false} {
			p := memhost.NewProcess(start)
			a, b, young := newPeer(p.Worker(nil), 0), newPeer(p.Worker(nil), 1), newPeer(p.Worker(nil), 2)
			for range 3 {
				if !a.enter(t, 3, p.Now()) {
					t.Fatal("refused")
				}
			}
			pass(t, p, 3*second, a, b)
			p.Advance(still)
			if tickFirst {
				pass(t, p, tick, b, young)
			}
			for end := p.Now() + worker.TTL/2; p.Now() < end; { // a wakes late
				if b.enter(t, 3, p.Now()) || young.enter(t, 3, p.Now()) {
					t.Fatalf("%d ms after a pause of %d ms a fourth of 3 entered", (p.Now()+worker.TTL/2-end)/millisecond, still/millisecond)
				}
				pass(t, p, tick, b, young)
			}
			pass(t, p, 2*worker.TTL, a, b, young)
			if b.enter(t, 3, p.Now()) {
				t.Error("long after a pause a fourth of 3 entered")
			}
			pass(t, p, worker.TTL+second, b, young) // now a is dead
			if !b.enter(t, 3, p.Now()) {
				t.Error("what a dead worker had is not given back after a pause")
			}
		}
	}
}

// With nothing in flight one worker gets all of the threshold at once, however many others have just been busy; and with
// others busy, all that they leave, but for the sixteenth that they may hold until their next tick.
func TestWhatIsFreeCanBeHadByWhoeverAsks(t *testing.T) {
	seeds.Try(t, 150, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0x8))
		p := memhost.NewProcess(start)
		threshold := int64(1 + rng.IntN([]int{10, 100, 1000, 3000}[rng.IntN(4)]))
		var all []*peer
		for i := range []int{1, 4, 16, 64, 256}[rng.IntN(5)] {
			all = append(all, newPeer(p.Worker(nil), i))
		}
		busy := int64(0)
		for range 4 * len(all) {
			w := all[rng.IntN(len(all))]
			for range 1 + rng.IntN(8) {
				if w.enter(t, threshold, p.Now()) {
					busy++
				}
			}
			for w.InFlight() > 0 && rng.IntN(4) > 0 {
				busy--
				w.exit(t, p.Now())
			}
			pass(t, p, rng.Int64N(millisecond), all[rng.IntN(len(all))])
		}
		burst := func(want, most int64) {
			t.Helper()
			p.Advance(2 * millisecond) // a refusal is remembered for one
			got, w := int64(0), all[rng.IntN(len(all))]
			for w.enter(t, threshold, p.Now()) {
				got++
			}
			if got < want || got > most {
				t.Errorf("%d workers, threshold %d, %d in flight: one gets %d, want %d to %d", len(all), threshold, busy, got, want, most)
			}
			for range got {
				w.exit(t, p.Now())
			}
		}
		burst(threshold-busy-threshold/16, threshold-busy)
		pass(t, p, 2*tick, all...)
		burst(threshold-busy, threshold-busy)
		for _, w := range all {
			for w.InFlight() > 0 {
				busy--
				w.exit(t, p.Now())
			}
		}
		burst(threshold, threshold)
	})
}

// Workers that entries come to, and do not leave, fill the threshold exactly, in whatever order they come.
func TestWhoOnlyEntersKeepsNothingFromOthers(t *testing.T) {
	seeds.Try(t, 100, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0x9))
		p := memhost.NewProcess(start)
		threshold := 1 + rng.IntN([]int{10, 100, 1000, 3000}[rng.IntN(4)])
		var all []*peer
		for i := range []int{1, 4, 16, 64, 256}[rng.IntN(5)] {
			all = append(all, newPeer(p.Worker(nil), i))
		}
		for i := range threshold {
			if !all[rng.IntN(len(all))].enter(t, int64(threshold), p.Now()) {
				t.Fatalf("%d workers: %d of %d entered", len(all), i, threshold)
			}
		}
		if all[rng.IntN(len(all))].enter(t, int64(threshold), p.Now()) {
			t.Errorf("more than %d entered", threshold)
		}
	})
}

// exit ends an entry on a host that does not fail.
func (w *peer) exit(t *testing.T, now int64) {
	t.Helper()
	if err := w.Exit(now); err != nil {
		t.Fatal(err)
	}
}

func TestLowerThresholdHoldsAtOnce(t *testing.T) {
	p := memhost.NewProcess(start)
	w := newPeer(p.Worker(nil), 0)
	for range 10 {
		if v, err := w.Enter(w.holder, 1000, p.Now()); err != nil || !v.OK {
			t.Fatal(v, err)
		}
	}
	if v, err := w.Enter(w.holder, 10, p.Now()); err != nil || v.OK {
		t.Errorf("with 10 in flight an entry under a threshold of 10: %+v, %v", v, err)
	}
	if v, err := w.Enter(w.holder, 11, p.Now()); err != nil || !v.OK {
		t.Errorf("with 10 in flight an entry under a threshold of 11: %+v, %v", v, err)
	}
}

// A worker that has a new identity takes its lease along.
func TestNewIdentityCountsOnce(t *testing.T) {
	p := memhost.NewProcess(start)
	a, b := newPeer(p.Worker(nil), 0), newPeer(p.Worker(nil), 1)
	if v, err := a.Enter(a.holder, 2, p.Now()); err != nil || !v.OK {
		t.Fatal(v, err)
	}
	a.holder.Epoch++
	if err := a.Tick(a.holder, p.Now()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		if v, err := b.Enter(b.holder, 2, p.Now()); err != nil || v.OK != want {
			t.Errorf("entry %d of another: %+v, %v", i, v, err)
		}
	}
}

// The record stays within its bound and no epoch is let in beyond the threshold, however many workers come and go.
func TestRecordIsBounded(t *testing.T) {
	p := memhost.NewProcess(start)
	entered := 0
	for i := range 2 * isolation.MaxLeases {
		w := newPeer(p.Worker(nil), i)
		v, err := w.Enter(w.holder, 1<<20, p.Now())
		if err != nil {
			t.Fatal(err)
		}
		if v.OK {
			entered++
		}
	}
	if _, bytes := p.Keys(); entered != isolation.MaxLeases || bytes > 64<<10 {
		t.Errorf("%d workers entered, shared data is %d bytes", entered, bytes)
	}
}

// enter is an entry that no host fails.
func (w *peer) enter(t *testing.T, threshold, now int64) bool {
	t.Helper()
	v, err := w.Enter(w.holder, threshold, now)
	if err != nil {
		t.Fatal(err)
	}
	return v.OK
}

// What a worker has to spare is not spent after others may have dropped it.
func TestSlowWorkerDoesNotSpendAnOldLease(t *testing.T) {
	p := memhost.NewProcess(start)
	slow, b := newPeer(p.Worker(nil), 0), newPeer(p.Worker(nil), 1)
	for range 10 {
		slow.enter(t, 100, p.Now())
	}
	for range 5 {
		if err := slow.Exit(p.Now()); err != nil {
			t.Fatal(err)
		}
	}
	pass(t, p, worker.TTL+2*tick, b)
	for range 100 {
		if !b.enter(t, 100, p.Now()) {
			t.Fatal("what the silent worker had was not given back")
		}
	}
	if slow.enter(t, 100, p.Now()) {
		t.Error("a worker that was silent for TTL entered at once")
	}
}

// Entries that last are counted although their worker does nothing but tick, and then for most of TTL not even that.
func TestLongEntriesAreRenewed(t *testing.T) {
	p := memhost.NewProcess(start)
	a, b := newPeer(p.Worker(nil), 0), newPeer(p.Worker(nil), 1)
	if !a.enter(t, 1, p.Now()) {
		t.Fatal("refused")
	}
	for i := range 100 {
		for range i { // so that the silence begins at any age of the lease
			p.Advance(tick)
			if err := a.Tick(a.holder, p.Now()); err != nil {
				t.Fatal(err)
			}
		}
		if p.Advance(1500 * millisecond); b.enter(t, 1, p.Now()) {
			t.Fatal("an entry was no longer counted")
		}
		if err := a.Tick(a.holder, p.Now()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOwnExitEndsARefusal(t *testing.T) {
	p := memhost.NewProcess(start)
	a := newPeer(p.Worker(nil), 0)
	for range 5 {
		if !a.enter(t, 1, p.Now()) || a.enter(t, 1, p.Now()) {
			t.Fatal("not exactly one entered")
		}
		if err := a.Exit(p.Now()); err != nil {
			t.Fatal(err)
		}
	}
}

// A worker that read the clock long before its turn came leases from now on, not from then.
func TestStampIsNotOlderThanTheRecord(t *testing.T) {
	p := memhost.NewProcess(start)
	a, b, c := newPeer(p.Worker(nil), 0), newPeer(p.Worker(nil), 1), newPeer(p.Worker(nil), 2)
	early := p.Now()
	p.Advance(1500 * millisecond)
	if !a.enter(t, 2, p.Now()) || !b.enter(t, 2, early) {
		t.Fatal("refused")
	}
	if p.Advance(1500 * millisecond); c.enter(t, 2, p.Now()) {
		t.Error("an entry was counted for less than TTL")
	}
}
