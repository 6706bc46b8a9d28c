package quota_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/quota"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rls"
	"sentinel-envoy/shared/rls/rlstest"
	"sentinel-envoy/shared/rule"
)

const (
	millisecond = int64(time.Millisecond)
	second      = int64(time.Second)
	tick        = 20 * millisecond
	descriptor  = "rule=r"
)

// scenario is one random world: how many processes with how many workers, which limit, what load, which faults.
type scenario struct {
	processes, workers int
	limit              rlstest.Limit
	demand             float64 // requests a second, of all processes
	spread             int     // one of spreads
	deaths, stalls     bool
	// lost and late are shares of the answers.
	lost, late float64
	// flight is the longest that a call takes, in nanoseconds.
	flight int64
}

// How the load lies on the processes.
const (
	evenly = iota
	onOne
	changing
	skewed
	spreads
)

func (s scenario) String() string {
	return fmt.Sprintf("%d processes of %d workers, %d in %d s, demand %.0f/s, spread %d, deaths %t, stalls %t, lost %.2f, late %.2f, flight %v",
		s.processes, s.workers, s.limit.Hits, s.limit.Seconds(), s.demand, s.spread, s.deaths, s.stalls, s.lost, s.late, time.Duration(s.flight))
}

func draw(r *rand.Rand) scenario {
	s := scenario{
		processes: 1 + r.IntN(16), workers: 1 + r.IntN(64),
		limit: rlstest.Limit{
			Hits: []uint32{1, 3, 20, 100, 1000}[r.IntN(5)], Unit: ratelimit.RateLimitResponse_RateLimit_SECOND,
		},
		spread: r.IntN(spreads), deaths: r.IntN(2) == 0, stalls: r.IntN(2) == 0,
		flight: []int64{millisecond, 5 * millisecond, 30 * millisecond}[r.IntN(3)],
	}
	if s.processes*s.workers > 64 { // more is the same, and takes long
		s.workers = max(64/s.processes, 1)
	}
	if r.IntN(3) == 0 {
		s.limit.Unit = ratelimit.RateLimitResponse_RateLimit_MINUTE
		s.limit.Hits = []uint32{1, 60, 1000}[r.IntN(3)]
	}
	if r.IntN(2) == 0 {
		s.lost, s.late = 0.2*r.Float64(), 0.2*r.Float64()
	}
	s.demand = float64(s.limit.Hits) * []float64{0.3, 1, 2, 5}[r.IntN(4)]
	if s.limit.Unit == ratelimit.RateLimitResponse_RateLimit_MINUTE {
		s.demand /= 4 // the run has a few seconds of each of two
	}
	return s
}

// world is a scenario while it runs: a service whose clock is not ours, and what was admitted in each of its windows.
type world struct {
	scenario
	*memhost.Sim
	service  *rlstest.Service
	offset   int64 // the service's time is ours and this, in nanoseconds
	admitted map[int64]int64
	// settled are the calls that were made from the fifth second on, when processes know the service's clock and their load.
	settled int
}

func (w *world) seconds(at int64) int64 { return (at + w.offset) / second }

func (w *world) window(at int64) int64 { return w.seconds(at) / w.limit.Seconds() }

// simulate runs a scenario for about the given time.
func simulate(t *testing.T, seed uint64, s scenario, duration int64) *world {
	t.Helper()
	w := &world{
		scenario: s, Sim: memhost.NewSim(seed, 1000*second), admitted: map[int64]int64{},
		service: rlstest.New(map[string]rlstest.Limit{descriptor: s.limit}),
	}
	defer w.Close()
	w.offset = w.Rand.Int64N(3600*second)/(60*second)*60*second - w.Now()%(60*second) + 56*second + w.Rand.Int64N(4*second) // a minute turns while it runs
	end := w.Now() + duration
	for p := range s.processes {
		process := w.Fork()
		for i := range s.workers {
			w.GoIn(process, func(task *memhost.Task) { w.serve(t, task, p, i, end) })
		}
	}
	for w.Step() {
		w.disturb()
	}
	return w
}

// disturb stalls and kills workers now and then.
func (w *world) disturb() {
	if w.Rand.IntN(20_000) != 0 {
		return
	}
	live := w.Live()
	if len(live) < 2 {
		return
	}
	task := live[w.Rand.IntN(len(live))]
	switch {
	case w.stalls && w.Rand.IntN(4) > 0:
		w.Stall(task, w.Rand.Int64N(3*second))
	case w.deaths:
		w.Kill(task)
	}
}

// answer is one that is on its way.
type answer struct {
	at       int64
	message  []byte
	err      error
	answered func([]byte, error)
}

// inbox are the answers to a worker's calls.
type inbox struct {
	world *world
	task  *memhost.Task
	rand  *rand.Rand
	due   []answer
}

var errTimeout = errors.New("status 4")

// call takes a worker's call: the service counts it at some time of its flight, and may read its clock again later.
func (b *inbox) call(_, _, _ string, message []byte, timeoutMs uint32, answered func([]byte, error)) error {
	w := b.world
	now := w.Now()
	if now >= 1005*second {
		w.settled++
	}
	flight := 1 + b.rand.Int64N(w.flight)
	counts := now + b.rand.Int64N(flight)
	tells := counts + b.rand.Int64N(now+flight-counts)
	if b.rand.Float64() < w.late {
		flight += int64(timeoutMs) * millisecond
	}
	reply, err := w.service.ShouldRateLimit(message, w.seconds(counts), w.seconds(tells))
	a := answer{at: now + flight, message: reply, err: err, answered: answered}
	if timeout := int64(timeoutMs) * millisecond; flight > timeout || b.rand.Float64() < w.lost {
		a.at, a.message, a.err = now+timeout, nil, errTimeout
		if b.rand.IntN(4) == 0 {
			return nil // Envoy says nothing: its worker, or the filter that called, has gone
		}
	}
	b.due = append(b.due, a)
	return nil
}

// deliver hands over what has arrived.
func (b *inbox) deliver(now int64) {
	for i := 0; i < len(b.due); i++ {
		if a := b.due[i]; a.at <= now {
			b.due = append(b.due[:i], b.due[i+1:]...)
			a.answered(a.message, a.err)
			i = -1
		}
	}
}

// next is when the first answer arrives, or until.
func (b *inbox) next(until int64) int64 {
	for _, a := range b.due {
		until = min(until, a.at)
	}
	return until
}

// serve is a worker's life: requests at its share of the demand, each of which may wait, a tick every 20 ms, answers.
func (w *world) serve(t *testing.T, task *memhost.Task, process, index int, end int64) {
	rng := rand.New(rand.NewPCG(uint64(process<<16|index), uint64(w.offset)))
	box := &inbox{world: w, task: task, rand: rng}
	task.Serve(box.call)
	fault := func(what string, err error) { t.Errorf("%s: %v", what, err) }
	quotas := quota.NewQuotas(task, record.NewTable(task), fault)
	q := quotas.Acquire(rule.RateLimitService{Cluster: "rls", Domain: "sentinel", TimeoutMs: 50}, "r", []rls.Entry{{Key: "rule", Value: "r"}})
	now := task.Now()
	nextTick, arrival := now+rng.Int64N(tick), w.after(process, now, rng)
	var waiting []pending
	for now < end {
		wake := box.next(min(nextTick, arrival))
		if len(waiting) > 0 {
			wake = min(wake, now+5*millisecond)
		}
		task.Sleep(wake)
		now = task.Now()
		box.deliver(now)
		if now >= nextTick {
			quotas.Tick(now)
			nextTick = now + tick
		}
		kept := waiting[:0]
		for _, p := range waiting {
			if now >= p.until {
				continue // it falls back
			}
			if patience := w.take(t, q, true, now); patience > 0 {
				kept = append(kept, pending{p.since, p.since + patience})
			}
		}
		waiting = kept
		if now >= arrival {
			if patience := w.take(t, q, false, now); patience > 0 {
				waiting = append(waiting, pending{now, now + patience})
			}
			arrival = w.after(process, arrival, rng)
		}
	}
}

// pending is a request that waits, at most until a time.
type pending struct{ since, until int64 }

// take asks for one permit, and tells for how long to wait in all where there is no answer yet.
func (w *world) take(t *testing.T, q *quota.Quota, again bool, now int64) (patience int64) {
	v, err := q.Take(again, now)
	if err != nil {
		t.Error(err)
	}
	if v.Outcome == quota.Pass {
		w.admitted[w.window(v.At)]++
	}
	if v.Outcome == quota.Pending {
		return v.Patience
	}
	return 0
}

// after is when a worker has its next request after that at the time at.
func (w *world) after(process int, at int64, rng *rand.Rand) int64 {
	gap := float64(second) / w.demand * float64(w.workers) / w.share(process)
	next := at + int64(min(gap*2*rng.Float64(), 3600*float64(second)))
	if w.spread != changing {
		return next
	}
	// Time stands still for a process while another one has the load.
	const turn = 170 * millisecond
	round := turn * int64(w.processes)
	start := int64(process) * turn
	active := func(t int64) int64 { return (t-start)/round*turn + min((t-start)%round, turn) }
	a := active(at) + next - at
	return start + a/turn*round + a%turn
}

// share is the part of the load that a process has, while it has any.
func (w *world) share(process int) float64 {
	switch {
	case w.spread == evenly:
		return 1 / float64(w.processes)
	case w.spread == skewed && process == 0:
		return 0.75
	case w.spread == skewed:
		return 0.25 / float64(w.processes-1)
	case w.spread == onOne && process > 0:
		return 1e-9
	}
	return 1
}

// check fails the test where more was admitted in a window of the service's than the limit.
func (w *world) check(t *testing.T) {
	t.Helper()
	for window, n := range w.admitted {
		if n > int64(w.limit.Hits) {
			t.Errorf("%v: admitted %d of %d in window %d", w.scenario, n, w.limit.Hits, window)
		}
	}
}

// Whatever lies between the service and a worker, whoever stalls or dies: no window of the service's admits more than its limit,
// over all processes.
func TestNeverOverAllProcesses(t *testing.T) {
	var admitted, calls int64
	seeds.Try(t, 150, func(t *testing.T, seed uint64) {
		w := simulate(t, seed, draw(rand.New(rand.NewPCG(seed, 1))), 5*second)
		w.check(t)
		for _, n := range w.admitted {
			admitted += n
		}
		calls += int64(w.service.Calls)
	})
	if seeds.Complete() && (admitted == 0 || calls == 0) {
		t.Errorf("%d admitted, %d calls: nothing was tried", admitted, calls)
	}
	t.Logf("%d admitted, %d calls", admitted, calls)
}

// With demand at twice the limit nearly all of it is spent, however the load lies on the processes: of a small limit, too, and
// from the first whole window on of which processes may know when it turns.
func TestHardlyUnder(t *testing.T) {
	for _, limit := range []uint32{30, 100, 1000} {
		for _, processes := range []int{1, 2, 3, 8} {
			for spread := range spreads {
				if processes == 1 && spread != evenly {
					continue
				}
				s := scenario{
					processes: processes, workers: 2, spread: spread, demand: 2 * float64(limit), flight: 2 * millisecond,
					limit: rlstest.Limit{Hits: limit, Unit: ratelimit.RateLimitResponse_RateLimit_SECOND},
				}
				all, early := 0.98, 0.75
				if limit < 100 { // one permit is 3 % of it, and one of each of eight processes a quarter
					all = 0.96 - 0.007*float64(processes)
				}
				if spread == changing { // each process has yet to lose once what it has reserved when its load goes
					all, early = all-0.015, 0.6
				}
				t.Run(s.String(), func(t *testing.T) { hardlyUnder(t, s, all, early) })
			}
		}
	}
}

// hardlyUnder wants that part of the limit to be admitted from the fifth window on, and in the two of the first four that are sure
// to be whole and after a turn that everybody may have seen.
func hardlyUnder(t *testing.T, s scenario, all, early float64) {
	const runs, seconds = 4, 6
	var sum, first, calls int64
	seeds.Sample(t, runs, func(t *testing.T, seed uint64) {
		w := simulate(t, seed, s, (5+seconds)*second)
		w.check(t)
		begun := w.window(1000 * second)
		for i := range int64(seconds) {
			sum += w.admitted[begun+4+i]
		}
		first += w.admitted[begun+1] + w.admitted[begun+2]
		calls += int64(w.settled)
	})
	if !seeds.Complete() {
		return
	}
	limit := runs * float64(s.limit.Hits)
	used, atFirst := float64(sum)/seconds/limit, float64(first)/2/limit
	t.Logf("%.1f %% of the limit, %.1f %% in the first two windows, %.0f calls for 1000 requests", 100*used, 100*atFirst,
		1000*float64(calls)/(s.demand*seconds*runs))
	if used < all || atFirst < early {
		t.Errorf("less than %.0f %%, or than %.0f %% at first", 100*all, 100*early)
	}
}
