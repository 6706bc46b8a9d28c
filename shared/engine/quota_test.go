package engine_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/request/requesttest"
)

// quotasOf are what an entry is told.
func quotasOf(e *engine.Entry, now int64) []family.Quota { return e.Quotas(nil, now) }

// Whatever order the workers run in, what a client is told is left is there at the time at which it is looked for: of the
// threshold less all that was let in by then.
func TestQuotasNeverPromiseMoreThanThereIs(t *testing.T) {
	told, most := 0, 0
	seeds.Try(t, 150, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 3))
		workers, threshold := 1+rng.IntN(8), 1+rng.IntN(300)
		interval := []uint32{1000, 2000, 700, 60000}[rng.IntN(4)]
		c := tried(t, fmt.Sprintf(`"rate_limit_headers": "draft_11", "flowRules": [{"id": "f", "resource": "r", "threshold": %d, "statIntervalInMs": %d}]`,
			threshold, interval))
		sim := memhost.NewSim(seed, start+rng.Int64N(second))
		defer sim.Close()
		ta := newTally(interval)
		pause := millisecond / (1 + rng.Int64N(20))
		for range workers {
			sim.Go(func(task *memhost.Task) {
				vm := engine.New(task, "test")
				f := vm.NewFilter("sentinel_http", c, nil)
				next := task.Now() + rng.Int64N(tick)
				for range 150 {
					if now := task.Now(); now >= next {
						vm.Tick(now)
						next = now + tick
					}
					var e engine.Entry
					now := task.Now()
					if f.Enter("r", now, &e) == nil {
						ta.add(e.DecidedAt()[0])
						e.Finish(now, false)
					}
					now = task.Now()
					bucket := ta.window.Bucket(now)
					there := int64(threshold) - ta.sum(bucket) // it may only become less while the record is read
					quotas := quotasOf(&e, now)
					if len(quotas) != 1 || quotas[0].Limit != int64(threshold) {
						t.Fatalf("told %+v", quotas)
					}
					if ta.window.Bucket(task.Now()) != bucket {
						continue // another window has begun meanwhile
					}
					told++
					if q := quotas[0]; q.Left > there {
						t.Errorf("%d workers, %d in %d ms: told %d, and %d are left", workers, threshold, interval, q.Left, there)
					} else if q.Left*2 >= there {
						most++
					}
					task.Sleep(now + rng.Int64N(2*pause+1))
				}
			})
		}
		for sim.Step() {
			if sim.Rand.IntN(50) == 0 {
				sim.Advance(sim.Rand.Int64N(millisecond / 8))
			}
		}
	})
	if most < told*3/4 {
		t.Errorf("in %d of %d times at least half of what was left was told", most, told)
	}
}

// When a client is told that all is back, it is; and what it is told is left, it gets, of flow rules and of values.
func TestQuotasAreKept(t *testing.T) {
	seeds.Try(t, 100, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 4))
		threshold := 1 + rng.IntN(200)
		rules := []string{
			fmt.Sprintf(`"flowRules": [{"id": "f", "resource": "r", "threshold": %d, "statIntervalInMs": %d}]`, threshold, []int{1000, 700, 5000}[rng.IntN(3)]),
			fmt.Sprintf(`"hotspotRules": [{"id": "f", "resource": "r", "metricType": "QPS", "paramSource": "Host", "threshold": %d, "durationInSec": 2,
				"burstCount": %d}]`, threshold, rng.IntN(2)*rng.IntN(100)),
		}[seed%2]
		w := newProcess(1+rng.IntN(4), tried(t, `"rate_limit_headers": "draft_11", `+rules))
		for _, wk := range w.workers {
			wk.http.Stream.Of(&requesttest.Client{Headers: map[string]string{":authority": "h"}})
		}
		w.run(rng.Int64N(second))
		one := func() *engine.Filter { return w.workers[rng.IntN(len(w.workers))].http }
		for range 1 + rng.IntN(4) {
			admit(one(), rng.IntN(threshold+5), w.Now())
			w.run(rng.Int64N(second))
		}
		w.run(3 * tick) // what was reserved is back
		var e engine.Entry
		f := one()
		f.Enter("r", w.Now(), &e)
		e.Finish(w.Now(), false)
		q := quotasOf(&e, w.Now())
		if len(q) != 1 || q[0].Left > q[0].Limit || q[0].ResetMs <= 0 {
			t.Fatalf("%s: told %+v", rules, q)
		}
		if left := q[0].Left; rng.IntN(2) == 0 {
			if got := admit(f, int(q[0].Limit)+5, w.Now()); int64(got) != left {
				t.Errorf("%s: told %+v, and %d are let in", rules, q, got)
			}
			return
		}
		w.run(q[0].ResetMs * millisecond)
		if got := admit(one(), int(q[0].Limit)+5, w.Now()); int64(got) != q[0].Limit {
			t.Errorf("%s: told %+v, and then %d are let in", rules, q, got)
		}
	})
}

// A client is told of what refuses, once a rule, what ends first before the rest; not of what does not bind it.
func TestQuotasOfSeveralRules(t *testing.T) {
	w := newProcess(1, tried(t, `"rate_limit_headers": "draft_03", "flowRules": [
		{"id": "minute", "resource": "r", "threshold": 5, "statIntervalInMs": 60000, "candidateThreshold": [9]},
		{"id": "second", "resource": "r", "threshold": 3},
		{"id": "shadowed", "resource": "r", "threshold": 1, "mode": "shadow"},
		{"id": "annotated", "resource": "r", "threshold": 1, "action": "annotate"},
		{"id": "paced", "resource": "r", "threshold": 1000, "controlBehavior": "Throttling", "maxQueueingTimeMs": 1000}],
		"hotspotRules": [{"id": "user", "resource": "r", "metricType": "QPS", "paramSource": "Header", "paramKey": "x-user", "threshold": 2, "durationInSec": 60}]`))
	f := w.workers[0].http
	for i, c := range []struct {
		users []string
		want  string
	}{
		{[]string{"a"}, "user 1/2 second 2/3 minute 4/5 "},
		{[]string{"b", "a"}, "user 0/2 second 1/3 minute 3/5 "},
		{[]string{"a"}, "user 0/2 second 1/3 minute 3/5 "}, // refused: flow's permits are back
		{nil, "second 0/3 minute 2/5 "},                    // of a user that there is none nothing is told
		{nil, "second 0/3 minute 2/5 "},                    // refused by the second
	} {
		client := &requesttest.Client{Headers: map[string]string{}, More: map[string][]string{}}
		if len(c.users) > 0 {
			client.Headers["x-user"], client.More["x-user"] = c.users[0], c.users[1:]
		}
		f.Stream.Of(client)
		var e engine.Entry
		f.Enter("r", w.Now(), &e)
		got := ""
		for _, q := range quotasOf(&e, w.Now()) {
			got += fmt.Sprintf("%s %d/%d ", q.Rule, q.Left, q.Limit)
		}
		if got != c.want {
			t.Errorf("request %d: %s, want %s", i, got, c.want)
		}
		w.Advance(2 * millisecond)
	}
}
