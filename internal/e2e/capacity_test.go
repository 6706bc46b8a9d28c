package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sentinel-envoy/internal/envoytest"
)

// What was accepted is enforced, however many rules and resources there are and however often they change, and what does
// not fit is refused.
func TestCapacity(t *testing.T) {
	e := start(t, envoytest.Config{Dynamic: true, Listeners: []envoytest.Listener{configured(t, updateFrom)}})
	for _, sub := range []struct {
		name string
		see  func(t *testing.T, e *envoytest.Envoy)
	}{
		{"what does not fit", seeTooMuch},
		{"one hotspot rule for 300 resources", seeHotspotRule},
		{"200 hotspot rules", seeHotspotRules},
		{"hotspot rules that change", seeChangingHotspotRules},
		{"a rule without an id whose threshold changes", seeChangedThreshold},
		{"rules whose ids change", seeChangingIDs},
	} {
		t.Run(sub.name, func(t *testing.T) { sub.see(t, e.For(t)) })
	}
	waitMetric(t, e, 0, "sentinel_faults")
}

// eachOf are n texts with their number in place of each %d.
func eachOf(n int, format string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = strings.ReplaceAll(format, "%d", fmt.Sprint(i))
	}
	return strings.Join(all, ", ")
}

// named are 300 resources.
var named = `"resources": [` + eachOf(300, `{"name": "r%d", "match": {"path": {"exact": "/r%d"}}}`) + `]`

// perUser is the rest of a hotspot rule that admits so many of each user in all.
func perUser(threshold int) string {
	return fmt.Sprintf(`"metricType": "QPS", "threshold": %d, "durationInSec": 3600,
		"paramSource": "Header", "paramKey": "x-user"`, threshold)
}

// reconfigure makes the listener go by another configuration, in all VMs.
func reconfigure(t *testing.T, e *envoytest.Envoy, config string) {
	t.Helper()
	var before float64
	if all := samples(e, "sentinel_rules_hash"); len(all) > 0 {
		before = all[0].Value
	}
	e.Update(configured(t, config))
	envoytest.Eventually(t, soon, "all VMs have the new rules", func() bool { return agreedRules(t, e) != before })
}

func seeTooMuch(t *testing.T, e *envoytest.Envoy) {
	spend(t, e, "/kept", 3)
	for name, c := range map[string]struct{ config, want string }{
		"records": {`{` + named + `, ` + flowRules(eachOf(55, `{"id": "f%d", "resource": "r.*", "regex": true, "threshold": 1}`)) + `}`,
			`records, one for each rule and each resource that it is for: must be ≤ 16384, got 16500`},
		"values": {`{` + named + `, "hotspotRules": [{"resource": "r.*", "regex": true, "paramsMaxCapacity": 300, ` + perUser(1) + `}]}`,
			`paramsMaxCapacity of all hotspot rules, once for each resource that one is for: must be ≤ 65536, got 90000`},
	} {
		t.Run(name, func(t *testing.T) {
			seeRejected(t, e.For(t), configured(t, c.config), "configuration of root_id sentinel_http", c.want)
		})
	}
}

// inParallel makes n requests over a number of connections at once.
func inParallel(n int, request func(client *http.Client, i int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range 4 * workers {
		wg.Go(func() {
			client := envoytest.NewHTTPClient(false)
			defer client.CloseIdleConnections()
			for i := range next {
				request(client, i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// seePairs asks thrice for each of 500 pairs of a resource and a user, of which one may pass.
func seePairs(t *testing.T, e *envoytest.Envoy, resources int) {
	t.Helper()
	var passed, refused atomic.Int64
	inParallel(1500, func(client *http.Client, i int) {
		pair := i % 500
		url, user := fmt.Sprintf("%s/r%d", e.URL("http"), pair%resources), fmt.Sprint("user ", pair)
		r, err := envoytest.Do(t.Context(), client, "GET", url, "x-user", user)
		switch {
		case err != nil:
			t.Error(err)
		case r.Status == http.StatusOK:
			passed.Add(1)
		default:
			refused.Add(1)
		}
	})
	if passed.Load() != 500 || refused.Load() != 1000 {
		t.Errorf("%d passed and %d were refused, want 500 and 1000", passed.Load(), refused.Load())
	}
}

func seeHotspotRule(t *testing.T, e *envoytest.Envoy) {
	reconfigure(t, e, `{`+named+`, "hotspotRules": [{"id": "per-user", "resource": "r.*", "regex": true, `+perUser(1)+`}]}`)
	seePairs(t, e, 300)
}

func seeHotspotRules(t *testing.T, e *envoytest.Envoy) {
	reconfigure(t, e, `{"hotspotRules": [`+eachOf(200, `{"id": "h%d", "resource": "/r%d", `+perUser(1)+`}`)+`]}`)
	seePairs(t, e, 200)
}

// Ten rules without ids whose thresholds change 20 times stay ten budgets.
func seeChangingHotspotRules(t *testing.T, e *envoytest.Envoy) {
	rules := func(threshold int) string {
		return `{"hotspotRules": [` + eachOf(10, `{"resource": "/r%d", `+perUser(threshold)+`}`) + `]}`
	}
	for threshold := range 20 {
		reconfigure(t, e, rules(30-threshold))
		for path := range 10 {
			e.Get("http", fmt.Sprintf("/r%d", path), "x-user", "somebody")
		}
	}
	reconfigure(t, e, rules(1))
	seePairs(t, e, 10)
}

// A changed threshold keeps the window.
func seeChangedThreshold(t *testing.T, e *envoytest.Envoy) {
	rule := func(threshold int) string {
		return fmt.Sprintf(`{"flowRules": [{"resource": "/changed", "threshold": %d, "statIntervalInMs": %d}]}`, threshold, forever)
	}
	admitted := 0
	for threshold := 100; threshold <= 105; threshold++ {
		reconfigure(t, e, rule(threshold))
		for range 120 {
			if e.Get("http", "/changed").Status == http.StatusOK {
				admitted++
			}
		}
	}
	if admitted != 105 {
		t.Errorf("one window admitted %d, thresholds of 100 to 105", admitted)
	}
	waitMetric(t, e, 105, "sentinel_passed", "resource", "/changed")
	waitMetric(t, e, 6*120-105, "sentinel_blocked", "resource", "/changed", "rule", fmt.Sprintf("flow-%dms-/changed", forever))
}

// More ids come and go than a process once had places for. Everybody has one, and the gauge tells how many are left.
func seeChangingIDs(t *testing.T, e *envoytest.Envoy) {
	const rules, generations, room = 4500, 8, 32768
	free := func() float64 { return e.Sum("sentinel_records_free") }
	envoytest.Eventually(t, soon, "the records are counted", func() bool { return free() > 0 })
	for generation := range generations {
		reconfigure(t, e, `{"flowRules": [`+eachOf(rules, fmt.Sprintf(`{"id": "rule %%d of %d", "resource": "/r%%d", "threshold": 1,
			"statIntervalInMs": %d}`, generation, forever))+`]}`)
		times := 1 + generation/(generations-1) // twice, of the last
		var passed atomic.Int64
		inParallel(times*rules, func(client *http.Client, i int) {
			if r, err := envoytest.Do(t.Context(), client, "GET", fmt.Sprintf("%s/r%d", e.URL("http"), i%rules)); err != nil {
				t.Error(err)
			} else if r.Status == http.StatusOK {
				passed.Add(1)
			}
		})
		if passed.Load() != rules {
			t.Fatalf("generation %d: of %d rules that let one in, %d were let in", generation, rules, passed.Load())
		}
	}
	envoytest.Eventually(t, soon, "the gauge tells that many are in use", func() bool { return free() <= room-room/2 })
}

// Beyond the bound of metrics' names, counters count under (other), and no gauge tells of everything else together.
func TestMetricsBeyondTheBoundOfNames(t *testing.T) {
	const resources = 11000 // three counters each, of what passed, ended and was refused, are more than there are names
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{configured(t, `{"flowRules": [`+
		eachOf(resources, fmt.Sprintf(`{"id": "f%%d", "resource": "/r%%d", "threshold": 1, "statIntervalInMs": %d}`, forever))+`]}`)}})
	inParallel(2*resources, func(client *http.Client, i int) {
		if _, err := envoytest.Do(t.Context(), client, "GET", fmt.Sprintf("%s/r%d", e.URL("http"), i%resources)); err != nil {
			t.Error(err)
		}
	})
	for _, counter := range []string{"sentinel_passed", "sentinel_completed", "sentinel_blocked"} {
		waitMetric(t, e, resources, counter)
	}
	if e.Sum("sentinel_passed", "resource", "(other)")+e.Sum("sentinel_completed", "resource", "(other)")+
		e.Sum("sentinel_blocked", "resource", "(other)") == 0 {
		t.Errorf("all of %d names found a place: the test tries nothing", 3*resources)
	}
	for _, gauge := range []string{"sentinel_in_flight", "sentinel_pass_qps", "sentinel_block_qps", "sentinel_rt_ms"} {
		for _, s := range samples(e, gauge) {
			if s.Labels["resource"] == "(other)" {
				t.Errorf("%s of everything else is %v", gauge, s.Value)
			}
		}
	}
	waitMetric(t, e, 0, "sentinel_faults")
}
