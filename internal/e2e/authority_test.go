package e2e

import (
	"net/http"
	"strings"
	"testing"

	"sentinel-envoy/internal/envoytest"
)

// envoy/examples/authority.yaml: who may enter, and limits of some callers' own, by all workers together.
func TestAuthority(t *testing.T) {
	upstream := startOccupied(t)
	e := example(t, "authority.yaml", upstream.addr)
	client := envoytest.NewHTTPClient(false)
	t.Cleanup(client.CloseIdleConnections)
	passed := func(path, app string, n int) (passed int) {
		t.Helper()
		headers := []string{"x-delay-ms", "0"}
		if app != "" {
			headers = append(headers, "x-app", app)
		}
		for range n {
			r, err := envoytest.Do(t.Context(), client, "GET", e.URL("http")+path, headers...)
			switch {
			case err != nil:
				t.Fatal(err)
			case r.Status == http.StatusOK:
				passed++
			case r.Status != http.StatusTooManyRequests || !strings.HasPrefix(r.Body, "blocked by "):
				t.Errorf("%s by %q: status %d, %q", path, app, r.Status, r.Body)
			}
		}
		return passed
	}
	for _, c := range []struct {
		path, app   string
		tries, want int
	}{
		{"/admin", "ops", 2, 2}, {"/admin", "ci", 1, 1}, {"/admin", "crawler", 2, 0}, {"/admin", "", 2, 0},
		{"/orders", "crawler", 2, 0}, {"/orders", "batch", 9, 5}, {"/orders", "a", 15, 15}, {"/orders", "b", 15, 5}, {"/orders", "", 80, 75},
	} {
		if got := passed(c.path, c.app, c.tries); got != c.want {
			t.Errorf("%s by %q: %d of %d pass, want %d", c.path, c.app, got, c.tries, c.want)
		}
	}
	const want = "blocked by authority rule who-admins: its origin may not enter; last second "
	envoytest.Eventually(t, soon, "it says why, and what all workers saw", func() bool {
		r, err := envoytest.Do(t.Context(), client, "GET", e.URL("http")+"/admin", "x-app", "crawler")
		return err == nil && strings.HasPrefix(r.Body, want)
	})
	if r, err := envoytest.Do(t.Context(), client, "GET", e.URL("http")+"/admin"); err != nil || !strings.Contains(r.Body, "it names no origin") {
		t.Errorf("%v %q", err, r.Body)
	}
}
