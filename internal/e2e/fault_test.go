package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/plugintest"
	"sentinel-envoy/internal/stall"
	"sentinel-envoy/internal/wasmbuild/build"
)

const (
	faultThreshold = 100
	faultQPS       = 400
	// held is the path, and resource, of requests that the upstream does not answer while a test lasts.
	held = "/held"
	// takeover is what a dead worker may cost the others: 2 s by the design, the rest is for a busy machine.
	takeover = 5 * time.Second
)

// TestWorkerDies makes VMs trap under load, of workers that aggregate and that do not, with each of Envoy's failure
// policies. It is guarantee 5 and, for the VMs that live, guarantee 1. (A VM that FAIL_OPEN bypasses limits nothing: it
// is outside.)
func TestWorkerDies(t *testing.T) {
	for _, policy := range []string{"FAIL_CLOSED", "FAIL_OPEN", "FAIL_RELOAD"} {
		t.Run(policy, func(t *testing.T) { stall.Retry(t, func(t testing.TB) { seeDeaths(t, policy) }) })
	}
}

func seeDeaths(t testing.TB, policy string) {
	web := envoytest.StartHTTPService(t)
	config := `{"resource_name": "web", ` + flowRules(plugintest.PerSecond("web-qps", "web", faultThreshold),
		plugintest.PerSecond("held", held, 1000), plugintest.PerSecond("marker", plugintest.Marker, 1000)) + `}`
	e := start(t, envoytest.Config{LogLevel: "warning", Components: auditing, Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), ExactBalance: true, Timeout: time.Hour, Wasm: []envoytest.Wasm{
			{File: plugintest.File(t, plugintest.Faulty), RootID: "sentinel_http", Config: config, FailurePolicy: policy}}},
	}})
	const each = 3 // lanes to a worker: one for questions, and one for each round
	lanes := plugintest.Lanes(t, e, workers, each)
	background := plugintest.Offer(t, e.Addr("http"), load.Options{QPS: faultQPS, Connections: 16})

	killIdle(t, e, lanes)
	for round, aggregates := range []bool{false, true} {
		leader, term := plugintest.Aggregator(t, e), e.Sum("sentinel_aggregator_term")
		victim := pick(t, lanes, func(thread string) bool { return (thread == leader) == aggregates })
		live := pick(t, lanes, func(thread string) bool { return thread != leader && thread != victim })

		release := hold(t, e, lanes[live][1+round], lanes[victim][1+round])
		waitMetric(t, e, 2, "sentinel_in_flight", "resource", held)
		died := time.Now()
		trap(t, e, lanes[victim][0], policy)
		if aggregates {
			within(t, "another worker aggregates", func() bool { return e.Sum("sentinel_aggregator_term") > term })
		}
		within(t, "what was in flight in the dead VM is back", func() bool {
			return e.Sum("sentinel_in_flight", "resource", held) == 1
		})
		t.Logf("aggregator %v: in flight is back after %v", aggregates, time.Since(died).Round(10*time.Millisecond))
		release()
		within(t, "the snapshot goes on", func() bool {
			return e.Sum("sentinel_in_flight", "resource", held) == 0 && e.Sum("sentinel_pass_qps", "resource", "web") > 0
		})
		if aggregates == false && e.Sum("sentinel_aggregator_term") != term {
			t.Errorf("the aggregator changed though another worker died")
		}
		seeVictim(t, e, lanes[victim][0], victim, policy)
		if policy != "FAIL_RELOAD" {
			delete(lanes, victim)
		}
	}

	sum := background.Stop(t)
	t.Logf("%+v", sum)
	d := audit(t, e, "web-qps")
	d.within(t, faultThreshold)
	waitMetric(t, e, 0, "sentinel_faults")
}

// TestPanicWithoutRecover is what becomes of a fault of ours in the artefact of TinyGo, under the failure policy that the
// examples have: it costs a request and a VM, there is soon a new one, and no window admits too much.
func TestPanicWithoutRecover(t *testing.T) {
	if !plugintest.Tiny() {
		t.Skip("the artefact of Go recovers: TestFailureMode")
	}
	stall.Retry(t, seePanics)
}

func seePanics(t testing.TB) {
	web := envoytest.StartHTTPService(t)
	config := `{"resource_name": "web", ` + flowRules(plugintest.PerSecond("web-qps", "web", faultThreshold),
		plugintest.PerSecond("marker", plugintest.Marker, 1000)) + `}`
	e := start(t, envoytest.Config{LogLevel: "warning", Components: auditing, Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), ExactBalance: true, Wasm: []envoytest.Wasm{{
			File: plugintest.File(t, plugintest.Faulty), RootID: "sentinel_http", Config: config, FailurePolicy: "FAIL_RELOAD"}}},
	}})
	lanes := plugintest.Lanes(t, e, workers, 1)
	background := plugintest.Offer(t, e.Addr("http"), load.Options{QPS: faultQPS, Connections: 16})
	for thread, of := range lanes {
		died := time.Now()
		if status := plugintest.Trap(t, e, of[0], "panic"); status != 503 && status != 0 {
			t.Errorf("the request that kills the VM gives %d", status)
		}
		within(t, "the worker has a new VM that decides", func() bool { return of[0].Thread(t, e) == thread })
		t.Logf("a new VM decides after %v", time.Since(died).Round(10*time.Millisecond))
	}
	after := audit(t, e, "web-qps").newest()
	envoytest.Eventually(t, soon, "the limit is reached again", func() bool {
		d := audit(t, e, "web-qps")
		return d.newest() > after+2 && d.most(after+1) >= faultThreshold*9/10
	})
	t.Logf("%+v", background.Stop(t))
	audit(t, e, "web-qps").within(t, faultThreshold)
	e.WaitLog(soon, "panic: injected")
}

// seeVictim checks what Envoy does with requests on the worker whose VM died.
func seeVictim(t testing.TB, e *envoytest.Envoy, l *plugintest.Lane, thread, policy string) {
	t.Helper()
	switch policy {
	case "FAIL_CLOSED":
		if status := l.Get(t, plugintest.Marker); status != 503 {
			t.Errorf("a request to the dead VM gives %d, want 503", status)
		}
	case "FAIL_OPEN":
		before := len(plugintest.Markers(e))
		if status := l.Get(t, plugintest.Marker); status != 200 {
			t.Errorf("a request past the dead VM gives %d, want 200", status)
		}
		if n := len(plugintest.Markers(e)); n != before {
			t.Errorf("a request past the dead VM was decided by %v", plugintest.Markers(e)[before:])
		}
	case "FAIL_RELOAD":
		// Envoy makes a new VM at most about once a second.
		within(t, "the worker has a new VM that decides", func() bool { return l.Thread(t, e) == thread })
	}
}

// killIdle kills the main thread's VM, which gets no request that could do it, and waits until a worker aggregates.
func killIdle(t testing.TB, e *envoytest.Envoy, lanes map[string][]*plugintest.Lane) {
	t.Helper()
	for _, of := range lanes { // any will do
		plugintest.Trap(t, e, of[0], "trap-idle")
		break
	}
	within(t, "a worker aggregates", func() bool { return lanes[plugintest.Aggregator(t, e)] != nil })
}

// pick is a thread that fits.
func pick(t testing.TB, lanes map[string][]*plugintest.Lane, fits func(thread string) bool) string {
	t.Helper()
	for thread := range lanes {
		if fits(thread) {
			return thread
		}
	}
	t.Fatalf("none of the workers that live, %d, fits", len(lanes))
	return ""
}

// hold sends a request on each of these lanes that stays in flight until release.
func hold(t testing.TB, e *envoytest.Envoy, lanes ...*plugintest.Lane) (release func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	release = func() { cancel(); wg.Wait() }
	t.Cleanup(release)
	for _, l := range lanes {
		wg.Go(func() {
			_, _ = l.Do(ctx, held, "x-delay-ms", strconv.Itoa(3600_000))
		})
	}
	return release
}

// trap kills the VM of a lane's worker.
func trap(t testing.TB, e *envoytest.Envoy, l *plugintest.Lane, policy string) {
	t.Helper()
	if status := plugintest.Trap(t, e, l, "trap"); status != 503 && status != 0 && policy != "FAIL_OPEN" {
		t.Errorf("the request that kills the VM gives %d", status)
	}
}

// within waits for something that a death must not keep from happening for longer than takeover.
func within(t testing.TB, what string, cond func() bool) {
	t.Helper()
	envoytest.Eventually(t, takeover, what, cond)
}

// saboteur is testdata/saboteur.
var saboteur = plugintest.Build("saboteur.wasm", build.Options{Package: "./internal/e2e/testdata/saboteur"})

// TestSabotage has another plugin with our vm_id overwrite all our records and fill our queue with rubbish: that is
// counted, no VM dies of it, and no window admits too much, then and after.
func TestSabotage(t *testing.T) {
	web := envoytest.StartHTTPService(t)
	e := start(t, envoytest.Config{LogLevel: "warning", Components: auditing, Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), Timeout: time.Hour, Wasm: httpFilter(t,
			`{"resource_name": "web", `+flowRules(plugintest.PerSecond("web-qps", "web", faultThreshold),
				plugintest.PerSecond("held", held, 1000))+`}`)},
		envoytest.HTTP{Name: "saboteur", Upstream: web.Addr(), Wasm: []envoytest.Wasm{
			{File: plugintest.File(t, saboteur), RootID: "saboteur"}}},
	}})
	background := plugintest.Offer(t, e.Addr("http"), load.Options{QPS: faultQPS, Connections: 8})
	limited := func(after int) func() bool {
		return func() bool {
			d := audit(t, e, "web-qps")
			return d.newest() > after+4 && d.most(after) >= faultThreshold*9/10
		}
	}
	envoytest.Eventually(t, soon, "the limit is reached", limited(0))
	seeSnapshot(t, e)
	term := e.Sum("sentinel_aggregator_term")

	one := plugintest.NewLane(t, e, "saboteur") // the saboteur's VM that is told to stop must be the one that was told to start
	order := func(command string) {
		t.Helper()
		if _, err := one.Do(t.Context(), "/", "x-sabotage", command); err != nil {
			t.Fatal(err)
		}
	}
	order("on")
	replaced := 0.0
	envoytest.Eventually(t, soon, "rubbish is found and replaced", func() bool {
		replaced = e.Sum("sentinel_records_replaced")
		return replaced >= 5 && e.Sum("sentinel_faults") >= 20 // rubbish in the queue is a fault
	})
	order("off")

	stopped := audit(t, e, "web-qps").newest()
	envoytest.Eventually(t, soon, "the limit is reached again", limited(stopped+1))
	seeSnapshot(t, e)
	if now := e.Sum("sentinel_aggregator_term"); now < term {
		t.Errorf("the aggregator's term fell from %v to %v", term, now)
	}
	if sum := background.Stop(t); sum.Failed != 0 {
		t.Errorf("%d of %d requests failed: %s", sum.Failed, sum.Sent, sum.LastError)
	}
	audit(t, e, "web-qps").within(t, faultThreshold)
	plugintest.NoVMDied(t, e)
	t.Logf("%v records replaced, %v faults", replaced, e.Sum("sentinel_faults"))
}

// TestLostDirectory has another plugin with our vm_id overwrite what says which record is whose, while half of each
// budget is spent: whoever looks for its record then finds the one that there was, and no budget is had twice.
func TestLostDirectory(t *testing.T) {
	const rules, threshold, spent = 200, 8, 4
	web := envoytest.StartHTTPService(t)
	listener := func(threshold int) envoytest.Listener {
		return envoytest.HTTP{Upstream: web.Addr(), Wasm: httpFilter(t, `{`+flowRules(eachOf(rules,
			fmt.Sprintf(`{"id": "f%%d", "resource": "/r%%d", "threshold": %d, "statIntervalInMs": %d}`, threshold, forever)))+`}`)}
	}
	thief := envoytest.HTTP{Name: "saboteur", Upstream: web.Addr(), Wasm: []envoytest.Wasm{
		{File: plugintest.File(t, saboteur), RootID: "saboteur"}}}
	e := start(t, envoytest.Config{Dynamic: true, Listeners: []envoytest.Listener{listener(spent), thief}})
	ask := func(times int) int {
		var passed atomic.Int64
		inParallel(times*rules, func(client *http.Client, i int) {
			r, err := envoytest.Do(t.Context(), client, "GET", fmt.Sprintf("%s/r%d", e.URL("http"), i%rules))
			if err != nil {
				t.Error(err)
			} else if r.Status == http.StatusOK {
				passed.Add(1)
			}
		})
		return int(passed.Load())
	}
	if got := ask(2 * spent); got != spent*rules {
		t.Fatalf("%d passed before, want %d", got, spent*rules)
	}
	if _, err := plugintest.NewLane(t, e, "saboteur").Do(t.Context(), "/", "x-sabotage", "pages"); err != nil {
		t.Fatal(err)
	}
	e.Update(listener(threshold), thief) // its filter looks for its records again
	more := 0
	envoytest.Eventually(t, soon, "what is left is had", func() bool {
		more += ask(2)
		return more >= (threshold-spent)*rules
	})
	if more += ask(threshold); more != (threshold-spent)*rules {
		t.Errorf("%d passed after the directory was lost, want %d", more, (threshold-spent)*rules)
	}
	envoytest.Eventually(t, soon, "pages that were lost are counted", func() bool { return e.Sum("sentinel_records_replaced") > 0 })
	waitMetric(t, e, 0, "sentinel_faults")
}

// seeSnapshot checks that the metrics follow what is in flight, which they know from the snapshot.
func seeSnapshot(t testing.TB, e *envoytest.Envoy) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l, done := plugintest.NewLane(t, e, "http"), make(chan struct{})
	go func() {
		defer close(done)
		// Where the record was lost, the rule refuses until its window has passed.
		for ctx.Err() == nil {
			_, _ = l.Do(ctx, held, "x-delay-ms", strconv.Itoa(3600_000))
		}
	}()
	waitMetric(t, e, 1, "sentinel_in_flight", "resource", held)
	cancel()
	<-done
	waitMetric(t, e, 0, "sentinel_in_flight", "resource", held)
}
