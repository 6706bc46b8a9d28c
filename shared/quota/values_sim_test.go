package quota_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/quota"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rls"
	"sentinel-envoy/shared/rls/rlstest"
	"sentinel-envoy/shared/rule"
)

// valueWorld is a world in which each of some values has the limit.
type valueWorld struct {
	*world
	values   int
	byValue  map[valueWindow]int64
	pages    uint64 // values that share a page, where few pages are used
	fallback int
}

type valueWindow struct{ value, window int64 }

// hash is that of a value: with few pages, of many values that fight for their places.
func (w *valueWorld) hash(value int64) uint64 {
	h := uint64(value+1) * 0x9e3779b97f4a7c15
	if w.pages > 0 {
		return h&0xffffffff | (h >> 32 % w.pages << 55)
	}
	return h
}

func simulateValues(t *testing.T, seed uint64, s scenario, values int, pages uint64, duration int64) *valueWorld {
	t.Helper()
	w := &valueWorld{
		world:  &world{scenario: s, Sim: memhost.NewSim(seed, 1000*second), admitted: map[int64]int64{}, service: rlstest.New(nil)},
		values: values, pages: pages, byValue: map[valueWindow]int64{},
	}
	defer w.Close()
	w.service.Any = s.limit
	w.offset = 3596*second + w.Rand.Int64N(4*second) - w.Now()%(60*second)
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

// asking is a request that waits.
type asking struct{ value, since int64 }

func (w *valueWorld) serve(t *testing.T, task *memhost.Task, process, index int, end int64) {
	rng := rand.New(rand.NewPCG(uint64(process<<16|index), uint64(w.offset)))
	box := &inbox{world: w.world, task: task, rand: rng}
	task.Serve(box.call)
	fault := func(what string, err error) { t.Errorf("%s: %v", what, err) }
	quotas := quota.NewQuotas(task, record.NewTable(task), fault)
	limits := quotas.AcquireValues(rule.RateLimitService{Cluster: "rls", Domain: "sentinel", TimeoutMs: 50}, "r", []rls.Entry{{Key: "rule", Value: "r"}})
	now := task.Now()
	nextTick, arrival := now+rng.Int64N(tick), w.after(process, now, rng)
	var waiting []asking
	for now < end {
		wake := box.next(min(nextTick, arrival))
		if len(waiting) > 0 {
			wake = min(wake, now+quota.LookAgain)
		}
		task.Sleep(wake)
		now = task.Now()
		box.deliver(now)
		if now >= nextTick {
			quotas.Tick(now)
			nextTick = now + tick
		}
		kept := waiting[:0]
		for _, a := range waiting {
			if now-a.since < 50*millisecond && w.take(t, limits, a.value, true, now) {
				kept = append(kept, a)
			}
		}
		waiting = kept
		if now >= arrival {
			if value := rng.Int64N(int64(w.values)); w.take(t, limits, value, false, now) {
				waiting = append(waiting, asking{value, now})
			}
			arrival = w.after(process, arrival, rng)
		}
	}
}

func (w *valueWorld) take(t *testing.T, limits *quota.Values, value int64, again bool, now int64) (waits bool) {
	hash := w.hash(value)
	v, err := limits.Take(hash, fmt.Sprint("user-", value), again, now)
	if err != nil {
		t.Error(err)
	}
	switch v.Outcome {
	case quota.Pass:
		if w.Rand.IntN(20) == 0 { // a later rule refuses
			if err := limits.GiveBack(hash, v.Window, now); err != nil {
				t.Error(err)
			}
			break
		}
		w.byValue[valueWindow{value, w.window(v.At)}]++
	case quota.Down:
		w.fallback++
	}
	return v.Outcome == quota.Pending
}

// No value gets more than its limit in a window of the service's, over all processes, also where so many values fight for their
// places that most are forgotten at once.
func TestNoValueOver(t *testing.T) {
	admitted, full := int64(0), 0
	seeds.Try(t, 40, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 2))
		s := draw(rng)
		values := []int{1, 5, 40, 400}[rng.IntN(4)]
		s.demand = min(s.demand*float64(values), 1000)
		pages := []uint64{0, 1, 3}[rng.IntN(3)]
		w := simulateValues(t, seed, s, values, pages, 3*second)
		for at, n := range w.byValue {
			if admitted += n; n > int64(w.limit.Hits) {
				t.Errorf("%v, %d values in %d pages: admitted %d of %d for value %d in window %d", w.scenario, values, pages, n, w.limit.Hits, at.value, at.window)
			}
		}
		if pages == 1 && values > 16 {
			full++
		}
	})
	if seeds.Complete() && (admitted < 1000 || full == 0) {
		t.Errorf("%d admitted, %d with more values than there is room for: nothing was tried", admitted, full)
	}
}

// A few users who ask for more than they may, on two processes, get nearly all they may.
func TestValuesHardlyUnder(t *testing.T) {
	s := scenario{
		processes: 2, workers: 4, demand: 1200, flight: 2 * millisecond,
		limit: rlstest.Limit{Hits: 20, Unit: ratelimit.RateLimitResponse_RateLimit_SECOND},
	}
	seeds.Sample(t, 3, func(t *testing.T, seed uint64) {
		w := simulateValues(t, seed, s, 30, 0, 7*second)
		first := w.window(1000 * second)
		var sum int64
		for at, n := range w.byValue {
			if at.window >= first+2 && at.window < first+6 {
				sum += n
			}
		}
		if want := int64(4 * 30 * 20); sum < want*90/100 || w.fallback > 0 { // one in 20 permits comes back late
			t.Errorf("admitted %d of %d, %d fell back", sum, want, w.fallback)
		}
		t.Logf("admitted %d, %d calls", sum, w.service.Calls)
	})
}

// A host lends the text of a value for one callback: a call that is made in a later one must still be for that value.
func TestValuesOutliveTheirText(t *testing.T) {
	process := memhost.NewProcess(1000 * second)
	service := rlstest.New(nil)
	service.Any = rlstest.Limit{Hits: 1000, Unit: ratelimit.RateLimitResponse_RateLimit_HOUR}
	w := process.Worker(nil)
	var answers []func()
	w.Serve(func(_, _, _ string, message []byte, _ uint32, answered func([]byte, error)) error {
		reply, err := service.ShouldRateLimit(message, 1000, 1000)
		answers = append(answers, func() { answered(reply, err) })
		return nil
	})
	quotas := quota.NewQuotas(w, record.NewTable(w), func(what string, err error) { t.Errorf("%s: %v", what, err) })
	limits := quotas.AcquireValues(rule.RateLimitService{Cluster: "rls", Domain: "d", TimeoutMs: 50}, "r", []rls.Entry{{Key: "rule", Value: "r"}})
	for range 40 {
		for hash, value := range []string{"alice", "bobby"} {
			lent := []byte(value)
			if _, err := limits.Take(uint64(hash+1)<<40, unsafe.String(&lent[0], len(lent)), false, process.Now()); err != nil {
				t.Fatal(err)
			}
			copy(lent, "?????")
		}
		for ; len(answers) > 0; answers = answers[1:] {
			answers[0]()
		}
		process.Advance(20 * millisecond)
	}
	if n := service.Counted("rule=r;value=?????", 0); n > 0 {
		t.Errorf("%d hits for another value", n)
	}
	if service.Counted("rule=r;value=alice", 0) < 10 || service.Counted("rule=r;value=bobby", 0) < 10 {
		t.Error("the values are not asked for")
	}
}

// What the service cannot read, or clients make long, has a name that it can.
func TestNamesOfValues(t *testing.T) {
	for value, want := range map[string]string{
		"": "", "alice": "alice", "数": "数", strings.Repeat("a", 128): strings.Repeat("a", 128),
		"\xff": "md5:00594fd4f42ba43fc1ca0427a0576295", strings.Repeat("a", 129): "md5:",
	} {
		if got := quota.Name(value); got != want && !(strings.HasSuffix(want, ":") && strings.HasPrefix(got, want) && len(got) == 36) {
			t.Errorf("%q is %q, want %q", value, got, want)
		}
	}
}
