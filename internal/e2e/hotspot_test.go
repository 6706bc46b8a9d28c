package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// asking sends n requests, the ith as request says, over a number of connections at once, and counts those that are let
// through by the first header's value. What is refused must be so by the rule.
func asking(t *testing.T, e *envoytest.Envoy, rule string, n int, request func(i int) (path string, headers []string)) map[string]int {
	t.Helper()
	var mu sync.Mutex
	passed := map[string]int{}
	next := make(chan int)
	var wg sync.WaitGroup
	for range 4 * workers {
		wg.Go(func() {
			client := envoytest.NewHTTPClient(false)
			defer client.CloseIdleConnections()
			for i := range next {
				path, headers := request(i)
				r, err := envoytest.Do(t.Context(), client, "GET", e.URL("http")+path, append(headers, "x-delay-ms", "0")...)
				if err != nil {
					t.Error(err)
					continue
				}
				mu.Lock()
				switch {
				case r.Status == http.StatusOK:
					key := path
					if len(headers) > 1 {
						key = headers[1]
					}
					passed[key]++
				case r.Status != http.StatusTooManyRequests || !strings.HasPrefix(r.Body, "blocked by hotspot rule "+rule+": "):
					t.Errorf("%s %v: status %d, %q", path, headers, r.Status, r.Body)
				}
				mu.Unlock()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return passed
}

// envoy/examples/hotspot.yaml: each value has a limit of its own, over all workers.
func TestHotspot(t *testing.T) {
	upstream := startOccupied(t)
	e := example(t, "hotspot.yaml", upstream.addr)
	for _, s := range []struct {
		name string
		see  func(t *testing.T, e *envoytest.Envoy)
	}{
		{"header", seeUsers},
		{"query parameter", seeTenants},
		{"in flight", seeExports},
		{"throttling", seePages},
		{"connections", seeSources},
	} {
		t.Run(s.name, func(t *testing.T) { s.see(t, e.For(t)) })
	}
	if n := metric(e, "sentinel_faults"); n != 0 {
		t.Errorf("%v faults", n)
	}
}

// seeUsers has to be over within the minute that the rule is for.
func seeUsers(t *testing.T, e *envoytest.Envoy) {
	users := []string{"alice", "bob", "carol", "gold"}
	as := func(i int) (string, []string) { return "/users?x=1", []string{"x-user", users[i%len(users)]} }
	for user, n := range asking(t, e, "per-user", 800, as) {
		want := 15
		if user == "gold" {
			want = 105
		}
		if n != want {
			t.Errorf("%s had %d requests let through, want %d", user, n, want)
		}
	}
	// More values than the rule tracks.
	const many = 6000
	cold := asking(t, e, "per-user", many, func(i int) (string, []string) { return "/users", []string{"x-user", fmt.Sprint("cold ", i)} })
	if len(cold) != many {
		t.Errorf("%d of %d values were let through", len(cold), many)
	}
	if again := asking(t, e, "per-user", 400, as); len(again) != 0 {
		t.Errorf("after a flood of other values %v more were let through", again)
	}
	if got := asking(t, e, "", 50, func(int) (string, []string) { return "/users", nil }); got["/users"] != 50 {
		t.Errorf("without the header %v of 50 were let through", got)
	}
	deadline := time.Now().Add(soon)
	for metric(e, "sentinel_hotspot_evicted", "rule", "per-user") == 0 {
		if time.Now().After(deadline) {
			t.Fatal("no value was evicted, or it was not counted")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func seeTenants(t *testing.T, e *envoytest.Envoy) {
	forms := []string{"/tenants?tenant=acme", "/tenants?a=b&tenant=acme&tenant=x", "/tenants?tenant=%61cme", "/tenants?tenant=initech"}
	got := asking(t, e, "per-tenant", 400, func(i int) (string, []string) { return forms[i%len(forms)], nil })
	if acme := got[forms[0]] + got[forms[1]] + got[forms[2]]; acme != 20 || got[forms[3]] != 20 {
		t.Errorf("%v were let through, want 20 of each tenant", got)
	}
}

func seeExports(t *testing.T, e *envoytest.Envoy) {
	export := func(forwarded string) (end func(), ok bool) {
		client := envoytest.NewHTTPClient(false)
		client.Timeout = 0
		req, err := http.NewRequestWithContext(t.Context(), "GET", e.URL("http")+"/exports", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("x-forwarded-for", forwarded)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		end = func() { resp.Body.Close(); client.CloseIdleConnections() }
		t.Cleanup(end)
		return end, letIn(t, resp.StatusCode, 200, 429)
	}
	var ends []func()
	for i := range 12 { // what the client itself writes is not trusted
		end, ok := export(fmt.Sprintf("10.0.0.%d, 198.51.100.1", i))
		if ok {
			ends = append(ends, end)
		}
	}
	if len(ends) != 2 {
		t.Fatalf("%d at a time, want 2", len(ends))
	}
	if _, ok := export("198.51.100.2"); !ok {
		t.Error("another client is refused")
	}
	ends[0]()
	for deadline := time.Now().Add(soon); ; {
		if _, ok := export("198.51.100.1"); ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("what has ended still counts")
		}
	}
	if _, ok := export("198.51.100.1"); ok {
		t.Error("a third is let in")
	}
}

func seePages(t *testing.T, e *envoytest.Envoy) {
	began := time.Now()
	got := asking(t, e, "per-session", 10, func(i int) (string, []string) {
		return "/pages", []string{"cookie", fmt.Sprintf("a=b; session=s%d", i%2)}
	})
	for session, n := range got {
		if n != 5 {
			t.Errorf("%s: %d of 5 were let through", session, n)
		}
	}
	if took := time.Since(began); len(got) != 2 || took < 400*time.Millisecond {
		t.Errorf("%v took %v: five need at least 400 ms", got, took)
	}
}

func seeSources(t *testing.T, e *envoytest.Envoy) {
	for _, source := range []string{"127.0.0.1", "127.0.0.2"} {
		passed := 0
		for range 30 {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
			conn, err := dialer.DialContext(t.Context(), "tcp", e.Addr("tcp"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte("GET /tcp HTTP/1.1\r\nhost: a\r\nx-delay-ms: 0\r\n\r\n")); err == nil {
				if _, err = http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
					passed++
				}
			}
			conn.Close()
		}
		if passed != 10 {
			t.Errorf("%s: %d connections, want 10", source, passed)
		}
	}
}
