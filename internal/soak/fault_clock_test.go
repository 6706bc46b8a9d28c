package soak

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/plugintest"
	"sentinel-envoy/internal/stall"
)

const clockThreshold = 300

// TestClockSteps sets Envoy's wall clock forward and back, by seconds to a year, under as much load as the machine can:
// what is limited does not follow it, and no worker takes another for dead.
func TestClockSteps(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the library that shifts the clock is for Linux on x86-64")
	}
	stall.Retry(t, stepClock)
}

func stepClock(t testing.TB) {
	shift := newClockShift(t)
	web := envoytest.StartHTTPService(t)
	e := start(t, envoytest.Config{
		Env: []string{"LD_PRELOAD=" + shift.path},
		Listeners: []envoytest.Listener{envoytest.HTTP{Upstream: web.Addr(), Routes: []envoytest.Route{
			{Prefix: "/clock", DirectStatus: http.StatusOK}, // an answer that Envoy itself dates
			{Prefix: "/"},
		}, Wasm: []envoytest.Wasm{{
			File: plugintest.File(t, release), RootID: "sentinel_http",
			Config: filterConfig("other", plugintest.PerSecond("web-qps", "/web", clockThreshold)),
		}}}},
	})
	audit := newAudit(t, e)
	waitMetric(t, e, workers+1, "sentinel_workers")
	full := loadFully(t, e.Addr("http"), load.Options{Path: "/web"})
	waitRefusals(t, e, "web-qps")
	term := e.Sum("sentinel_aggregator_term")
	for _, to := range []time.Duration{
		time.Second, 0, -time.Second, 3 * time.Minute, -3 * time.Minute, time.Hour, -time.Hour, 365 * 24 * time.Hour, 0,
	} {
		shift.set(t, to)
		seeWallClock(t, e, to)
		blocked := e.Sum("sentinel_blocked", "rule", "web-qps")
		refills := audit.refills(t, "web-qps")
		envoytest.Eventually(t, soon, "decisions go on for a window or more and are counted", func() bool {
			return audit.refills(t, "web-qps") > refills+1 && e.Sum("sentinel_blocked", "rule", "web-qps") > blocked
		})
	}
	sum := full.Stop(t)
	seeNoneFailed(t, "/web", sum)
	seeSums(t, e, "/web", sum)
	audit.read(t)
	v := audit.all("web-qps", clockThreshold)
	v.exact(t, "web-qps", 10)
	if now := e.Sum("sentinel_aggregator_term"); now != term {
		t.Errorf("the aggregator has changed: term %v, then %v", term, now)
	}
	waitDead(t, e, 0, workers+1)
	for _, name := range []string{"sentinel_faults", "sentinel_records_replaced"} {
		waitMetric(t, e, 0, name)
	}
	plugintest.NoVMDied(t, e)
	report(t, "9 steps of up to a year under %.0f requests/s: %v", float64(sum.Sent)/sum.Elapsed.Seconds(), v)
}

// refills is in how many whole windows a rule has admitted anything so far.
func (a *audit) refills(t testing.TB, rule string) int {
	t.Helper()
	a.read(t)
	return len(a.rules[rule]) / 2
}

// seeWallClock waits until Envoy's answers are dated by the shifted clock.
func seeWallClock(t testing.TB, e *envoytest.Envoy, shift time.Duration) {
	t.Helper()
	// The header has whole seconds, and Envoy makes it anew twice a second.
	tolerance := max(900*time.Millisecond, shift.Abs()/10)
	envoytest.Eventually(t, soon, fmt.Sprintf("Envoy's wall clock is off by %v", shift), func() bool {
		r, err := envoytest.Do(t.Context(), http.DefaultClient, "GET", e.URL("http")+"/clock")
		if err != nil {
			t.Fatal(err)
		}
		date, err := http.ParseTime(r.Header.Get("date"))
		if err != nil {
			t.Fatal(err)
		}
		off := date.Add(500 * time.Millisecond).Sub(time.Now().Add(shift))
		return off.Abs() < tolerance
	})
}

// clockShift is a library that, preloaded, shifts the wall clock of a process, and no other clock.
type clockShift struct {
	path string
	file *os.File
}

func newClockShift(t testing.TB) *clockShift {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clockshift.so")
	if err := os.WriteFile(path, clockShiftLibrary(), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &clockShift{path: path, file: f}
}
