package engine_test

import (
	"strings"
	"testing"

	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/request/requesttest"
)

const fromHeader = `"origin": {"from": "Header", "name": "x-user"}`

// enterAs is how many of n requests of an origin enter; "" is none.
func enterAs(w *process, wk *worker, origin string, n int) int {
	c := &requesttest.Client{Headers: map[string]string{}}
	if origin != "" {
		c.Headers["x-user"] = origin
	}
	wk.http.Stream.Of(c)
	return admit(wk.http, n, w.Now())
}

func TestAuthority(t *testing.T) {
	for _, c := range []struct {
		rule   string
		enters map[string]bool
	}{
		{`"limitApp": "shop,cart", "strategy": "allow"`, map[string]bool{"shop": true, "cart": true, "sho": false, "Shop": false, "": true}},
		{`"limitApp": "shop,cart", "strategy": 0, "emptyOrigin": "block"`, map[string]bool{"cart": true, "other": false, "": false}},
		{`"limitApp": "shop", "strategy": "deny"`, map[string]bool{"shop": false, "cart": true, "": true}},
		{`"limitApp": "shop", "strategy": 1, "emptyOrigin": "block"`, map[string]bool{"shop": false, "cart": true, "": false}},
	} {
		w := newProcess(1, parsed(t, `"authorityRules": [{"id": "a", "resource": "r", `+c.rule+`}], `+fromHeader))
		for origin, enters := range c.enters {
			if got := enterAs(w, w.workers[0], origin, 1) == 1; got != enters {
				t.Errorf("%s: %q enters: %t, want %t", c.rule, origin, got, enters)
			}
		}
	}
}

// An authority rule is asked first, and says why without a figure.
func TestAuthorityIsFirst(t *testing.T) {
	w := newProcess(1, parsed(t, `"systemRules": [{"id": "s", "metricType": "InboundQPS", "triggerCount": 0}],
		"authorityRules": [{"id": "a", "resource": "r", "limitApp": "shop"}], `+fromHeader))
	f := w.workers[0].http
	f.Stream.Of(caller("cart"))
	b := f.Enter("r", w.Now(), &engine.Entry{})
	if b == nil || b.Reason != "authority" || b.Rule != "a" || b.RetryAfterMs != -1 || string(b.AppendText(nil)) != "its origin may not enter" {
		t.Errorf("%+v", b)
	}
	f.Stream.Of(caller("shop"))
	if b := f.Enter("r", w.Now(), &engine.Entry{}); b == nil || b.Reason != "system" {
		t.Errorf("%+v", b)
	}
}

// Nobody gets in by saying an allowed name beside another, or more names than are looked at.
func TestAuthorityOfSeveralOrigins(t *testing.T) {
	w := newProcess(1, parsed(t, `"authorityRules": [{"id": "a", "resource": "r", "limitApp": "shop"}], `+fromHeader))
	for lines, want := range map[string]int{"shop,shop": 1, "shop,cart": 0, "shop,b,c,d,e,f": 0} {
		all := strings.Split(lines, ",")
		w.workers[0].http.Stream.Of(&requesttest.Client{
			Headers: map[string]string{"x-user": all[0]}, More: map[string][]string{"x-user": all[1:]},
		})
		if got := admit(w.workers[0].http, 1, w.Now()); got != want {
			t.Errorf("%s: %d enter, want %d", lines, got, want)
		}
	}
}

// A rule for one origin counts its requests alone, one for others those of all whom no rule names, and one for default all.
func TestLimitApp(t *testing.T) {
	w := newProcess(2, parsed(t, `"flowRules": [{"id": "shop", "resource": "r", "limitApp": "shop", "threshold": 5},
		{"id": "other", "resource": "r", "limitApp": "other", "threshold": 3}, {"id": "all", "resource": "r", "threshold": 10}], `+fromHeader))
	for i, step := range []struct {
		origin      string
		tries, want int
	}{
		{"shop", 8, 5}, {"shop", 1, 0}, {"a", 2, 2}, {"b", 2, 1}, {"", 5, 2}, {"", 1, 0},
	} {
		if got := enterAs(w, w.workers[i%2], step.origin, step.tries); got != step.want {
			t.Errorf("step %d: %d of %d requests of %q enter, want %d", i, got, step.tries, step.origin, step.want)
		}
	}
}

// What is refused later gives nothing back to a rule that it was not asked about.
func TestLimitAppGivesBackNothingItDidNotTake(t *testing.T) {
	w := newProcess(1, parsed(t, `"isolationRules": [{"id": "shop", "resource": "r", "limitApp": "shop", "threshold": 1},
		{"id": "none", "resource": "r", "limitApp": "none", "threshold": 1}],
		"hotspotRules": [{"id": "h", "resource": "r", "metricType": "QPS", "durationInSec": 1, "threshold": 0, "paramSource": "Host"}], `+fromHeader))
	wk := w.workers[0]
	entries := make([]engine.Entry, 4)
	enter := func(i int, origin, host string) bool {
		c := &requesttest.Client{Headers: map[string]string{"x-user": origin}}
		if host != "" { // then the hotspot rule refuses
			c.Headers[":authority"] = host
		}
		wk.http.Stream.Of(c)
		return wk.http.Enter("r", w.Now(), &entries[i]) == nil
	}
	if !enter(0, "shop", "") || enter(1, "cart", "h") || enter(2, "shop", "") {
		t.Error("the one place of shop was given back by cart, which had none")
	}
	exitWell(&entries[0], w.Now())
	if !enter(3, "shop", "") {
		t.Error("the place is not free")
	}
}

// A filter decides by its own origin, also where another of the same root_id has the same rule.
func TestOriginsOfTwoFilters(t *testing.T) {
	const rules = `"flowRules": [{"id": "shop", "resource": "r", "limitApp": "shop", "threshold": 5}], `
	w := newProcess(1, parsed(t, rules+fromHeader))
	wk := w.workers[0]
	other := wk.NewFilter("sentinel_http", parsed(t, rules+`"origin": {"from": "Host"}`), nil)
	c := &requesttest.Client{Headers: map[string]string{"x-user": "cart", ":authority": "shop"}}
	other.Stream.Of(c)
	wk.http.Stream.Of(c)
	if got := admit(wk.http, 20, w.Now()); got != 20 {
		t.Errorf("%d of cart enter", got)
	}
	if got := admit(other, 20, w.Now()); got != 5 {
		t.Errorf("%d of host shop enter, want 5", got)
	}
}
