package engine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/request/requesttest"
	"sentinel-envoy/shared/rule"
)

// tried is a configuration with a trial, as it is read.
func tried(t *testing.T, doc string) *config.Config {
	t.Helper()
	c, err := config.Parse([]byte(`{"resource_name": "r", `+doc+`}`), config.KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A candidate says of every request what a rule with its threshold would have said, had it been alone: also of those that the
// live rule refuses.
func TestCandidatesAreAsRules(t *testing.T) {
	seeds.Try(t, 60, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		live, candidate := rng.IntN(30), 30+rng.IntN(30)
		if rng.IntN(2) == 0 {
			live, candidate = candidate, live
		}
		more := []string{
			`"flowRules": [{"id": "f", "resource": "r", "threshold": %d, "statIntervalInMs": 1000%s}]`,
			`"flowRules": [{"id": "f", "resource": "r", "threshold": %d, "controlBehavior": "Throttling", "mode": "shadow"%s}]`,
			`"flowRules": [{"id": "f", "resource": "r", "threshold": %d, "statIntervalInMs": 700, "enabledPercent": 40%s}]`,
			`"hotspotRules": [{"id": "f", "resource": "r", "metricType": "QPS", "paramSource": "Host", "threshold": %d, "durationInSec": 1%s}]`,
		}[seed%4]
		kind := "flow"
		if seed%4 == 3 {
			kind = "hotspot"
		}
		workers := 1 + rng.IntN(4)
		both := newProcess(workers, tried(t, fmt.Sprintf(more, live, fmt.Sprintf(`, "candidateThreshold": [%d]`, candidate))))
		alone := newProcess(workers, tried(t, fmt.Sprintf(more, candidate, "")))
		for range 400 {
			i, id := rng.IntN(workers), fmt.Sprint(rng.Uint64())
			for _, p := range []*process{both, alone} {
				f := p.workers[i].http
				f.Stream.Of(&requesttest.Client{Headers: map[string]string{":authority": "h", "x-request-id": id}})
				admit(f, 1, p.Now())
			}
			d := rng.Int64N(8 * millisecond)
			both.run(d)
			alone.run(d)
		}
		both.run(second)
		alone.run(second)
		got, _ := both.Metric(fmt.Sprintf("sentinel_candidate_blocked;resource=r;rule=f@%d;kind=%s", candidate, kind))
		want, _ := alone.Metric("sentinel_blocked;resource=r;rule=f;kind=" + kind)
		shadow, _ := alone.Metric("sentinel_shadow_blocked;resource=r;rule=f;kind=" + kind)
		if got != want+shadow {
			t.Errorf("%s: candidate %d beside %d would have refused %d, alone it refuses %d", more, candidate, live, got, want+shadow)
		}
	})
}

// Whatever order the workers run in, no candidate lets in more than its threshold, nor does the rule beside it.
func TestCandidatesOfInterleavedWorkers(t *testing.T) {
	seeds.Try(t, 100, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 2))
		workers, live, candidate := 1+rng.IntN(8), 1+rng.IntN(60), 61+rng.IntN(60)
		c := tried(t, fmt.Sprintf(`"flowRules": [{"id": "f", "resource": "r", "threshold": %d, "statIntervalInMs": 3600000,
			"candidateThreshold": [%d]}]`, live, candidate))
		sim := memhost.NewSim(seed, start)
		defer sim.Close()
		var asked, admitted int
		for range workers {
			sim.Go(func(task *memhost.Task) {
				vm := engine.New(task, "test")
				f := vm.NewFilter("sentinel_http", c, nil)
				for range 60 {
					asked++
					admitted += admit(f, 1, task.Now())
					task.Sleep(task.Now() + rng.Int64N(2*millisecond))
				}
				for end := task.Now() + 2*second; task.Now() < end; task.Sleep(task.Now() + tick) {
					vm.Tick(task.Now())
				}
			})
		}
		for sim.Step() {
			if sim.Rand.IntN(50) == 0 {
				sim.Advance(sim.Rand.Int64N(millisecond / 4))
			}
		}
		refused, _ := sim.Process.Metric(fmt.Sprintf("sentinel_candidate_blocked;resource=r;rule=f@%d;kind=flow", candidate))
		if admitted != min(live, asked) || asked-int(refused) != min(candidate, asked) {
			t.Errorf("%d workers asked %d times: %d of %d were let in, and the candidate let in %d of %d", workers, asked, admitted, live,
				asked-int(refused), candidate)
		}
	})
}

// A candidate for entries in flight holds no place for what the rule refuses, and gives each back.
func TestCandidatesInFlight(t *testing.T) {
	w := newProcess(2, tried(t, `"isolationRules": [{"id": "i", "resource": "r", "threshold": 2, "candidateThreshold": [1, 3]}]`))
	blocked := func(candidate string) uint64 {
		w.run(second)
		n, _ := w.Metric("sentinel_candidate_blocked;resource=r;rule=i@" + candidate + ";kind=isolation")
		return n
	}
	var entries [3]engine.Entry
	for round := range uint64(3) {
		for i, want := range []bool{true, true, false} {
			if got := w.workers[i%2].http.Enter("r", w.Now(), &entries[i]) == nil; got != want {
				t.Errorf("entry %d is let in: %t", i, got)
			}
		}
		if one, three := blocked("1"), blocked("3"); one != 2*(round+1) || three != 0 {
			t.Errorf("round %d: a threshold of 1 would have refused %d, and one of 3 %d", round, one, three)
		}
		entries[0].Finish(w.Now(), false)
		entries[1].Finish(w.Now(), false)
	}
}

// A rule in shadow refuses nothing, and takes nothing from the others; those refuse as ever.
func TestShadowOfARule(t *testing.T) {
	w := newProcess(2, tried(t, `"flowRules": [
		{"id": "shadowed", "resource": "r", "threshold": 2, "statIntervalInMs": 60000, "mode": "shadow"},
		{"id": "slow", "resource": "r", "threshold": 1, "controlBehavior": "Throttling", "maxQueueingTimeMs": 60000, "mode": "shadow"},
		{"id": "held", "resource": "r", "threshold": 5, "statIntervalInMs": 60000}],
		"isolationRules": [{"id": "none", "resource": "r", "threshold": 1, "mode": "shadow"}]`))
	admitted := admit(w.workers[0].http, 4, w.Now()) + admit(w.workers[1].http, 4, w.Now())
	w.run(second)
	got := fmt.Sprint(admitted)
	for _, name := range []string{"sentinel_shadow_blocked;resource=r;rule=shadowed;kind=flow", "sentinel_blocked;resource=r;rule=shadowed;kind=flow",
		"sentinel_blocked;resource=r;rule=held;kind=flow", "sentinel_shadow_passed;resource=r", "sentinel_passed;resource=r",
		"sentinel_waited;resource=r;rule=slow;kind=flow"} {
		n, _ := w.Metric(name)
		got += fmt.Sprint(" ", n)
	}
	if want := "5 6 0 3 3 5 0"; got != want {
		t.Errorf("let in, and counters: %s, want %s", got, want)
	}
	var e engine.Entry
	if b := w.workers[0].http.Enter("r", w.Now(), &e); b == nil || b.Rule != "held" {
		t.Errorf("refused by %+v, want held", b)
	}
}

// Which requests a rule is tried on, all workers agree about, and each rule has its own share; it is as large as it says.
func TestSharesAreTheSameOnAllWorkers(t *testing.T) {
	w := newProcess(3, tried(t, `"flowRules": [
		{"id": "a", "resource": "r", "threshold": 0, "enforcedPercent": 30},
		{"id": "b", "resource": "/b", "threshold": 0, "enabledPercent": 50},
		{"id": "c", "resource": "/c", "threshold": 0, "enabledPercent": 50, "enforcedPercent": 50},
		{"id": "d", "resource": "/d", "threshold": 0, "enforcedPercent": 0}, {"id": "e", "resource": "/e", "threshold": 0, "enabledPercent": 0}]`))
	refused := map[string]int{}
	const requests = 4000
	same := 0
	for i := range requests {
		client := &requesttest.Client{Headers: map[string]string{}, Properties: map[string]string{"source.address": fmt.Sprint("10.0.0.1:", i)}}
		if i%2 == 0 {
			client.Headers["x-request-id"] = fmt.Sprintf("%08x-0000-4000-8000-000000000000", i)
			client.Properties["source.address"] = "10.0.0.1:1"
		}
		verdicts := map[string]bool{}
		for _, name := range []string{"r", "/b", "/c", "/d", "/e"} {
			for j, wk := range w.workers {
				wk.http.Stream.Of(client)
				var e engine.Entry
				verdict := wk.http.Enter(name, w.Now(), &e) != nil
				e.Finish(w.Now(), false)
				if j > 0 && verdict != verdicts[name] {
					t.Fatalf("workers differ about request %d to %s", i, name)
				}
				verdicts[name] = verdict
			}
			if verdicts[name] {
				refused[name]++
			}
		}
		if verdicts["r"] == verdicts["/b"] {
			same++
		}
	}
	for name, want := range map[string]int{"r": 30, "/b": 50, "/c": 25, "/d": 0, "/e": 0} {
		if got := 100 * float64(refused[name]) / requests; got < float64(want)-4 || got > float64(want)+4 {
			t.Errorf("%s: %.1f %% were refused, want %d", name, got, want)
		}
	}
	if same < 45*requests/100 || same > 55*requests/100 {
		t.Errorf("two rules agree about %d of %d", same, requests)
	}
}

// A fault of a rule that is only tried refuses nothing where the failure mode is closed.
func TestFaultsInATrial(t *testing.T) {
	for doc, want := range map[string]bool{
		`"flowRules": [{"id": "f", "resource": "r", "threshold": 5, "mode": "shadow"}]`:                                      true,
		`"flowRules": [{"id": "f", "resource": "r", "threshold": 5, "action": "annotate"}]`:                                  true,
		`"flowRules": [{"id": "f", "resource": "r", "threshold": 5}]`:                                                        false,
		`"flowRules": [{"id": "f", "resource": "r", "threshold": 5, "mode": "shadow"}, {"resource": "r", "threshold": 1e6}]`: false,
	} {
		w := newProcess(1, tried(t, `"failure_mode": "closed", `+doc))
		w.workers[0].host.Fail(errors.New("injected"))
		var e engine.Entry
		if b := w.workers[0].http.Enter("r", w.Now(), &e); (b == nil) != want {
			t.Errorf("%s: %+v", doc, b)
		}
	}
}

// A rule that annotates lets in what it would refuse, and says so; what it lets in all the same it does not name.
func TestAnnotates(t *testing.T) {
	w := newProcess(1, tried(t, `"flowRules": [{"id": "a", "resource": "r", "threshold": 1, "statIntervalInMs": 60000, "action": "annotate"}],
		"isolationRules": [{"id": "b", "resource": "r", "threshold": 2, "action": "annotate"}],
		"hotspotRules": [{"id": "c", "resource": "r", "metricType": "QPS", "paramSource": "Host", "threshold": 3, "durationInSec": 60}]`))
	f := w.workers[0].http
	f.Stream.Of(&requesttest.Client{Headers: map[string]string{":authority": "h"}})
	var entries [4]engine.Entry
	for i, want := range []string{"[]", "[a]", "[a b]", "refused by c"} {
		f.Stream.Begin()
		got := ""
		if b := f.Enter("r", w.Now(), &entries[i]); b != nil {
			got = "refused by " + b.Rule
		} else {
			got = fmt.Sprint(entries[i].Exceeded())
		}
		if got != want {
			t.Errorf("entry %d: %s, want %s", i, got, want)
		}
	}
	w.run(second)
	if n, _ := w.Metric("sentinel_annotated;resource=r;rule=a;kind=flow"); n != 3 {
		t.Errorf("%d were annotated, want 3", n)
	}
	if !f.Annotates() || rule.Annotate.String() != "annotate" {
		t.Error("the filter does not know that it annotates")
	}
}
