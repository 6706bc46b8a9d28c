package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/plugintest"
)

// exactThreshold is that of windows.yaml.
const exactThreshold = 40

// span is from when a client has sent a request until it had the answer: it was decided in between.
type span struct{ sent, answered time.Time }

// spans are those of requests that were let in.
type spans []span

// within fails the test where more than threshold requests were sent and answered within any interval of a length, wherever
// it begins: they were then decided within it.
func (all spans) within(t testing.TB, threshold int, interval time.Duration) {
	t.Helper()
	slices.SortFunc(all, func(a, b span) int { return a.answered.Compare(b.answered) })
	most := 0
	for i, last := range all {
		n := 0
		for _, s := range all[:i+1] {
			if !s.sent.Before(last.answered.Add(-interval)) {
				n++
			}
		}
		most = max(most, n)
	}
	if most > threshold {
		t.Errorf("an interval of %v had %d answers of 200, want at most %d", interval, most, threshold)
	}
	t.Logf("%d let in, at most %d in an interval", len(all), most)
}

// pour fails the test where more were sent and answered within any interval than a token bucket has for it: a burst, and what
// comes back in it, in tokens a second.
func (all spans) pour(t testing.TB, burst int, rate float64) {
	t.Helper()
	slices.SortFunc(all, func(a, b span) int { return a.answered.Compare(b.answered) })
	for i, last := range all {
		for _, first := range all {
			n := 0
			for _, s := range all[:i+1] {
				if !s.sent.Before(first.sent) {
					n++
				}
			}
			length := last.answered.Sub(first.sent).Seconds()
			if most := float64(burst) + rate*length; n > 0 && float64(n) > most {
				t.Fatalf("%d within %.6f s, more than %.3f", n, length, most)
			}
		}
	}
	t.Logf("%d let in", len(all))
}

// intervals adds up what the log says about a rule with an exact window, and gives the most that was admitted in any of its
// intervals that begins with a part of which the interval has slices, how much in all, and how many parts lie between the first
// and the last.
func intervals(t testing.TB, e *envoytest.Envoy, rule string) (most, total, parts int) {
	t.Helper()
	var slices int64
	admitted := map[int64]int{}
	first, last := int64(0), int64(0)
	for line := range strings.Lines(e.Log.String()) {
		d, ok, err := plugintest.ParseDecided(line)
		if err != nil {
			t.Fatal(err)
		}
		if !ok || d.Rule != rule {
			continue
		}
		slices = d.Slices
		if first == 0 {
			first = d.Bucket
		}
		first, last = min(first, d.Bucket), max(last, d.Bucket)
		admitted[d.Bucket] += d.Admitted
		total += d.Admitted
	}
	if slices == 0 {
		t.Fatalf("the log tells of no exact window of %s", rule)
	}
	sum := 0
	for b := first; b <= last; b++ {
		sum += admitted[b] - admitted[b-slices]
		most = max(most, sum)
	}
	return most, total, int(last - first)
}

// TestExactWindow: over all workers, HTTP and TCP, no interval has more than the threshold, wherever it begins.
func TestExactWindow(t *testing.T) {
	up, err := envoytest.NewTCPService("ok")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	config := fmt.Sprintf(`{"resource_name": "quote", %s}`,
		flowRules(`{"id": "exact", "resource": "quote", "threshold": 40, "window": "exact"}`))
	e := start(t, envoytest.Config{Components: auditing, LogLevel: "warn", Listeners: []envoytest.Listener{
		envoytest.HTTP{ExactBalance: true, Wasm: httpFilter(t, config), Routes: []envoytest.Route{{DirectStatus: 200}}},
		envoytest.TCP{Upstream: up.Addr(), Wasm: tcpFilter(t, config)},
	}})
	connections := plugintest.Offer(t, e.Addr("tcp"), load.Options{Proto: load.TCP, QPS: 100})
	var mu sync.Mutex
	var passed spans
	var clients sync.WaitGroup
	for range 2 * workers {
		clients.Go(func() {
			client := envoytest.NewHTTPClient(false)
			defer client.CloseIdleConnections()
			turn := time.NewTicker(30 * time.Millisecond)
			defer turn.Stop()
			for range 150 {
				<-turn.C
				sent := time.Now()
				r, err := envoytest.Do(t.Context(), client, "GET", e.URL("http")+"/")
				if err != nil {
					t.Error(err)
					return
				}
				if r.Status == http.StatusOK {
					mu.Lock()
					passed = append(passed, span{sent, time.Now()})
					mu.Unlock()
				}
			}
		})
	}
	clients.Wait()
	sum := connections.Stop(t)
	if len(passed) == 0 {
		t.Error("no request was let in")
	}
	passed.within(t, exactThreshold, time.Second)
	var most, total, parts int
	envoytest.Eventually(t, soon, "the log has all decisions", func() bool {
		most, total, parts = intervals(t, e, "exact")
		return total >= len(passed)+int(sum.Passed)
	})
	t.Logf("%d admitted in %d ms, at most %d in an interval; %d requests, %+v", total, parts, most, len(passed), sum.Counts)
	if most != exactThreshold {
		t.Errorf("an interval had %d, want %d at most, and in one", most, exactThreshold)
	}
	if want := exactThreshold * parts / 1000; total < want*97/100 {
		t.Errorf("%d were admitted in %d ms, want %d", total, parts, want)
	}
	waitMetric(t, e, 0, "sentinel_faults")
}
