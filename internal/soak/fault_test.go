package soak

import (
	"flag"
	"maps"
	"slices"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/plugintest"
	"sentinel-envoy/internal/stall"
)

var faults = flag.Int("soak.faults", 4, "how many VMs die under each failure policy; no more than there are workers where dead VMs stay dead")

const (
	faultThreshold = 300
	// takeover is what a dead worker may cost the others: 2 s by the design, the rest is for a busy machine.
	takeover = 10 * time.Second
)

// TestDeaths makes the VMs of workers trap, one after the other, under as much load as the machine can, those that
// aggregate and those that do not, with each of Envoy's failure policies. No window admits too much; each death shows in
// sentinel_workers_lost and sentinel_workers, and the last one in sentinel_ticks. (A VM that FAIL_OPEN bypasses limits
// nothing: it is outside.)
func TestDeaths(t *testing.T) {
	for _, policy := range []string{"FAIL_CLOSED", "FAIL_OPEN", "FAIL_RELOAD"} {
		t.Run(policy, func(t *testing.T) { stall.Retry(t, func(t testing.TB) { seeDeaths(t, policy) }) })
	}
}

// dying is an Envoy whose VMs are made to die.
type dying struct {
	*envoytest.Envoy
	policy string
	lanes  map[string][]*plugintest.Lane // one to each worker whose VM lives, by the number of its thread
	live   float64                       // VMs
	deaths float64
}

func seeDeaths(t testing.TB, policy string) {
	web := envoytest.StartHTTPService(t)
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), ExactBalance: true, Wasm: []envoytest.Wasm{{
			File: plugintest.File(t, plugintest.Faulty), RootID: "sentinel_http", FailurePolicy: policy,
			Config: filterConfig("web", plugintest.PerSecond("web-qps", "web", faultThreshold),
				plugintest.PerSecond("marker", plugintest.Marker, 1000)),
		}}},
	}})
	audit := newAudit(t, e)
	d := &dying{Envoy: e, policy: policy, lanes: plugintest.Lanes(t, e, workers, 1), live: workers + 1}
	waitMetric(t, e, d.live, "sentinel_workers")
	rss := residentMB(t, e)
	full := loadFully(t, e.Addr("http"), load.Options{})
	waitRefusals(t, e, "web-qps")

	reloads := policy == "FAIL_RELOAD"
	d.killIdle(t) // it has no streams: no policy makes it anew
	for round := 0; round < *faults && (reloads || len(d.lanes) > 1); round++ {
		d.kill(t, round%2 == 0)
	}
	sum := full.Stop(t)
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
func (d *dying) killIdle(t testing.TB) {
	t.Helper()
	plugintest.Trap(t, d.Envoy, d.anyLane(), "trap-idle")
	d.live--
	d.seeDeath(t)
	envoytest.Eventually(t, takeover, "a worker aggregates", func() bool {
		return d.lanes[plugintest.Aggregator(t, d.Envoy)] != nil
	})
}

// kill kills the VM of a worker, of the one that aggregates or of another, and waits until the others have taken over.
func (d *dying) kill(t testing.TB, aggregates bool) {
	t.Helper()
	announced, term := len(plugintest.Aggregators(t, d.Envoy)), d.Sum("sentinel_aggregator_term")
	leader := plugintest.Aggregator(t, d.Envoy)
	var thread string
	for candidate := range d.lanes {
		if (candidate == leader) == aggregates {
			thread = candidate
		}
	}
	reloads := d.Sum("envoy_wasm_sentinel_http_vm_reload_success")
	plugintest.Trap(t, d.Envoy, d.lanes[thread][0], "trap")
	if d.policy == "FAIL_RELOAD" {
		envoytest.Eventually(t, takeover, "the worker has a new VM that decides", func() bool {
			return d.lanes[thread][0].Thread(t, d.Envoy) == thread
		})
		if now := d.Sum("envoy_wasm_sentinel_http_vm_reload_success"); now != reloads+1 {
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
			return d.Sum("sentinel_aggregator_term") > term && len(plugintest.Aggregators(t, d.Envoy)) > announced
		})
	} else if now := d.Sum("sentinel_aggregator_term"); now != term {
		t.Errorf("the aggregator changed though another worker died: term %v, then %v", term, now)
	}
	envoytest.Eventually(t, takeover, "the snapshot goes on", func() bool {
		return d.Sum("sentinel_block_qps", "resource", "web") > 0
	})
}

// killRest kills all VMs that live: nobody is left to count the dead, and sentinel_ticks shows it.
func (d *dying) killRest(t testing.TB) {
	t.Helper()
	before := d.Sum("sentinel_ticks")
	envoytest.Eventually(t, takeover, "sentinel_ticks goes on while a VM lives", func() bool {
		return d.Sum("sentinel_ticks") > before
	})
	for thread := range maps.Clone(d.lanes) {
		plugintest.Trap(t, d.Envoy, d.lanes[thread][0], "trap")
		delete(d.lanes, thread)
	}
	last := d.Sum("sentinel_ticks")
	over := time.Now().Add(2 * time.Second)
	envoytest.Eventually(t, takeover, "two seconds have passed", func() bool { return time.Now().After(over) })
	if now := d.Sum("sentinel_ticks"); now != last {
		t.Errorf("all VMs are dead and sentinel_ticks has gone on from %v to %v", last, now)
	}
}

// seeDeath waits until the metrics tell of one more death.
func (d *dying) seeDeath(t testing.TB) {
	t.Helper()
	d.deaths++
	waitDead(t, d.Envoy, d.deaths, d.live)
}

func (d *dying) anyLane() *plugintest.Lane {
	for _, of := range d.lanes {
		return of[0]
	}
	return nil
}
