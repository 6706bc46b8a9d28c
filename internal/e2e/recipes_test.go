package e2e

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sentinel-envoy/internal/envoytest"
)

// endless makes the intervals of a recipe's rules so long that they do not end during the test.
func endless(bootstrap []byte) []byte {
	for _, replace := range [][2]string{
		{"durationInSec: 60", "durationInSec: 3600"},
		{"statIntervalMs: 10000", "statIntervalMs: 3600000"},
		{"retryTimeoutMs: 2000", "retryTimeoutMs: 3600000"},
	} {
		bootstrap = bytes.ReplaceAll(bootstrap, []byte(replace[0]), []byte(replace[1]))
	}
	perSecond := regexp.MustCompile(`-qps, resource: \S+, threshold: \d+`)
	return perSecond.ReplaceAll(bootstrap, fmt.Appendf(nil, "$0, statIntervalInMs: %d", forever))
}

// TestRecipes runs the files that docs/recipes.md is made of.
func TestRecipes(t *testing.T) {
	for _, r := range []struct {
		file string
		see  func(t *testing.T, e *envoytest.Envoy, web *envoytest.HTTPService)
	}{
		{"requests-per-second.yaml", seeRequestsPerSecond},
		{"concurrency.yaml", seeConcurrency},
		{"upstream-breaker.yaml", seeUpstreamBreaker},
		{"per-user.yaml", seePerUser},
		{"per-token.yaml", seePerToken},
		{"per-address.yaml", seePerAddress},
		{"shadow.yaml", seeShadowFirst},
		{"answers.yaml", seeAnswers},
		{"trial.yaml", seeTrial},
		{"rate-limit-headers.yaml", seeRateLimitHeaders},
		{"recovery.yaml", seeRecovery},
		{"tcp.yaml", seeTCPRecipe},
		{"minimal.yaml", seeMinimal},
	} {
		t.Run(strings.TrimSuffix(r.file, ".yaml"), func(t *testing.T) {
			web := envoytest.StartHTTPService(t)
			e := example(t, r.file, web.Addr(), endless)
			r.see(t, e, web)
			if n := e.Sum("sentinel_faults"); n != 0 {
				t.Errorf("%v faults", n)
			}
		})
	}
}

// admitted sends n requests and counts those that are let in; the others must have the status refused.
func admitted(t *testing.T, e *envoytest.Envoy, n, refused int, path string, headers ...string) (passed int) {
	t.Helper()
	for range n {
		switch r := e.Get("http", path, headers...); r.Status {
		case http.StatusOK:
			passed++
		case refused:
		default:
			t.Fatalf("%s %v: status %d, %q", path, headers, r.Status, r.Body)
		}
	}
	return passed
}

// wantAdmitted wants so many requests of twice as many to be let in.
func wantAdmitted(t *testing.T, e *envoytest.Envoy, want int, path string, headers ...string) {
	t.Helper()
	if got := admitted(t, e, 2*want, http.StatusTooManyRequests, path, headers...); got != want {
		t.Errorf("%s %v: %d requests were let in, want %d", path, headers, got, want)
	}
}

func seeRequestsPerSecond(t *testing.T, e *envoytest.Envoy, _ *envoytest.HTTPService) {
	wantAdmitted(t, e, 100, "/orders/7?x=1")
	wantAdmitted(t, e, 5, "/login")
	if got := admitted(t, e, 20, 0, "/other"); got != 20 {
		t.Errorf("what no rule names: %d of 20 were let in", got)
	}
}

func seeConcurrency(t *testing.T, e *envoytest.Envoy, web *envoytest.HTTPService) {
	const threshold = 8
	answers := make(chan int, threshold)
	for i := range threshold {
		go func() {
			client := envoytest.NewHTTPClient(i%2 == 0)
			defer client.CloseIdleConnections()
			client.Timeout = 0
			r, _ := envoytest.Do(t.Context(), client, "GET", e.URL("http")+fmt.Sprint("/reports/", i), "x-delay-ms", "3600000")
			answers <- r.Status
		}()
		envoytest.Eventually(t, soon, "the service has the request", func() bool { return web.InFlight() == int64(i+1) })
	}
	if r := e.Get("http", "/reports/9"); r.Status != http.StatusServiceUnavailable || r.Body != "too many reports at once, try again\n" {
		t.Errorf("one more gets %d %q", r.Status, r.Body)
	}
	if r := e.Get("http", "/other"); r.Status != http.StatusOK {
		t.Errorf("another path gets %d", r.Status)
	}
	select {
	case status := <-answers:
		t.Errorf("one of %d got %d", threshold, status)
	default:
	}
}

func seeUpstreamBreaker(t *testing.T, e *envoytest.Envoy, web *envoytest.HTTPService) {
	web.Behave(envoytest.Behaviour{Status: http.StatusInternalServerError})
	envoytest.Eventually(t, soon, "the breaker is open", func() bool {
		return strings.HasPrefix(e.Get("http", "/payments/1").Body, "blocked by circuitBreaker rule payments-failing: ")
	})
	envoytest.Eventually(t, soon, "all workers know it", func() bool {
		before := web.Requests()
		for range 10 * workers {
			e.Get("http", "/payments/1")
		}
		return web.Requests() == before
	})
	web.Behave(envoytest.Behaviour{})
	if r := e.Get("http", "/other"); r.Status != http.StatusOK {
		t.Errorf("another path gets %d", r.Status)
	}
	waitMetric(t, e, 2, "sentinel_breaker_state", "rule", "payments-failing")
}

func seePerUser(t *testing.T, e *envoytest.Envoy, _ *envoytest.HTTPService) {
	wantAdmitted(t, e, 15, "/api/a", "x-user", "alice")
	wantAdmitted(t, e, 15, "/api/b", "x-user", "bob")
	wantAdmitted(t, e, 105, "/api/c", "x-user", "gold")
	if got := admitted(t, e, 30, 0, "/api/a"); got != 30 {
		t.Errorf("without a user %d of 30 were let in", got)
	}
	waitMetric(t, e, 30, "sentinel_hotspot_absent", "rule", "per-user")
}

func seePerToken(t *testing.T, e *envoytest.Envoy, _ *envoytest.HTTPService) {
	for _, subject := range []string{"alice", "bob"} {
		wantAdmitted(t, e, 10, "/api/a", "authorization", "Bearer "+token(t, subject))
	}
	if r := e.Get("http", "/api/a"); r.Status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", r.Status)
	}
}

// token is a JWT of a subject, signed by the key of RFC 8037, appendix A.1.
func token(t *testing.T, subject string) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	seed, err := base64.RawURLEncoding.DecodeString("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
	if err != nil {
		t.Fatal(err)
	}
	text := encode([]byte(`{"alg": "EdDSA"}`)) + "." + encode(fmt.Appendf(nil, `{"iss": "https://accounts.example.com", "sub": %q}`, subject))
	return text + "." + encode(ed25519.Sign(ed25519.NewKeyFromSeed(seed), []byte(text)))
}

func seePerAddress(t *testing.T, e *envoytest.Envoy, _ *envoytest.HTTPService) {
	wantAdmitted(t, e, 20, "/a", "x-forwarded-for", "203.0.113.7")
	// Whatever the client writes before it is another's word.
	if got := admitted(t, e, 5, http.StatusTooManyRequests, "/a", "x-forwarded-for", "198.51.100.9, 203.0.113.7"); got != 0 {
		t.Errorf("%d more were let in by what the client wrote", got)
	}
	wantAdmitted(t, e, 20, "/a", "x-forwarded-for", "203.0.113.8")
	for _, address := range []string{"192.0.2.1", "192.0.2.2"} {
		if got := admitted(t, e, 600, http.StatusTooManyRequests, "/a", "x-forwarded-for", address); got != 600 {
			t.Errorf("%s: %d of 600 were let in", address, got)
		}
	}
}

func seeShadowFirst(t *testing.T, e *envoytest.Envoy, _ *envoytest.HTTPService) {
	if got := admitted(t, e, 8, 0, "/orders"); got != 8 {
		t.Errorf("%d of 8 were let in", got)
	}
	waitMetric(t, e, 3, "sentinel_shadow_blocked", "rule", "orders-qps")
	line := `(?m)^/orders 200 blocked_by=- shadow_blocked_by=(\S+)`
	envoytest.Eventually(t, soon, "the access log has all requests", func() bool { return len(e.Log.All(line)) == 8 })
	var by []string
	for _, m := range e.Log.All(line) {
		by = append(by, m[1])
	}
	slices.Sort(by)
	if got := strings.Join(by, " "); got != "- - - - - flow:orders-qps flow:orders-qps flow:orders-qps" {
		t.Errorf("the access log has %q", got)
	}
	e.SetLogLevel("wasm", "debug")
	for _, want := range []string{
		`wasm log sentinel_http sentinel_http sentinel: entry of sentinel_http path="/orders" resource="/orders": entered, in shadow mode: refused by flow:orders-qps 5/5$`,
		`decided kind=flow rule=orders-qps resource="/orders" admitted=0 refused=[1-9]`,
	} {
		envoytest.Eventually(t, soon, "the debug log has "+want, func() bool { // a worker hears of the level in its next tick
			e.Get("http", "/orders")
			return len(e.Log.All(want)) > 0
		})
	}
}

func seeTCPRecipe(t *testing.T, e *envoytest.Envoy, _ *envoytest.HTTPService) {
	var open int
	for range 25 {
		end, ok := openTCP(t, e)
		t.Cleanup(end)
		if ok {
			open++
		}
	}
	if open != 10 {
		t.Errorf("%d connections of one address were let in, want 10", open)
	}
	waitMetric(t, e, 15, "sentinel_blocked", "rule", "database-per-address")
}

// What the README says to begin with: nothing is blocked, all spellings of a path are counted, and the metrics have labels.
func seeMinimal(t *testing.T, e *envoytest.Envoy, _ *envoytest.HTTPService) {
	for _, path := range []string{"/orders", "//orders", "/a/../orders"} {
		if got := admitted(t, e, 40, 0, path); got != 40 {
			t.Errorf("%s: %d of 40 were let in", path, got)
		}
	}
	waitMetric(t, e, 20, "sentinel_shadow_blocked", "resource", "/orders", "rule", "orders-qps", "kind", "flow")
}
