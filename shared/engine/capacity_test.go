package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/family/hotspot"
	"sentinel-envoy/shared/record"
)

// fits is a configuration that an HTTP filter could have.
func fits(t *testing.T, document string) *config.Config {
	t.Helper()
	c, err := config.Parse([]byte(document), config.KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// numbered are n texts with their number in place of each %d.
func numbered(n int, format string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = strings.ReplaceAll(format, "%d", fmt.Sprint(i))
	}
	return strings.Join(all, ", ")
}

// ask asks n times for a resource as a user, each time on another worker, and returns how often it was let in.
func (w *process) ask(resource, user string, n int) (admitted int) {
	for i := range n {
		wk := w.workers[i%len(w.workers)]
		wk.as(user)
		wk.http.Stream.Begin()
		var e engine.Entry
		if wk.http.Enter(resource, w.Now(), &e) == nil {
			admitted++
			e.Finish(w.Now(), false)
		}
	}
	return admitted
}

// unlimited is how many of 500 pairs of a resource and a user are let in more often than thrice within a window.
func (w *process) unlimited(resources int) (pairs int) {
	for i := range 500 {
		if w.ask(fmt.Sprint("/", i%resources), fmt.Sprint("user ", i), 5) != 3 {
			pairs++
		}
	}
	return pairs
}

const ofUser = `"metricType": 1, "durationInSec": 1, "paramSource": "Header", "paramKey": "x-user"`

// However many resources one hotspot rule is for, and however many rules there are: what was accepted is enforced.
func TestHotspotRulesHoldForAllResources(t *testing.T) {
	for name, c := range map[string]struct {
		resources int
		document  string
	}{
		"one rule for 300 resources": {300, `{"resources": [` + numbered(300, `{"name": "/%d", "match": {"path": {"exact": "/%d"}}}`) + `],
			"hotspotRules": [{"id": "h", "resource": "/.*", "regex": true, "threshold": 3, ` + ofUser + `}]}`},
		"200 rules":  {200, `{"hotspotRules": [` + numbered(200, `{"id": "h%d", "resource": "/%d", "threshold": 3, `+ofUser+`}`) + `]}`},
		"3000 rules": {3000, `{"hotspotRules": [` + numbered(3000, `{"resource": "/%d", "threshold": 3, `+ofUser+`}`) + `]}`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newProcess(2, fits(t, c.document))
			if n := w.unlimited(c.resources); n > 0 {
				t.Errorf("%d of 500 pairs are not limited", n)
			}
			if n := w.workers[0].Faults() + w.workers[1].Faults(); n > 0 {
				t.Errorf("%d faults", n)
			}
		})
	}
}

// Rules without ids whose thresholds change once a minute are as many budgets as before.
func TestHotspotRulesHoldHoweverOftenTheyChange(t *testing.T) {
	document := func(threshold int) *config.Config {
		return fits(t, `{"hotspotRules": [`+numbered(10, fmt.Sprintf(`{"resource": "/%%d", "threshold": %d, %s}`, threshold, ofUser))+`]}`)
	}
	w := newProcess(2, document(3))
	var keys int
	for minute := range 17 {
		for _, wk := range w.workers {
			wk.update(document(4 + minute))
		}
		w.unlimited(10)
		for range 60 {
			w.Advance(second)
			for _, wk := range w.workers {
				wk.Tick(w.Now())
			}
		}
		if minute == 1 {
			keys, _ = w.Keys()
		}
	}
	for _, wk := range w.workers {
		wk.update(document(3))
	}
	w.run(2 * second)
	if n := w.unlimited(10); n > 0 {
		t.Errorf("%d of 500 pairs are not limited", n)
	}
	if now, _ := w.Keys(); now > keys {
		t.Errorf("%d keys after two minutes, %d after 17", keys, now)
	}
}

// 300 rules whose ids change every 8 s, with a stream in each filter that lasts as long as Envoy lets it drain: the
// places of ids that are gone come back, and everybody has one.
func TestPlacesOfIDsThatAreGoneComeBack(t *testing.T) {
	const rules, every, drain = 300, 8 * second, 600 * second
	document := func(generation int) *config.Config {
		return fits(t, `{"flowRules": [`+
			numbered(rules, fmt.Sprintf(`{"id": "rule %%d of %d", "resource": "/%%d", "threshold": 3}`, generation))+`]}`)
	}
	w := newProcess(1, nil)
	wk := w.workers[0]
	type draining struct {
		entry *engine.Entry
		until int64
	}
	var streams []draining
	var old *engine.Filter
	for generation := range int(16 * 60 * second / every) {
		f := wk.NewFilter("sentinel_http", document(generation), nil)
		if old != nil {
			old.Drain()
		}
		old = f
		stream := &engine.Entry{}
		if f.Enter("/0", w.Now(), stream) != nil {
			t.Fatal("refused")
		}
		streams = append(streams, draining{stream, w.Now() + drain})
		w.run(second)
		for i := range rules {
			if got := enterTimes(f, fmt.Sprint("/", i), 5, w.Now()); got != 3 {
				t.Fatalf("after %d s rule %d admits %d of 3", (w.Now()-start)/second, i, got)
			}
		}
		for end := w.Now() + every - second; w.Now() < end; { // ticks are seldom: what they do is counted in seconds
			w.Advance(100 * millisecond)
			wk.Tick(w.Now())
		}
		for len(streams) > 0 && streams[0].until <= w.Now() {
			streams[0].entry.Finish(w.Now(), false)
			streams = streams[1:]
		}
	}
	free, ok := w.Metric("sentinel_records_free")
	if used := record.MaxRecords - int(free); !ok || used < 75*rules || used > (75+32+8)*rules {
		t.Errorf("%d records are free of %d, known %t", free, record.MaxRecords, ok)
	}
	for _, s := range streams {
		s.entry.Finish(w.Now(), false)
	}
	for range 6 * 60 * 10 { // four minutes, and two looks at all
		w.Advance(100 * millisecond)
		wk.Tick(w.Now())
	}
	if free, _ := w.Metric("sentinel_records_free"); record.MaxRecords-int(free) > 2*rules {
		t.Errorf("six minutes later %d records are free of %d", free, record.MaxRecords)
	}
}

// enterTimes asks n times for a resource, and returns how often it was let in.
func enterTimes(f *engine.Filter, resource string, n int, now int64) (admitted int) {
	for range n {
		var e engine.Entry
		if f.Enter(resource, now, &e) == nil {
			admitted++
			e.Finish(now, false)
		}
	}
	return admitted
}

// A rule without an id keeps its window, its breaker and its leases when its threshold changes.
func TestRulesWithoutIDsKeepTheirState(t *testing.T) {
	document := func(threshold int) *config.Config {
		return fits(t, fmt.Sprintf(`{"resource_name": "r", "resources": [
			{"name": "held", "match": {"path": {"exact": "/held"}}}, {"name": "broken", "match": {"path": {"exact": "/broken"}}}],
			"flowRules": [{"resource": "r", "threshold": %d, "statIntervalInMs": 60000}],
			"isolationRules": [{"resource": "held", "threshold": %d}],
			"circuitBreakerRules": [{"resource": "broken", "strategy": "ErrorCount", "threshold": %d, "minRequestAmount": 1,
				"statIntervalMs": 60000, "retryTimeoutMs": 30000}]}`, threshold, threshold, threshold))
	}
	const first, second = 5, 7
	w := newProcess(2, document(first))
	a, b := w.workers[0], w.workers[1]
	admitted := admit(a.http, 100, w.Now())
	held := 0
	for range 20 {
		var e engine.Entry
		if a.http.Enter("held", w.Now(), &e) == nil {
			held++
		}
		if a.http.Enter("broken", w.Now(), &e) == nil {
			e.Finish(w.Now(), true)
		}
	}
	w.run(4 * tick)
	for _, wk := range w.workers {
		wk.update(document(second))
	}
	w.run(4 * tick)
	if admitted += admit(a.http, 100, w.Now()) + admit(b.http, 100, w.Now()); admitted != second {
		t.Errorf("a window admitted %d, thresholds %d and %d", admitted, first, second)
	}
	for range 20 {
		var e engine.Entry
		if b.http.Enter("held", w.Now(), &e) == nil {
			held++
		}
		if b.http.Enter("broken", w.Now(), &e) == nil {
			t.Fatal("an open breaker has closed")
		}
	}
	if held != second {
		t.Errorf("%d are in flight, thresholds %d and %d", held, first, second)
	}
}

// What a configuration may take is half of what a process has, and what a rule takes is counted when it is read.
func TestCapacityIsWhatConfigurationsAreHeldAgainst(t *testing.T) {
	if 2*config.MaxRecords > record.MaxRecords || 2*config.MaxValues > hotspot.Capacity {
		t.Errorf("%d of %d records, %d of %d values", config.MaxRecords, record.MaxRecords, config.MaxValues, hotspot.Capacity)
	}
	c := fits(t, `{"resource_name": "r", "resources": [{"name": "other", "match": {"path": {"exact": "/other"}}}], "flowRules": [
		{"resource": "r", "threshold": 9}, {"resource": "r", "threshold": 9, "controlBehavior": 1},
		{"resource": "r", "threshold": 9, "tokenCalculateStrategy": 1, "warmUpPeriodSec": 3},
		{"resource": "r", "threshold": 9, "relationStrategy": 1, "refResource": "other"},
		{"resource": "r", "threshold": 9, "relationStrategy": 1, "refResource": "other", "statIntervalInMs": 500, "controlBehavior": 1,
			"tokenCalculateStrategy": 1, "warmUpPeriodSec": 3}],
		"isolationRules": [{"resource": "r", "threshold": 9}],
		"circuitBreakerRules": [{"resource": "r", "strategy": "ErrorCount", "threshold": 3, "minRequestAmount": 1,
				"statIntervalMs": 1000, "retryTimeoutMs": 3000}],
		"hotspotRules": [{"resource": "r", "threshold": 9, `+ofUser+`}, {"resource": "r", "threshold": 9, "metricType": 0,
				"paramSource": "Host"}]}`)
	want := 1 // the key of the hash of values
	for _, r := range c.Rules {
		want += config.RecordsOf(r)
	}
	w := newProcess(1, nil)
	w.workers[0].NewFilter("sentinel_http", c, nil)
	if got := w.workers[0].Records(); got > want {
		t.Errorf("the rules have %d records, and %d were counted", got, want)
	}
}
