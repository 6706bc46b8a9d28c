package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/request/requesttest"
	"sentinel-envoy/shared/rule"
)

// perUser is a hotspot rule on the resource "r" for the header x-user.
func perUser(id string, threshold int64) rule.Hotspot {
	return rule.Hotspot{
		Target: rule.Target{ID: id, Resource: "r"}, MetricType: rule.HotspotQPS, Threshold: threshold, DurationInSec: 1,
		Param: rule.Param{ParamSource: rule.Header, ParamKey: "X-User"},
	}
}

func hot(rules ...rule.Hotspot) *config.Config {
	return &config.Config{ResourceName: "r", Rules: list(rules)}
}

// as makes both filters of a worker see a user's requests.
func (wk *worker) as(user string) *requesttest.Client {
	c := &requesttest.Client{Headers: map[string]string{"x-user": user}, Asked: map[string]int{}}
	wk.http.Stream.Of(c)
	wk.tcp.Stream.Of(c)
	return c
}

func TestHotspotIsOneBudgetPerValue(t *testing.T) {
	r := perUser("h", 5)
	r.BurstCount = 2
	r.SpecificItems = []rule.SpecificItem{{ValKind: rule.KindString, ValStr: "gold", Threshold: 20}, {ValStr: "7", Threshold: 0}}
	w := newProcess(3, hot(r))
	for user, want := range map[string]int{"alice": 7, "bob": 7, "gold": 22, "7": 0} {
		got := 0
		for range 10 {
			for _, wk := range w.workers {
				wk.as(user)
				got += admit(wk.http, 1, w.Now()) + admit(wk.tcp, 1, w.Now())
			}
		}
		if got != want {
			t.Errorf("%s: all workers admit %d, want %d", user, got, want)
		}
	}
	for _, wk := range w.workers {
		wk.http.Stream.Of(&requesttest.Client{})
		if got := admit(wk.http, 100, w.Now()); got != 100 {
			t.Errorf("%d of 100 requests without the parameter pass", got)
		}
	}
	w.run(second + 2*millisecond)
	w.workers[0].as("alice")
	if got := admit(w.workers[0].http, 20, w.Now()); got != 5 {
		t.Errorf("%d after a second, want 5: what was saved up is spent", got)
	}
}

func TestHotspotParameterIsReadOnce(t *testing.T) {
	w := newProcess(1, hot(perUser("a", 5), perUser("b", 1000)))
	wk := w.workers[0]
	c := wk.as("alice")
	for i := range 10 {
		wk.http.Stream.Begin()
		admit(wk.http, 1, w.Now())
		if c.Asked["x-user"] != i+1 {
			t.Fatalf("asked %d times in %d requests", c.Asked["x-user"], i+1)
		}
	}
	wk.http.Enter("unknown", w.Now(), &engine.Entry{})
	if c.Asked["x-user"] != 10 {
		t.Error("asked where no rule is")
	}
}

func TestHotspotSaysWhy(t *testing.T) {
	c := hot(perUser("per-user", 2))
	w := newProcess(1, c)
	wk := w.workers[0]
	wk.as("alice")
	admit(wk.http, 2, w.Now())
	var e engine.Entry
	b := wk.http.Enter("r", w.Now(), &e)
	if b == nil || b.Reason != rule.HotspotFamily.Name || b.Rule != "per-user" || b.Threshold != 2 || b.RetryAfterMs != 1001 {
		t.Fatalf("%+v", b)
	}
	want := "blocked by hotspot rule per-user: 2 of 2 in 1000 ms for one header x-user"
	if text := string(wk.http.Explain(b, w.Now()).AppendText(nil)); !strings.HasPrefix(text, want) {
		t.Errorf("%q, want %q", text, want)
	}
	w.run(second)
	if n, _ := w.Metric("sentinel_blocked;resource=r;rule=per-user;kind=hotspot"); n != 1 {
		t.Errorf("%d blocked", n)
	}
}

// What a later rule refuses takes nothing from the value.
func TestHotspotGivesBack(t *testing.T) {
	for _, metric := range []rule.HotspotMetric{rule.HotspotQPS, rule.HotspotConcurrency} {
		all, one := perUser("all", 5), perUser("one", 2)
		all.MetricType = metric
		one.SpecificItems = []rule.SpecificItem{{ValStr: "a", Threshold: 2}}
		w := newProcess(1, hot(all, one))
		wk := w.workers[0]
		wk.as("alice")
		for range 20 {
			wk.http.Enter("r", w.Now(), &engine.Entry{})
		}
		only := hot(all)
		only.RuleHash++
		wk.update(only)
		wk.as("alice")
		got := 0
		for range 20 {
			if wk.http.Enter("r", w.Now(), &engine.Entry{}) == nil {
				got++
			}
		}
		if got != 3 {
			t.Errorf("%s: %d more are admitted, want 3", metric, got)
		}
	}
}

func TestHotspotShadowSpendsItsOwn(t *testing.T) {
	c := hot(perUser("h", 3))
	w := newProcess(1, c)
	shadow := *c
	shadow.Mode = config.Shadow
	other := w.join(&shadow)
	other.as("alice")
	w.workers[0].as("alice")
	if got := admit(other.http, 10, w.Now()); got != 10 {
		t.Errorf("shadow blocks: %d of 10", got)
	}
	if got := admit(w.workers[0].http, 10, w.Now()); got != 3 {
		t.Errorf("%d of 3", got)
	}
}

func TestHotspotThrottlingWaits(t *testing.T) {
	r := perUser("h", 10)
	r.ControlBehavior, r.MaxQueueingTimeMs = rule.Throttling, 250
	w := newProcess(2, hot(r))
	var turns []int64
	for i := range 6 {
		wk := w.workers[i%2]
		wk.as("alice")
		var e engine.Entry
		b := wk.http.Enter("r", w.Now(), &e)
		until, waits := e.Waiting()
		switch {
		case b != nil:
			if i < 3 || b.Measure != "ms to wait for one header x-user" {
				t.Errorf("%d: %+v", i, b)
			}
		case waits:
			turns = append(turns, until-w.Now())
		default:
			turns = append(turns, 0)
		}
	}
	if len(turns) != 3 || turns[0] != 0 || turns[1] != 100*millisecond || turns[2] != 200*millisecond {
		t.Errorf("turns %v", turns)
	}
	w.workers[0].as("bob")
	var e engine.Entry
	if _, waits := e.Waiting(); w.workers[0].http.Enter("r", w.Now(), &e) != nil || waits {
		t.Error("another value waits, too")
	}
}

func TestHotspotConcurrencyPerValue(t *testing.T) {
	r := perUser("h", 3)
	r.MetricType, r.DurationInSec = rule.HotspotConcurrency, 0
	w := newProcess(3, hot(r))
	enter := func(wk *worker, user string) (open []*engine.Entry) {
		wk.as(user)
		return crowdIn(wk.http, w.Now())
	}
	if got := enter(w.workers[0], "alice"); len(got) != 3 {
		t.Fatalf("%d in flight", len(got))
	}
	bobs := enter(w.workers[1], "bob")
	if len(bobs) != 3 || len(enter(w.workers[2], "alice")) != 0 {
		t.Fatalf("%d of bob's", len(bobs))
	}
	w.workers[0].gone = true
	w.run(3 * second)
	leave(bobs[:1], w.Now())
	if len(enter(w.workers[2], "bob")) != 1 || len(enter(w.workers[2], "alice")) != 3 {
		t.Error("places that are free were not taken, or others")
	}
	leave(bobs[1:], w.Now())
	w.run(10 * second)
	for _, wk := range w.workers {
		if n := wk.Faults(); n != 0 {
			t.Errorf("%d faults", n)
		}
	}
}

// Rules that come and go leave nothing behind, in the worker or in shared data.
func TestHotspotRulesComeAndGo(t *testing.T) {
	w := newProcess(1, hot(perUser("h", 3)))
	wk := w.workers[0]
	var keys int
	for i := range 200 {
		wk.update(hot(perUser("h", int64(i))))
		wk.as("alice")
		admit(wk.http, 3, w.Now())
		w.run(tick)
		if i == 50 {
			keys, _ = w.Keys()
		}
	}
	if now, _ := w.Keys(); now != keys {
		t.Errorf("%d keys after 50 updates, %d after 200 one rule", keys, now)
	}
	if n := wk.Records(); n != 1 { // the seed
		t.Errorf("%d records are kept", n)
	}
}

func TestHotspotExpressionKeepsResourcesApart(t *testing.T) {
	r := perUser("h", 2)
	r.Target = matching(r.ID, "a|b")
	c := hot(r)
	c.Resources = []config.Resource{{Name: "a"}, {Name: "b"}}
	w := newProcess(1, c)
	wk := w.workers[0]
	wk.as("alice")
	for _, name := range []string{"a", "b"} {
		got := 0
		for range 5 {
			if wk.http.Enter(name, w.Now(), &engine.Entry{}) == nil {
				got++
			}
		}
		if got != 2 {
			t.Errorf("%s: %d, want 2", name, got)
		}
	}
}

// A request that gives several values is charged to each, and to none where one of them refuses.
func TestHotspotChargesEachValue(t *testing.T) {
	for _, metric := range []rule.HotspotMetric{rule.HotspotQPS, rule.HotspotConcurrency} {
		r := perUser("h", 2)
		r.MetricType = metric
		w := newProcess(1, hot(r))
		wk := w.workers[0]
		give := func(users ...string) *requesttest.Client {
			c := &requesttest.Client{Headers: map[string]string{"x-user": users[0]}, More: map[string][]string{"x-user": users[1:]}}
			wk.http.Stream.Of(c)
			return c
		}
		open := func(n int) (in int) {
			for range n {
				if wk.http.Enter("r", w.Now(), &engine.Entry{}) == nil {
					in++
				}
			}
			return in
		}
		give("any1", "real")
		first := open(1)
		give("any2", "real")
		if second := open(5); first+second != 2 {
			t.Errorf("%s: %d with another value beside the real one, want 2", metric, first+second)
		}
		give("any1")
		if n := open(5); n != 1 {
			t.Errorf("%s: the first value has %d more, want 1", metric, n)
		}
		give("any2")
		if n := open(5); n != 1 {
			t.Errorf("%s: the second value has %d more, want 1: what was refused took something", metric, n)
		}
		give("1", "2", "3", "4", "5")
		b := wk.http.Enter("r", w.Now(), &engine.Entry{})
		if b == nil || b.Rule != "h" || b.Seen != 5 || b.Threshold != 4 || b.Measure != "values of one header x-user in one request" {
			t.Errorf("%s: five values: %+v", metric, b)
		}
		give("1", "2", "3", "4")
		if n := open(5); n != 2 {
			t.Errorf("%s: four values: %d, want 2", metric, n)
		}
	}
}

// A value that is unlimited is not limited, and counted; beside others it takes nothing and lets none of them out.
func TestHotspotUnlimitedValue(t *testing.T) {
	for _, metric := range []rule.HotspotMetric{rule.HotspotQPS, rule.HotspotConcurrency} {
		r := perUser("h", 2)
		r.MetricType = metric
		r.SpecificItems = []rule.SpecificItem{{ValKind: rule.KindString, ValStr: "free", Threshold: rule.Unlimited}}
		w := newProcess(1, hot(r))
		wk := w.workers[0]
		enter := func(n int, users ...string) (in []engine.Entry) {
			wk.http.Stream.Of(&requesttest.Client{Headers: map[string]string{"x-user": users[0]}, More: map[string][]string{"x-user": users[1:]}})
			for range n {
				e := engine.Entry{}
				if wk.http.Enter("r", w.Now(), &e) == nil {
					in = append(in, e)
				}
			}
			return in
		}
		if n := len(enter(10, "free")); n != 10 {
			t.Errorf("%s: %d of 10", metric, n)
		}
		both := append(enter(1, "free", "a"), enter(5, "a", "free")...)
		if len(both) != 2 {
			t.Errorf("%s: %d with another value, want 2", metric, len(both))
		}
		for i := range both {
			both[i].Exit(w.Now(), outcome.End{})
		}
		if n := len(enter(5, "a")); metric == rule.HotspotConcurrency && n != 2 {
			t.Errorf("after they have left %d are let in, want 2", n)
		}
		w.run(600e6)
		if got, _ := w.Metric("sentinel_hotspot_exempt;resource=r;rule=h"); got != 12 {
			t.Errorf("%s: %v are counted as exempt, want 12", metric, got)
		}
		if got, _ := w.Metric("sentinel_faults"); got != 0 {
			t.Errorf("%v faults", got)
		}
	}
}

// A value of several parameters has a budget of its own; items are about the first.
func TestHotspotSeveralParameters(t *testing.T) {
	for _, metric := range []rule.HotspotMetric{rule.HotspotQPS, rule.HotspotConcurrency} {
		r := perUser("h", 2)
		r.MetricType = metric
		r.Param, r.Params = rule.Param{}, []rule.Param{
			{ParamSource: rule.Header, ParamKey: "x-tenant"}, {ParamSource: rule.SourceAddress, V4PrefixLen: 24}}
		w := newProcess(2, hot(r))
		from := func(tenant, address string) int {
			n := 0
			for i := range 10 {
				f := w.workers[i%2].http
				c := &requesttest.Client{Headers: map[string]string{}, Properties: map[string]string{"source.address": address + ":1"}}
				if tenant != "" {
					c.Headers["x-tenant"] = tenant
				}
				f.Stream.Of(c)
				if f.Enter("r", w.Now(), &engine.Entry{}) == nil {
					n++
				}
			}
			return n
		}
		for _, c := range []struct {
			tenant, address string
			want            int
		}{
			{"a", "192.0.2.1", 2}, {"a", "192.0.2.200", 0}, {"a", "192.0.3.1", 2}, {"b", "192.0.2.1", 2}, {"", "192.0.2.1", 10},
			{"a192.0.2.0", "", 2}, {"a", "[::ffff:192.0.2.9]", 0},
		} {
			if got := from(c.tenant, c.address); got != c.want {
				t.Errorf("%s: %s from %s: %d, want %d", metric, c.tenant, c.address, got, c.want)
			}
		}
		w.run(600e6)
		if got, _ := w.Metric("sentinel_faults"); got != 0 {
			t.Errorf("%v faults", got)
		}
	}
}

// Tiers: each value has the tier's threshold for itself, or all have it together; no value of a client's is the shared one.
func TestHotspotTiers(t *testing.T) {
	for _, metric := range []rule.HotspotMetric{rule.HotspotQPS, rule.HotspotConcurrency} {
		r := perUser("h", 1)
		r.MetricType = metric
		r.SpecificItems = []rule.SpecificItem{
			{Pattern: rule.PatternPrefix, ValStr: "gold-", Threshold: 4}, {Pattern: rule.PatternSuffix, ValStr: "-trial", Threshold: 3, Shared: true},
			{ValStr: "x-trial", Threshold: 2}, {Pattern: rule.PatternRegex, ValStr: "free[0-9]", Threshold: rule.Unlimited},
		}
		w := newProcess(2, hot(r))
		enter := func(user string, n int) (in int) {
			for i := range n {
				f := w.workers[i%2].http
				f.Stream.Of(&requesttest.Client{Headers: map[string]string{"x-user": user}})
				if f.Enter("r", w.Now(), &engine.Entry{}) == nil {
					in++
				}
			}
			return in
		}
		for _, c := range []struct {
			user string
			want int
		}{{"gold-a", 4}, {"gold-b", 4}, {"a-trial", 3}, {"b-trial", 0}, {"x-trial", 2}, {"a", 1}, {"suffix", 1}, {"-trial", 0}, {"free1", 10}, {"free", 1}} {
			if got := enter(c.user, 10); got != c.want {
				t.Errorf("%s: %s: %d, want %d", metric, c.user, got, c.want)
			}
		}
		for i := range 10_000 { // however many values of a tier a worker has seen
			w.workers[i%2].http.Stream.Of(&requesttest.Client{Headers: map[string]string{"x-user": fmt.Sprint("gold-", i)}})
			w.workers[i%2].http.Enter("r", w.Now(), &engine.Entry{})
		}
		if n := enter("b-trial", 5) + enter("gold-a", 5); n != 0 {
			t.Errorf("%s: after many others %d more", metric, n)
		}
		w.run(600e6)
		if got, _ := w.Metric("sentinel_faults"); got != 0 {
			t.Errorf("%v faults", got)
		}
	}
}

// A tier of several parameters is about the first: a shared one has a budget with each value of the others.
func TestHotspotTiersOfSeveralParameters(t *testing.T) {
	r := perUser("h", 1)
	r.Params = []rule.Param{r.Param, {ParamSource: rule.Query, ParamKey: "q"}}
	r.SpecificItems = []rule.SpecificItem{{ValStr: "gold", Threshold: 4}, {Pattern: rule.PatternSuffix, ValStr: "-trial", Threshold: 3, Shared: true}}
	w := newProcess(1, hot(r))
	f := w.workers[0].http
	for _, c := range []struct {
		user, q string
		want    int
	}{{"gold", "1", 4}, {"gold", "2", 4}, {"a-trial", "1", 3}, {"b-trial", "1", 0}, {"b-trial", "2", 3}, {"a", "1", 1}} {
		f.Stream.Of(&requesttest.Client{Headers: map[string]string{"x-user": c.user, ":path": "/?q=" + c.q}})
		if got := admit(f, 10, w.Now()); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// Each address in a network has the network's threshold for itself, of several the smallest's.
func TestHotspotNetworks(t *testing.T) {
	r := perUser("h", 1)
	r.ParamSource, r.ParamKey = rule.SourceAddress, ""
	r.SpecificItems = []rule.SpecificItem{
		{ValStr: "10.0.0.0/8", Threshold: 3}, {ValStr: "10.1.0.0/16", Threshold: 5}, {ValStr: "10.1.2.3", Threshold: 7},
	}
	w := newProcess(1, hot(r))
	wk := w.workers[0]
	for address, want := range map[string]int{"10.9.9.9": 3, "10.9.9.8": 3, "10.1.9.9": 5, "10.1.2.3": 7, "11.0.0.1": 1} {
		wk.http.Stream.Of(&requesttest.Client{Properties: map[string]string{"source.address": address + ":4711"}})
		if got := admit(wk.http, 10, w.Now()); got != want {
			t.Errorf("%s: %d, want %d", address, got, want)
		}
	}
}
