package e2e

import (
	"context"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/wasmbuild/build"
)

const (
	faultThreshold = 100
	faultQPS       = 400
	// held is the path, and resource, of requests that the upstream does not answer while a test lasts.
	held = "/held"
	// marker is the path, and resource, of requests that show on which worker their connection is.
	marker = "/marker"
	// takeover is what a dead worker may cost the others: 2 s by the design, the rest is for a busy machine.
	takeover = 5 * time.Second
)

// TestWorkerDies makes VMs trap under load, of workers that aggregate and that do not, with each of Envoy's failure
// policies. It is guarantee 5 and, for the VMs that live, guarantee 1. (A VM that FAIL_OPEN bypasses limits nothing: it
// is outside.)
func TestWorkerDies(t *testing.T) {
	for _, policy := range []string{"FAIL_CLOSED", "FAIL_OPEN", "FAIL_RELOAD"} {
		t.Run(policy, func(t *testing.T) { seeDeaths(t, policy) })
	}
}

func seeDeaths(t *testing.T, policy string) {
	web := envoytest.StartHTTPService(t)
	config := `{"resource_name": "web", ` + flowRules(perSecond("web-qps", "web", faultThreshold),
		perSecond("held", held, 1000), perSecond("marker", marker, 1000)) + `}`
	e := start(t, envoytest.Config{LogLevel: "warning", Components: auditing, Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), ExactBalance: true, Timeout: time.Hour, Wasm: []envoytest.Wasm{
			{File: wasm(t, faulty), RootID: "sentinel_http", Config: config, FailurePolicy: policy}}},
	}})
	lanes := lanesOfAll(t, e)
	background := offer(t, load.Options{QPS: faultQPS, Connections: 16, Port: envoytest.PortOf(t, e.Addr("http"))})

	killIdle(t, e, lanes)
	for round, aggregates := range []bool{false, true} {
		leader, term := aggregator(t, e), metric(e, "sentinel_aggregator_term")
		victim := pick(t, lanes, func(thread string) bool { return (thread == leader) == aggregates })
		live := pick(t, lanes, func(thread string) bool { return thread != leader && thread != victim })

		release := hold(t, e, lanes[live][1+round], lanes[victim][1+round])
		waitMetric(t, e, 2, "sentinel_in_flight", "resource", held)
		died := time.Now()
		trap(t, e, lanes[victim][0], policy)
		if aggregates {
			within(t, "another worker aggregates", func() bool { return metric(e, "sentinel_aggregator_term") > term })
		}
		within(t, "what was in flight in the dead VM is back", func() bool {
			return metric(e, "sentinel_in_flight", "resource", held) == 1
		})
		t.Logf("aggregator %v: in flight is back after %v", aggregates, time.Since(died).Round(10*time.Millisecond))
		release()
		within(t, "the snapshot goes on", func() bool {
			return metric(e, "sentinel_in_flight", "resource", held) == 0 && metric(e, "sentinel_pass_qps", "resource", "web") > 0
		})
		if aggregates == false && metric(e, "sentinel_aggregator_term") != term {
			t.Errorf("the aggregator changed though another worker died")
		}
		seeVictim(t, e, lanes[victim][0], victim, policy)
		if policy != "FAIL_RELOAD" {
			delete(lanes, victim)
		}
	}

	sum := background.stop(t)
	t.Logf("%+v", sum)
	d := audit(t, e, "web-qps")
	d.within(t, faultThreshold)
	waitMetric(t, e, 0, "sentinel_faults")
}

// seeVictim checks what Envoy does with requests on the worker whose VM died.
func seeVictim(t *testing.T, e *envoytest.Envoy, l *lane, thread, policy string) {
	t.Helper()
	switch policy {
	case "FAIL_CLOSED":
		if status := l.get(t, e, marker); status != 503 {
			t.Errorf("a request to the dead VM gives %d, want 503", status)
		}
	case "FAIL_OPEN":
		before := len(markers(e))
		if status := l.get(t, e, marker); status != 200 {
			t.Errorf("a request past the dead VM gives %d, want 200", status)
		}
		if n := len(markers(e)); n != before {
			t.Errorf("a request past the dead VM was decided by %v", markers(e)[before:])
		}
	case "FAIL_RELOAD":
		// Envoy makes a new VM at most about once a second.
		within(t, "the worker has a new VM that decides", func() bool {
			before := len(markers(e))
			return l.get(t, e, marker) == 200 && l.decidedBy(t, e, before) == thread
		})
	}
}

// lane is a client with one connection, and so one worker.
type lane struct{ client *http.Client }

func newLane(t *testing.T) *lane {
	l := &lane{client: envoytest.NewHTTPClient(false)}
	l.client.Timeout = 0
	t.Cleanup(l.client.CloseIdleConnections)
	return l
}

// get gives the status of the answer to a request, 0 where the connection broke.
func (l *lane) get(t *testing.T, e *envoytest.Envoy, path string, headers ...string) int {
	t.Helper()
	r, err := envoytest.Do(envoytest.Context(t, soon), l.client, "GET", e.URL("http")+path, headers...)
	if err != nil {
		return 0
	}
	return r.Status
}

// decidedBy waits for the thread that decided about a request to marker, given how many such there were before.
func (l *lane) decidedBy(t *testing.T, e *envoytest.Envoy, before int) string {
	t.Helper()
	var all []string
	envoytest.Eventually(t, soon, "the audit has the request to "+marker, func() bool {
		all = markers(e)
		return len(all) > before
	})
	return all[before]
}

// markers are the threads that decided about requests to marker.
func markers(e *envoytest.Envoy) (threads []string) {
	for _, m := range e.Log.All(`^\[[^]]*\]\[(\d+)\].* audit rule=marker .* admitted=[1-9]`) {
		threads = append(threads, m[1])
	}
	return threads
}

// lanesOfAll opens lanes to each worker, by the number of its thread: one for questions, and one for each round.
func lanesOfAll(t *testing.T, e *envoytest.Envoy) map[string][]*lane {
	t.Helper()
	const each = 3
	lanes, complete := map[string][]*lane{}, 0
	for range 8 * each * workers {
		l, before := newLane(t), len(markers(e))
		if status := l.get(t, e, marker); status != 200 {
			t.Fatalf("status %d", status)
		}
		thread := l.decidedBy(t, e, before)
		lanes[thread] = append(lanes[thread], l)
		if len(lanes[thread]) == each {
			complete++
		}
		if complete == workers {
			return lanes
		}
	}
	t.Fatalf("connections are spread so unevenly that not each worker has %d: %v", each, lanes)
	return nil
}

// killIdle kills the main thread's VM, which gets no request that could do it, and waits until a worker aggregates.
func killIdle(t *testing.T, e *envoytest.Envoy, lanes map[string][]*lane) {
	t.Helper()
	for _, of := range lanes { // any will do
		of[0].get(t, e, "/", "x-sentinel-fault", "trap-idle")
		break
	}
	e.WaitLog(soon, vmDied)
	within(t, "a worker aggregates", func() bool { return lanes[aggregator(t, e)] != nil })
}

// aggregator is the thread that has announced last that it aggregates.
func aggregator(t *testing.T, e *envoytest.Envoy) string {
	t.Helper()
	all := e.Log.All(`^\[[^]]*\]\[(\d+)\].* this worker \(\d+\) aggregates$`)
	if len(all) == 0 {
		t.Fatal("no worker has announced that it aggregates")
	}
	return all[len(all)-1][1]
}

// pick is a thread that fits.
func pick(t *testing.T, lanes map[string][]*lane, fits func(thread string) bool) string {
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
func hold(t *testing.T, e *envoytest.Envoy, lanes ...*lane) (release func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	release = func() { cancel(); wg.Wait() }
	t.Cleanup(release)
	for _, l := range lanes {
		wg.Go(func() {
			_, _ = envoytest.Do(ctx, l.client, "GET", e.URL("http")+held, "x-delay-ms", strconv.Itoa(3600_000))
		})
	}
	return release
}

// trap kills the VM of a lane's worker.
func trap(t *testing.T, e *envoytest.Envoy, l *lane, policy string) {
	t.Helper()
	before := len(e.Log.All(vmDied))
	status := l.get(t, e, "/", "x-sentinel-fault", "trap")
	if status != 503 && status != 0 && policy != "FAIL_OPEN" {
		t.Errorf("the request that kills the VM gives %d", status)
	}
	envoytest.Eventually(t, soon, "the log tells of the VM's death", func() bool { return len(e.Log.All(vmDied)) > before })
}

// within waits for something that a death must not keep from happening for longer than takeover.
func within(t *testing.T, what string, cond func() bool) {
	t.Helper()
	envoytest.Eventually(t, takeover, what, cond)
}

// saboteur is testdata/saboteur.
var saboteur = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "saboteur.wasm")
	_, err := build.Build(context.Background(), build.Options{
		Dir: root, Package: "./internal/e2e/testdata/saboteur", Out: path,
	})
	return path, err
})

// TestSabotage has another plugin with our vm_id overwrite all our records and fill our queue with rubbish: that is
// counted, no VM dies of it, and no window admits too much, then and after.
func TestSabotage(t *testing.T) {
	web := envoytest.StartHTTPService(t)
	e := start(t, envoytest.Config{LogLevel: "warning", Components: auditing, Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), Timeout: time.Hour, Wasm: httpFilter(t,
			`{"resource_name": "web", `+flowRules(perSecond("web-qps", "web", faultThreshold),
				perSecond("held", held, 1000))+`}`)},
		envoytest.HTTP{Name: "saboteur", Upstream: web.Addr(), Wasm: []envoytest.Wasm{
			{File: wasm(t, saboteur), RootID: "saboteur"}}},
	}})
	background := offer(t, load.Options{QPS: faultQPS, Connections: 8, Port: envoytest.PortOf(t, e.Addr("http"))})
	limited := func(after int) func() bool {
		return func() bool {
			d := audit(t, e, "web-qps")
			return d.newest() > after+4 && d.most(after) >= faultThreshold*9/10
		}
	}
	envoytest.Eventually(t, soon, "the limit is reached", limited(0))
	seeSnapshot(t, e)
	term := metric(e, "sentinel_aggregator_term")

	one := newLane(t) // the saboteur's VM that is told to stop must be the one that was told to start
	order := func(command string) {
		t.Helper()
		if _, err := envoytest.Do(t.Context(), one.client, "GET", e.URL("saboteur"), "x-sabotage", command); err != nil {
			t.Fatal(err)
		}
	}
	order("on")
	replaced := 0.0
	envoytest.Eventually(t, soon, "rubbish is found and replaced", func() bool {
		replaced = metric(e, "sentinel_records_replaced")
		return replaced >= 5 && metric(e, "sentinel_faults") >= 20 // rubbish in the queue is a fault
	})
	order("off")

	stopped := audit(t, e, "web-qps").newest()
	envoytest.Eventually(t, soon, "the limit is reached again", limited(stopped+1))
	seeSnapshot(t, e)
	if now := metric(e, "sentinel_aggregator_term"); now < term {
		t.Errorf("the aggregator's term fell from %v to %v", term, now)
	}
	if sum := background.stop(t); sum.Failed != 0 {
		t.Errorf("%d of %d requests failed: %s", sum.Failed, sum.Sent, sum.LastError)
	}
	audit(t, e, "web-qps").within(t, faultThreshold)
	noVMDied(t, e)
	t.Logf("%v records replaced, %v faults", replaced, metric(e, "sentinel_faults"))
}

// seeSnapshot checks that the metrics follow what is in flight, which they know from the snapshot.
func seeSnapshot(t *testing.T, e *envoytest.Envoy) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l, done := newLane(t), make(chan struct{})
	go func() {
		defer close(done)
		// Where the record was lost, the rule refuses until its window has passed.
		for ctx.Err() == nil {
			_, _ = envoytest.Do(ctx, l.client, "GET", e.URL("http")+held, "x-delay-ms", strconv.Itoa(3600_000))
		}
	}()
	waitMetric(t, e, 1, "sentinel_in_flight", "resource", held)
	cancel()
	<-done
	waitMetric(t, e, 0, "sentinel_in_flight", "resource", held)
}
