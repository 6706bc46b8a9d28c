package e2e

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	_ "time/tzdata"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/ruleserver"
)

// endless makes the intervals of a recipe's rules so long that they do not end during the test.
func endless(bootstrap []byte) []byte {
	for _, replace := range [][2]string{
		{"durationInSec: 60", "durationInSec: 31622400"},
		{"statIntervalInMs: 60000", fmt.Sprint("statIntervalInMs: ", forever)},
		{"unit: DAY", "unit: YEAR"}, {"unit: MONTH", "unit: YEAR"},
		{"statIntervalMs: 10000", "statIntervalMs: 3600000"},
		{"retryTimeoutMs: 2000", "retryTimeoutMs: 3600000"},
	} {
		bootstrap = bytes.ReplaceAll(bootstrap, []byte(replace[0]), []byte(replace[1]))
	}
	seconds := regexp.MustCompile(`(id: (?:all|writes|login), resource: \S+, threshold: \d+)}`) // of several.yaml
	bootstrap = seconds.ReplaceAll(bootstrap, fmt.Appendf(nil, "$1, statIntervalInMs: %d}", forever))
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
		{"windows.yaml", seeWindows},
		{"cost.yaml", seeCost},
		{"token-bucket.yaml", seeTokenBucket},
		{"concurrency.yaml", seeConcurrency},
		{"upstream-breaker.yaml", seeUpstreamBreaker},
		{"per-user.yaml", seePerUser},
		{"per-token.yaml", seePerToken},
		{"per-address.yaml", seePerAddress},
		{"login.yaml", seeLogin},
		{"calendar.yaml", seeCalendar},
		{"match.yaml", seeMatch},
		{"several.yaml", seeSeveral},
		{"egress.yaml", seeEgress},
		{"keys.yaml", seeKeys},
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

func seeWindows(t *testing.T, e *envoytest.Envoy, _ *envoytest.HTTPService) {
	wantAdmitted(t, e, 5, "/login")
	var passed spans
	for len(passed) < 2*exactThreshold+1 {
		before := time.Now()
		r := e.Get("http", "/quote")
		if r.Status == http.StatusOK {
			passed = append(passed, span{before, time.Now()})
		} else if !strings.HasPrefix(r.Body, "blocked by flow rule exact: 40 of 40 in 1000 ms") {
			t.Fatalf("%d, %q", r.Status, r.Body)
		}
	}
	passed.within(t, exactThreshold, time.Second)
}

func seeCost(t *testing.T, e *envoytest.Envoy, _ *envoytest.HTTPService) {
	wantAdmitted(t, e, 10, "/report")
	if r := e.Get("http", "/report"); !strings.HasPrefix(r.Body, "blocked by flow rule report: 110 of 100 in ") {
		t.Errorf("a report more: %q", r.Body)
	}
	// A user's batches: what is too large is refused and takes nothing, what is no number costs one, 0 nothing.
	for _, c := range []struct {
		n    string
		want int
	}{{"60", 200}, {"41", 429}, {"41", 429}, {"30", 200}, {"-5", 200}, {"x", 200}, {"", 200}, {"7", 200}, {"1", 429}, {"0", 200}, {"1&rows=0", 429}} {
		if r := e.Get("http", "/batch?rows="+c.n, "x-user", "alice"); r.Status != c.want {
			t.Errorf("a batch of %q: %d, %q", c.n, r.Status, r.Body)
		}
	}
	if r := e.Get("http", "/batch?rows=1000", "x-user", "bob"); r.Status != 200 {
		t.Errorf("a batch of more than max counts as max: %d", r.Status)
	}
	if r := e.Get("http", "/batch", "x-user", "bob"); r.Status != 429 {
		t.Errorf("another batch: %d", r.Status)
	}
	// Uploads, by what their clients say of their lengths; one that says nothing is taken for 100,000.
	upload := func(body io.Reader) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "POST", e.URL("http")+"/upload", body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	type chunked struct{ io.Reader }
	for i, c := range []struct {
		body io.Reader
		want int
	}{
		{strings.NewReader(strings.Repeat("x", 600_000)), 200}, {strings.NewReader(strings.Repeat("x", 400_001)), 429},
		{strings.NewReader(strings.Repeat("x", 250_000)), 200}, {chunked{strings.NewReader("x")}, 200}, {chunked{strings.NewReader("x")}, 429},
		{strings.NewReader(strings.Repeat("x", 50_000)), 200}, {strings.NewReader("x"), 429},
	} {
		if got := upload(c.body); got != c.want {
			t.Errorf("upload %d: %d, want %d", i, got, c.want)
		}
	}
}

// seeTokenBucket: clients that never stop get the burst at once, and then what comes back, in any interval.
func seeTokenBucket(t *testing.T, e *envoytest.Envoy, _ *envoytest.HTTPService) {
	const burst, rate = 30, 5
	for _, path := range []string{"/api", "/search"} {
		var mu sync.Mutex
		var passed spans
		var clients sync.WaitGroup
		begin := time.Now()
		for range workers {
			clients.Go(func() {
				client := envoytest.NewHTTPClient(false)
				defer client.CloseIdleConnections()
				for time.Since(begin) < 3*time.Second {
					sent := time.Now()
					r, err := envoytest.Do(t.Context(), client, "GET", e.URL("http")+path)
					if err != nil {
						t.Error(err)
						return
					}
					switch {
					case r.Status == http.StatusOK:
						mu.Lock()
						passed = append(passed, span{sent, time.Now()})
						mu.Unlock()
					case !strings.Contains(r.Body, ": 30 of 30 tokens"):
						t.Errorf("%d, %q", r.Status, r.Body)
						return
					}
				}
			})
		}
		clients.Wait()
		elapsed := time.Since(begin)
		passed.pour(t, burst, rate)
		if want := burst + rate*2; len(passed) < want {
			t.Errorf("%s: %d were let in in %v, want %d at least", path, len(passed), elapsed, want)
		}
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
	allRefuse(t, func() bool {
		before := web.Requests()
		e.Get("http", "/payments/1")
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

// A year of Berlin's, so that it does not end during the test, has its budgets over all workers, and refusals say when the next begins.
func seeCalendar(t *testing.T, e *envoytest.Envoy, _ *envoytest.HTTPService) {
	wantAdmitted(t, e, 20, "/reports")
	wantAdmitted(t, e, 10, "/api/a", "x-customer", "alice")
	wantAdmitted(t, e, 10, "/api/b", "x-customer", "bob")
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for path, rule := range map[string]string{"/reports": "flow rule reports-a-day: 20 of 20", "/api/a": "hotspot rule plan: 10 of 10"} {
		r := e.Get("http", path, "x-customer", "alice")
		if want := "blocked by " + rule + " in this YEAR(Europe/Berlin)"; !strings.HasPrefix(r.Body, want) {
			t.Errorf("%s: %q, want %s", path, r.Body, want)
		}
		seconds, err := strconv.Atoi(r.Header.Get("retry-after"))
		now := time.Now()
		left := time.Date(now.In(berlin).Year()+1, 1, 1, 0, 0, 0, 0, berlin).Sub(now).Seconds()
		if d := float64(seconds) - left; err != nil || d < -5 || d > 60 {
			t.Errorf("%s: again after %d s, and the year ends in %.0f s", path, seconds, left)
		}
	}
}

// Only failed logins count; who has had too many is refused, and who goes on asking is banned. Others are none the wiser.
func seeLogin(t *testing.T, e *envoytest.Envoy, web *envoytest.HTTPService) {
	login := func(address string) envoytest.Response {
		client := envoytest.NewHTTPClient(false) // a connection of its own: any worker
		defer client.CloseIdleConnections()
		r, err := envoytest.Do(t.Context(), client, "POST", e.URL("http")+"/login", "x-forwarded-for", address)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	const thief, owner = "203.0.113.7", "203.0.113.8"
	for range 20 {
		if r := login(thief); r.Status != http.StatusOK {
			t.Fatalf("a login that succeeds: %d %s", r.Status, r.Body)
		}
	}
	for i := range 5 {
		web.Behave(envoytest.Behaviour{Status: []int{http.StatusUnauthorized, http.StatusForbidden}[i%2]})
		if r := login(thief); r.Status != http.StatusUnauthorized && r.Status != http.StatusForbidden {
			t.Fatalf("a login that fails: %d %s", r.Status, r.Body)
		}
	}
	web.Behave(envoytest.Behaviour{})
	before := web.Requests()
	for i := range 12 {
		want := "blocked by hotspot rule failed-logins: 5 of 5 answered 401,403 in "
		if i >= 2 {
			want = "blocked by hotspot rule failed-logins: 3 of 3 refusals in "
		}
		if r := login(thief); r.Status != http.StatusTooManyRequests || !strings.HasPrefix(r.Body, want) {
			t.Errorf("request %d after the last failure: %d %s, want %s", i, r.Status, r.Body, want)
		}
	}
	if web.Requests() != before {
		t.Error("the service was asked all the same")
	}
	if r := login(owner); r.Status != http.StatusOK {
		t.Errorf("another address gets %d %s", r.Status, r.Body)
	}
	if r := e.Get("http", "/login", "x-forwarded-for", thief); r.Status != http.StatusOK {
		t.Errorf("another resource gets %d", r.Status)
	}
	waitMetric(t, e, 1, "sentinel_hotspot_bans", "rule", "failed-logins")
	waitMetric(t, e, 10, "sentinel_hotspot_banned", "rule", "failed-logins")
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

// TestDataSourceExample runs the recipe with a source, beside a real etcd: its own rule holds, and then the etcd's.
func TestDataSourceExample(t *testing.T) {
	etcd := ruleserver.StartEtcd(t)
	web := envoytest.StartHTTPService(t)
	port := strconv.Itoa(envoytest.PortOf(t, etcd.Addr))
	e := example(t, "datasource.yaml", web.Addr(), endless, func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte("port_value: 2379"), []byte("port_value: "+port))
	})
	if passed := admitted(t, e, 120, 429, "/orders"); passed != 100 {
		t.Errorf("%d passed by the filter's own rule, want 100", passed)
	}
	etcd.Put(t, "/sentinel/shop", `{"flowRules": [{"id": "orders-qps", "resource": "/orders", "threshold": 1000000}]}`)
	envoytest.Eventually(t, soon, "the etcd's rule holds", func() bool { return e.Get("http", "/orders").Status == 200 })
	if n := e.Sum("sentinel_faults"); n != 0 {
		t.Errorf("%v faults", n)
	}
}

// TestPersistExample runs the recipe whose counts outlive Envoy, twice.
func TestPersistExample(t *testing.T) {
	s, web := startKeptFiles(t), envoytest.StartHTTPService(t)
	port := strconv.Itoa(envoytest.PortOf(t, s.addr))
	run := func() *envoytest.Envoy {
		return example(t, "persist.yaml", web.Addr(), endless, func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte("port_value: 18082"), []byte("port_value: "+port))
		})
	}
	e := run()
	wantAdmitted(t, e, 20, "/reports")
	wantAdmitted(t, e, 10, "/api/a", "x-customer", "alice")
	s.waitKept(t, "/sentinel/edge-1", 0, 1)
	if err := e.Kill(); err != nil {
		t.Fatal(err)
	}
	e = run()
	e.WaitLog(soon, `persist counts/sentinel/{node}: took over 3 counts of `) // with the key of the hash of customers
	for _, path := range []string{"/reports", "/api/b"} {
		envoytest.Eventually(t, soon, path+" is spent", func() bool {
			return e.Get("http", path, "x-customer", "alice").Status == http.StatusTooManyRequests
		})
	}
	wantAdmitted(t, e, 10, "/api/a", "x-customer", "bob")
	if n := e.Sum("sentinel_faults"); n != 0 {
		t.Errorf("%v faults", n)
	}
}

func seeMatch(t *testing.T, e *envoytest.Envoy, _ *envoytest.HTTPService) {
	const office, elsewhere = "192.0.2.7", "198.51.100.7"
	for _, others := range [][]string{ // what no entry takes
		{"/reports", "x", "y"}, {"/reports?format=pdf", "x", "y"}, {"/reports/7?format=csv", "x", "y"},
		{"/shop", "cookie", "session=1", "x-forwarded-for", elsewhere}, {"/shop", "x-forwarded-for", office}, {"/shop", "x-forwarded-for", "2001:db8::7"},
		{"/robots.txt", "user-agent", "Googlebot/2"}, {"/", "user-agent", "curl"},
	} {
		if got := admitted(t, e, 7, 0, others[0], others[1:]...); got != 7 {
			t.Errorf("%q: %d of 7 were let in", others, got)
		}
	}
	// All ways into one entry share its budget.
	wantAdmitted(t, e, 2, "/Reports/?x=1&format=csv")
	for _, path := range []string{"/reports?format=xlsx", "/REPORTS?%66ormat=%63sv", "/reports//?format=pdf&format=csv", "/reports?format=1&format=2&format=3&format=4&format=5"} {
		if got := admitted(t, e, 3, http.StatusTooManyRequests, path); got != 0 {
			t.Errorf("%s: %d more were let in", path, got)
		}
	}
	wantAdmitted(t, e, 5, "/shop/cart", "x-forwarded-for", office+", "+elsewhere)
	if got := admitted(t, e, 3, http.StatusTooManyRequests, "/shop", "cookie", "sessions=1; x=session"); got != 0 {
		t.Errorf("another cookie: %d more were let in", got)
	}
	wantAdmitted(t, e, 3, "/", "user-agent", "GoogleBOT/2")
	if got := admitted(t, e, 5, http.StatusTooManyRequests, "/healthz", "user-agent", "bot"); got != 5 {
		t.Errorf("what is unlimited: %d of 5 were let in", got)
	}
	if got := admitted(t, e, 5, http.StatusTooManyRequests, "/healthy", "user-agent", "bot"); got != 0 {
		t.Errorf("what is not unlimited: %d of 5 were let in", got)
	}
	waitMetric(t, e, 5, "sentinel_exempt", "resource", "health")
}

// Each limit holds by itself over all workers, and what one refuses is left to the others.
func seeSeveral(t *testing.T, e *envoytest.Envoy, web *envoytest.HTTPService) {
	ask := func(method, path string, n int) (passed int, by map[string]int) {
		by = map[string]int{}
		for i := range n {
			client := envoytest.NewHTTPClient(i%2 == 0) // a connection of its own: any worker
			r, err := envoytest.Do(t.Context(), client, method, e.URL("http")+path)
			client.CloseIdleConnections()
			if err != nil {
				t.Fatal(err)
			}
			if rule := blockedBy(t, r); rule != "" {
				by[rule]++
			} else {
				passed++
			}
		}
		return passed, by
	}
	if n, by := ask("POST", "/login", 60); n != 5 || by["login"] != 55 {
		t.Errorf("login: %d were let in, blocked by %v", n, by)
	}
	if n, by := ask("PUT", "/", 100); n != 45 || by["writes"] != 55 {
		t.Errorf("writes: %d were let in, blocked by %v", n, by)
	}
	if n, by := ask("GET", "/", 1000); n != 950 || by["all"] != 50 {
		t.Errorf("all: %d were let in, blocked by %v", n, by)
	}
	if n, _ := ask("POST", "/healthz", 10); n != 10 {
		t.Errorf("what is unlimited: %d of 10 were let in", n)
	}
	if n := web.Requests(); n != 1010 {
		t.Errorf("the service saw %d requests, want 1010", n)
	}
	for resource, n := range map[string]float64{"all": 1000, "writes": 50, "/login": 5} {
		waitMetric(t, e, n, "sentinel_passed", "resource", resource)
		waitMetric(t, e, n, "sentinel_completed", "resource", resource)
	}
}

func seeEgress(t *testing.T, e *envoytest.Envoy, _ *envoytest.HTTPService) {
	wantAdmitted(t, e, 5, "/v1/charges/7")
	for _, path := range []string{"/search?q=x", "/payments", "/"} {
		if got := admitted(t, e, 10, 0, path); got != 10 {
			t.Errorf("%s: %d of 10 were let in", path, got)
		}
	}
	waitMetric(t, e, 10, "sentinel_completed", "resource", "search")
	waitMetric(t, e, 5, "sentinel_passed", "resource", "payments")
}

func seeKeys(t *testing.T, e *envoytest.Envoy, _ *envoytest.HTTPService) {
	for _, c := range []struct {
		tenant, address string
		want            int
	}{
		{"acme", "192.0.2.7", 5}, {"ACME", "192.0.2.250", 0}, {"Acme", "::ffff:192.0.2.8", 0}, {"acme", "[192.0.2.9]:80", 0}, {"acme", "192.0.3.7", 5},
		{"beta", "192.0.2.7", 5}, {"beta", "2001:db8:0:1::7", 5}, {"beta", "2001:db8:0:1:ffff::1", 0}, {"beta", "2001:db8:0:2::7", 5},
	} {
		if got := admitted(t, e, 10, http.StatusTooManyRequests, "/api/x", "x-tenant", c.tenant, "x-forwarded-for", "1.2.3.4, "+c.address); got != c.want {
			t.Errorf("%s from %s: %d were let in, want %d", c.tenant, c.address, got, c.want)
		}
	}
	if got := admitted(t, e, 10, 0, "/api/x"); got != 10 {
		t.Errorf("without a tenant %d of 10 were let in", got)
	}
	waitMetric(t, e, 10, "sentinel_hotspot_absent", "rule", "per-tenant-and-network")
	wantAdmitted(t, e, 3, "/search?user=a")
	for _, c := range []struct {
		user string
		want int
	}{{"gold-1", 20}, {"gold-2", 20}, {"a-trial", 2}, {"b-trial", 0}, {"%62-trial", 0}, {"bot7", 0}, {"ops", 30}, {"bots", 3}} {
		if got := admitted(t, e, 30, http.StatusTooManyRequests, "/search?user="+c.user); got != c.want {
			t.Errorf("%s: %d were let in, want %d", c.user, got, c.want)
		}
	}
	waitMetric(t, e, 30, "sentinel_hotspot_exempt", "rule", "per-user")
	wantAdmitted(t, e, 3, "/search")
	for _, path := range []string{"/search?user=", "/search?users=b", "/search?user=a&user="} {
		if got := admitted(t, e, 3, http.StatusTooManyRequests, path); got != 0 {
			t.Errorf("%s: %d more were let in", path, got)
		}
	}
}
