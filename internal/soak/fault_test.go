package soak

import (
	"flag"
	"maps"
	"slices"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
)

var faults = flag.Int("soak.faults", 4, "how many VMs die under each failure policy; no more than there are workers where dead VMs stay dead")

const (
	faultThreshold = 300
	// marker is the path, and resource, of requests that show on which worker their connection is.
	marker = "/marker"
	// takeover is what a dead worker may cost the others: 2 s by the design, the rest is for a busy machine.
	takeover = 10 * time.Second
)

// TestDeaths makes the VMs of workers trap, one after the other, under as much load as the machine can, those that
// aggregate and those that do not, with each of Envoy's failure policies. No window admits too much; each death shows in
// sentinel_workers_lost and sentinel_workers, and the last one in sentinel_ticks. (A VM that FAIL_OPEN bypasses limits
// nothing: it is outside.)
func TestDeaths(t *testing.T) {
	for _, policy := range []string{"FAIL_CLOSED", "FAIL_OPEN", "FAIL_RELOAD"} {
		t.Run(policy, func(t *testing.T) { seeDeaths(t, policy) })
	}
}

// dying is an Envoy whose VMs are made to die.
type dying struct {
	*envoytest.Envoy
	policy string
	lanes  map[string]*lane // to each worker whose VM lives, by the number of its thread
	live   float64          // VMs
	deaths float64
}

func seeDeaths(t *testing.T, policy string) {
	web := envoytest.StartHTTPService(t)
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), ExactBalance: true, Wasm: []envoytest.Wasm{{
			File: wasm(t, faulty), RootID: "sentinel_http", FailurePolicy: policy,
			Config: filterConfig("web", perSecond("web-qps", "web", faultThreshold), perSecond("marker", marker, 1000)),
		}}},
	}})
	audit := newAudit(t, e)
	d := &dying{Envoy: e, policy: policy, lanes: lanesOfAll(t, e), live: workers + 1}
	waitMetric(t, e, d.live, "sentinel_workers")
	rss := residentMB(t, e)
	full := loadFully(t, e.Addr("http"), load.Options{})
	waitRefusals(t, e, "web-qps")

	reloads := policy == "FAIL_RELOAD"
	d.killIdle(t) // it has no streams: no policy makes it anew
	for round := 0; round < *faults && (reloads || len(d.lanes) > 1); round++ {
		d.kill(t, round%2 == 0)
	}
	sum := full.stop(t)
	waitMetric(t, e, 0, "sentinel_in_flight", "resource", "web")
	waitMetric(t, e, 0, "sentinel_faults")
	audit.read(t)
	v := audit.all("web-qps", faultThreshold)
	v.never(t, "web-qps")
	for status := range sum.Status {
		if !slices.Contains([]string{"200", "429", "503"}, status) {
			t.Errorf("answers %v", sum.Status)
		}
	}
	untold := int(sum.Status["200"]) - audit.total("web-qps").admitted
	if policy != "FAIL_OPEN" { // there, nobody decided about the others
		first, last := audit.span("web-qps")
		// A request that was let in is answered 503, or not at all, where the VM dies before the answer.
		cut := int(interrupted(sum)) + int(sum.Status["503"])
		if most := faultThreshold * int(last-first+3) / 2; untold < -cut || int(sum.Status["200"]) > most {
			t.Errorf("%d passed, of at most %d; live VMs told of %d", sum.Status["200"], most, audit.total("web-qps").admitted)
		}
		t.Logf("%d were admitted by VMs that died before they told", untold)
	}
	if !reloads {
		d.killRest(t)
	}
	report(t, "%.0f deaths under %.0f requests/s: %v; answers %v, errors %v; %+d MB", d.deaths,
		float64(sum.Sent)/sum.Elapsed.Seconds(), v, sum.Status, sum.Errors, residentMB(t, e)-rss)
}

// killIdle kills the main thread's VM, which gets no request that could do it, and waits until a worker aggregates.
func (d *dying) killIdle(t *testing.T) {
	t.Helper()
	d.anyLane().get(t, d.Envoy, "/", "x-sentinel-fault", "trap-idle")
	d.live--
	d.seeDeath(t)
	envoytest.Eventually(t, takeover, "a worker aggregates", func() bool {
		all := aggregators(t, d.Envoy)
		return d.lanes[all[len(all)-1]] != nil
	})
}

// kill kills the VM of a worker, of the one that aggregates or of another, and waits until the others have taken over.
func (d *dying) kill(t *testing.T, aggregates bool) {
	t.Helper()
	announced, term := aggregators(t, d.Envoy), metric(d.Envoy, "sentinel_aggregator_term")
	leader := announced[len(announced)-1]
	var thread string
	for candidate := range d.lanes {
		if (candidate == leader) == aggregates {
			thread = candidate
		}
	}
	reloads := metric(d.Envoy, "envoy_wasm_sentinel_http_vm_reload_success")
	d.trap(t, thread)
	if d.policy == "FAIL_RELOAD" {
		envoytest.Eventually(t, takeover, "the worker has a new VM that decides", func() bool {
			return d.lanes[thread].decidedBy(t, d.Envoy) == thread
		})
		if now := metric(d.Envoy, "envoy_wasm_sentinel_http_vm_reload_success"); now != reloads+1 {
			t.Errorf("Envoy tells of %v new VMs, after %v", now, reloads)
		}
	} else {
		delete(d.lanes, thread)
		d.live--
	}
	d.seeDeath(t)
	if aggregates {
		// Which may be the same worker's new one.
		envoytest.Eventually(t, takeover, "another VM aggregates", func() bool {
			return metric(d.Envoy, "sentinel_aggregator_term") > term && len(aggregators(t, d.Envoy)) > len(announced)
		})
	} else if now := metric(d.Envoy, "sentinel_aggregator_term"); now != term {
		t.Errorf("the aggregator changed though another worker died: term %v, then %v", term, now)
	}
	envoytest.Eventually(t, takeover, "the snapshot goes on", func() bool {
		return metric(d.Envoy, "sentinel_block_qps", "resource", "web") > 0
	})
}

// killRest kills all VMs that live: nobody is left to count the dead, and sentinel_ticks shows it.
func (d *dying) killRest(t *testing.T) {
	t.Helper()
	before := metric(d.Envoy, "sentinel_ticks")
	envoytest.Eventually(t, takeover, "sentinel_ticks goes on while a VM lives", func() bool {
		return metric(d.Envoy, "sentinel_ticks") > before
	})
	for thread := range maps.Clone(d.lanes) {
		d.trap(t, thread)
		delete(d.lanes, thread)
	}
	last := metric(d.Envoy, "sentinel_ticks")
	over := time.Now().Add(2 * time.Second)
	envoytest.Eventually(t, takeover, "two seconds have passed", func() bool { return time.Now().After(over) })
	if now := metric(d.Envoy, "sentinel_ticks"); now != last {
		t.Errorf("all VMs are dead and sentinel_ticks has gone on from %v to %v", last, now)
	}
}

// trap kills the VM of a worker.
func (d *dying) trap(t *testing.T, thread string) {
	t.Helper()
	before := len(d.Log.All(vmDied))
	d.lanes[thread].get(t, d.Envoy, "/", "x-sentinel-fault", "trap")
	envoytest.Eventually(t, soon, "the log tells of the VM's death", func() bool { return len(d.Log.All(vmDied)) > before })
}

// seeDeath waits until the metrics tell of one more death.
func (d *dying) seeDeath(t *testing.T) {
	t.Helper()
	d.deaths++
	waitDead(t, d.Envoy, d.deaths, d.live)
}

func (d *dying) anyLane() *lane {
	for _, l := range d.lanes {
		return l
	}
	return nil
}

// aggregators are the threads whose VMs have announced that they aggregate, the last one last.
func aggregators(t *testing.T, e *envoytest.Envoy) (threads []string) {
	t.Helper()
	for _, m := range e.Log.All(`^\[[^]]*\]\[(\d+)\].* this worker \(\d+\) aggregates$`) {
		threads = append(threads, m[1])
	}
	if len(threads) == 0 {
		t.Fatal("no worker has announced that it aggregates")
	}
	return threads
}

// lanesOfAll opens a lane to each worker, by the number of its thread.
func lanesOfAll(t *testing.T, e *envoytest.Envoy) map[string]*lane {
	t.Helper()
	lanes := map[string]*lane{}
	for range 8 * workers {
		l := newLane(t)
		lanes[l.decidedBy(t, e)] = l
		if len(lanes) == workers {
			return lanes
		}
	}
	t.Fatalf("connections reach only %d of %d workers", len(lanes), workers)
	return nil
}

// decidedBy is the thread that decides about the lane's requests; empty where none does.
func (l *lane) decidedBy(t *testing.T, e *envoytest.Envoy) (thread string) {
	t.Helper()
	const pattern = `^\[[^]]*\]\[(\d+)\].* audit rule=marker .* admitted=[1-9]`
	before := len(e.Log.All(pattern))
	if l.get(t, e, marker) != 200 {
		return ""
	}
	envoytest.Eventually(t, soon, "the audit has the request to "+marker, func() bool {
		all := e.Log.All(pattern)
		if len(all) > before {
			thread = all[before][1]
		}
		return thread != ""
	})
	return thread
}
