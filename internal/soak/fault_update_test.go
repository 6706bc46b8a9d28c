package soak

import (
	"flag"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/plugintest"
	"sentinel-envoy/internal/stall"
)

var updates = flag.Int("soak.updates", 16, "how many updates of the configuration there are, one a second")

const (
	steadyThreshold = 300
	slots           = 4
	// settled is how much Envoy's memory may grow, in MB, over the second half of the updates: what a collector leaves.
	settled = 60
)

// churn is an Envoy whose configuration changes and changes.
type churn struct {
	*envoytest.Envoy
	web, slow *envoytest.HTTPService
	echo      *envoytest.TCPService
	wasm      string
	vmConfig  string
}

// TestUpdates changes the configuration every second under as much load as the machine can. Guarantees 1 to 7 hold
// throughout: a rule that stays keeps its window on both listeners, one whose threshold changes admits at most the larger,
// no request fails, all are counted, and memory does not grow with the number of updates.
func TestUpdates(t *testing.T) { stall.Retry(t, keepUpdating) }

func keepUpdating(t testing.TB) {
	c := &churn{web: envoytest.StartHTTPService(t), slow: envoytest.StartHTTPService(t),
		echo: envoytest.StartTCPService(t, "hello\n"), wasm: plugintest.File(t, release)}
	c.Envoy = start(t, envoytest.Config{
		Dynamic: true, Listeners: c.listeners(0), Upstreams: []string{c.slow.Addr()},
	})
	audit := newAudit(t, c.Envoy)
	waitMetric(t, c.Envoy, workers+1, "sentinel_workers")

	web := loadFully(t, c.Addr("http"), load.Options{})
	changing := loadFully(t, c.Addr("http"), load.Options{Path: "/changing", Connections: 4})
	slow := loadFully(t, c.Addr("http"), load.Options{Path: "/slow", Connections: 2 * slots, QPS: 400})
	tcp := loadFully(t, c.Addr("tcp"), load.Options{Proto: load.TCP, QPS: 200, Connections: 8})
	crowd := c.watchSlow(t)
	waitRefusals(t, c.Envoy, "steady")

	idle := residentMB(t, c.Envoy)
	half := *updates / 2
	c.update(t, 1, half)
	mid := residentMB(t, c.Envoy)
	c.update(t, half+1, *updates)
	end := residentMB(t, c.Envoy)
	envoytest.Eventually(t, soon, "all VMs have one set of rules", func() bool { return c.rules(t) != 0 })
	c.vmConfig = "{}" // other than none: Envoy makes all VMs anew, and the old ones drain for ten minutes
	c.Update(c.listeners(0)...)
	envoytest.Eventually(t, soon, "there are new VMs beside the old ones", func() bool { return c.vms() == 2*(workers+1) })
	waitMetric(t, c.Envoy, workers+1, "sentinel_workers") // of each

	sums := map[string]load.Summary{"web": web.Stop(t), "/changing": changing.Stop(t), "/slow": slow.Stop(t), "tcp": tcp.Stop(t)}
	seeCounted(t, c.Envoy, sums)
	if most := crowd(); most > slots {
		t.Errorf("%d requests were in flight at once, more than %d", most, slots)
	}
	audit.read(t)
	steady, changed := audit.all("steady", steadyThreshold), audit.all("changing", changingThresholds[1])
	steady.exact(t, "steady", 10)
	changed.never(t, "changing")
	if n, told := audit.total("steady").admitted, c.Sum("sentinel_passed", "resource", "web"); n != int(told) {
		t.Errorf("%d were admitted, sentinel_passed is %v", n, told)
	}
	c.seeHealth(t)
	if end-mid > settled {
		t.Errorf("memory was %d MB at first, %d after half of the updates and %d after all", idle, mid, end)
	}
	sum := sums["web"]
	report(t, "%d updates under %.0f requests/s: %v; memory %d MB, %d after half, %d after all: %.2f MB an update",
		*updates, float64(sum.Sent)/sum.Elapsed.Seconds(), steady, idle, mid, end, float64(end-mid)/float64(max(1, *updates-half)))
}

var changingThresholds = [2]int{100, 200}

// listeners are those of an update: one rule stays, on both listeners; one changes its threshold; one has another id every
// time. Each fifth time the configuration of two updates before comes back, whose contexts are still there.
func (c *churn) listeners(n int) []envoytest.Listener {
	if n%5 == 4 {
		n -= 2
	}
	steady := plugintest.PerSecond("steady", "web", steadyThreshold)
	isolation := fmt.Sprintf(`"isolationRules": [{"id": "slots", "resource": "/slow", "threshold": %d}]`, slots)
	http := filterConfig("web", steady, plugintest.PerSecond("changing", "/changing", changingThresholds[n%2]),
		plugintest.PerSecond(fmt.Sprintf("new-%d", n), "/new", 50))
	http = strings.TrimSuffix(http, "}") + ", " + isolation + "}"
	tcp := filterConfig("web", steady, plugintest.PerSecond(fmt.Sprintf("new-%d", n), "web", 100_000))
	return []envoytest.Listener{
		envoytest.HTTP{Upstream: c.web.Addr(), Routes: []envoytest.Route{{Prefix: "/slow", Upstream: c.slow.Addr()}, {Prefix: "/"}},
			Wasm: []envoytest.Wasm{{File: c.wasm, RootID: "sentinel_http", Config: http, VMConfig: c.vmConfig, VMConfigAsString: true}}},
		envoytest.TCP{Upstream: c.echo.Addr(), Wasm: []envoytest.Wasm{{File: c.wasm, RootID: "sentinel_tcp", Config: tcp, VMConfig: c.vmConfig, VMConfigAsString: true}}},
	}
}

// update makes the updates from one to another, one a second.
func (c *churn) update(t testing.TB, from, to int) {
	t.Helper()
	each := time.NewTicker(time.Second)
	defer each.Stop()
	for n := from; n <= to; n++ {
		<-each.C
		c.Update(c.listeners(n)...)
	}
}

// vms is how many VMs there are that have rules.
func (c *churn) vms() (n int) {
	for _, s := range c.Prometheus() {
		if s.Name == "sentinel_rules_hash" && s.Value != 0 {
			n++
		}
	}
	return n
}

// rules is the rules_hash in which all VMs agree, 0 while they do not.
func (c *churn) rules(t testing.TB) (agreed float64) {
	t.Helper()
	for _, s := range c.Prometheus() {
		if s.Name != "sentinel_rules_hash" {
			continue
		}
		if agreed != 0 && s.Value != agreed {
			return 0
		}
		agreed = s.Value
	}
	return agreed
}

// watchSlow gives the largest number of requests that the slow service answered at one time, as far as was seen.
func (c *churn) watchSlow(t testing.TB) (most func() int64) {
	c.slow.Behave(envoytest.Behaviour{Delay: 20 * time.Millisecond})
	var seen atomic.Int64
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		for t.Context().Err() == nil {
			seen.Store(max(seen.Load(), c.slow.InFlight()))
			time.Sleep(time.Millisecond)
		}
	}()
	return seen.Load
}

// seeCounted holds what the clients saw against the counters: no request failed, and all are counted.
func seeCounted(t testing.TB, e *envoytest.Envoy, sums map[string]load.Summary) {
	t.Helper()
	for what, sum := range sums {
		seeNoneFailed(t, what, sum)
		if sum.Passed == 0 || sum.Blocked == 0 {
			t.Errorf("%s: %d passed and %d were blocked", what, sum.Passed, sum.Blocked)
		}
	}
	seeSums(t, e, "web", sums["web"], sums["tcp"])
	seeSums(t, e, "/changing", sums["/changing"])
	seeSums(t, e, "/slow", sums["/slow"])
}

// seeHealth checks that nothing of ours went wrong.
func (c *churn) seeHealth(t testing.TB) {
	t.Helper()
	waitTicks(t, c.Envoy, 500) // what was counted is exported by then
	waitDead(t, c.Envoy, 0, workers+1)
	for _, name := range []string{"sentinel_faults", "sentinel_records_replaced"} {
		waitMetric(t, c.Envoy, 0, name)
	}
	plugintest.NoVMDied(t, c.Envoy)
}

// TestDraining has listeners replaced in each of Envoy's ways while clients keep their connections to the old ones and go on
// sending: all generations together spend one budget.
func TestDraining(t *testing.T) {
	const threshold = 100
	web := envoytest.StartHTTPService(t)
	path := plugintest.File(t, release)
	port := envoytest.Port(t) // where the last one listens in place of the others, for who is sent away by those
	generation := func(n int, name string, exactBalance bool) envoytest.Listener {
		resource := fmt.Sprintf("generation-%d", n)
		return envoytest.HTTP{Name: name, Port: port, Upstream: web.Addr(), ExactBalance: exactBalance, Wasm: []envoytest.Wasm{{
			File: path, RootID: "sentinel_http", Config: filterConfig(resource, plugintest.PerSecond("one-budget", resource, threshold)),
		}}}
	}
	generations := []struct {
		how string
		envoytest.Listener
	}{
		{"the first", generation(0, "http", false)},
		{"other filters", generation(1, "http", false)},
		{"another listener of the same name and port", generation(2, "http", true)},
		{"another listener, the other is removed", generation(3, "other", true)},
	}
	e := start(t, envoytest.Config{Dynamic: true, Listeners: []envoytest.Listener{generations[0].Listener},
		Args: []string{"--drain-time-s", "3600"}}) // so that Envoy closes few of the old connections while the test lasts
	audit := newAudit(t, e)
	var loads []*plugintest.Offered
	decisions := func(n int) float64 {
		resource := fmt.Sprintf("generation-%d", n)
		return e.Sum("sentinel_passed", "resource", resource) + e.Sum("sentinel_blocked", "resource", resource)
	}
	for n, g := range generations {
		name := "http"
		if n > 0 {
			e.Update(g.Listener)
		}
		if n == 3 {
			name = "other"
		}
		loads = append(loads, loadFully(t, e.Addr(name), load.Options{QPS: 2 * threshold, Connections: 100}))
		before := make([]float64, n+1)
		for i := range before {
			before[i] = decisions(i)
		}
		refills := audit.refills(t, "one-budget")
		envoytest.Eventually(t, soon, g.how+": all generations decide, over several windows", func() bool {
			for i := range before {
				if decisions(i) <= before[i] {
					return false
				}
			}
			return audit.refills(t, "one-budget") > refills+3
		})
	}
	var sums []load.Summary
	for n, l := range loads {
		sum := l.Stop(t)
		seeNoneFailed(t, fmt.Sprintf("clients of generation %d", n), sum)
		sums = append(sums, sum)
	}
	seeSums(t, e, "", sums...)
	audit.read(t)
	v := audit.all("one-budget", threshold)
	v.exact(t, "one-budget", 10)
	plugintest.NoVMDied(t, e)
	report(t, "4 generations of a listener at once, %.0f, %.0f, %.0f and %.0f decisions: %v",
		decisions(0), decisions(1), decisions(2), decisions(3), v)
}
