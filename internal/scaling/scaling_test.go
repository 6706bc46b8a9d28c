package main

import (
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/internal/audit"
)

// The whole short table on a real Envoy. What the machine cannot offer is said and no failure, but at a threshold that
// any machine exceeds every cell must have shown what it is for.
func TestProcessWideLimitIsExactOnEveryListenerAndLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("loads Envoys for half a minute")
	}
	o, err := parseFlags([]string{"-short", "-wasm", "../../dist/sentinel.wasm"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(o.wasm); err != nil {
		t.Fatalf("%v; run make wasm", err)
	}
	results, err := run(t.Context(), o, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if err := failures(results); err != nil {
		t.Error(err)
	}
	for _, r := range results {
		if r.threshold == 20 && r.verdict != exact {
			t.Errorf("not shown: %s", r.progress())
		}
		if r.spread && len(r.workers) < 2 {
			t.Errorf("one worker decided everything: %s", r.progress())
		}
		if r.guard.http && !r.guard.tcp && !r.spread && len(r.workers) != 1 {
			t.Errorf("%d workers served one connection: %s", len(r.workers), r.progress())
		}
	}
	if want := 2*len(kinds(windows[0], 4)) - 2; len(results) != want {
		t.Errorf("%d cells, want %d", len(results), want)
	}
}

// steady makes an audit of n buckets, each with those decisions in turn, made by one worker.
func steady(n int, ds ...decided) *decisions {
	a := &decisions{buckets: map[int]decided{}, threads: map[string]decided{}}
	for b := range n {
		a.buckets[1000+b] = ds[b%len(ds)]
	}
	a.threads["7"] = a.total()
	return a
}

// agreeing is what clients and metrics say who agree with an audit.
func agreeing(a *decisions) seen {
	t := a.total()
	return seen{sent: t.all(), passed: t.admitted, elapsed: float64(len(a.buckets)) / 2, metric: t.admitted}
}

func TestVerdicts(t *testing.T) {
	rule := cell{window: windows[0], concurrency: 2, guard: guards[0], threshold: 100}
	full := []decided{{100, 200}, {0, 300}}
	for _, c := range []struct {
		name   string
		audit  *decisions
		seen   func(*seen)
		want   verdict
		over   int
		detail string
	}{
		{name: "exact", audit: steady(14, full...), want: exact},
		{name: "one over in one window", audit: func() *decisions {
			a := steady(14, full...)
			a.buckets[1005] = decided{1, 299}
			return a
		}(), want: over, over: 1, detail: "the 2 buckets from 1004 on"},
		{name: "over where the load begins", audit: func() *decisions {
			a := steady(14, full...)
			a.buckets[1000] = decided{102, 0}
			return a
		}(), want: over, over: 2, detail: "the 2 buckets from 1000 on"},
		{name: "98 % in every window", audit: steady(14, decided{98, 200}, decided{0, 300}), want: under, detail: "98.00 %"},
		{name: "99 % in every window", audit: steady(14, decided{99, 200}, decided{0, 300}), want: exact},
		{name: "too few windows to tell", audit: steady(12, full...), want: tooSlow},
		{name: "demand in every other bucket", audit: steady(14, decided{100, 200}, decided{0, 99}), want: tooSlow},
		{name: "over without demand", audit: steady(4, decided{51, 0}), want: over, over: 2},
		{name: "the metric missed one", audit: steady(14, full...), seen: func(s *seen) { s.metric-- }, want: mismatch},
		{name: "a client saw one more", audit: steady(14, full...), seen: func(s *seen) { s.passed++ }, want: mismatch},
		{name: "a client saw one less", audit: steady(14, full...), seen: func(s *seen) { s.passed-- }, want: mismatch},
		{name: "an answer was lost", audit: steady(14, full...), seen: func(s *seen) { s.passed--; s.failed++ }, want: exact},
		{name: "a fault", audit: steady(14, full...), seen: func(s *seen) { s.faults++ }, want: faulty},
		{name: "nothing happened", audit: &decisions{}, want: mismatch},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := agreeing(c.audit)
			if c.seen != nil {
				c.seen(&s)
			}
			r := judge(rule, c.audit, s)
			if r.verdict != c.want || r.over != c.over || !strings.Contains(r.detail, c.detail) {
				t.Errorf("%q, over %d, %q; want %q, over %d, %q", r.verdict, r.over, r.detail, c.want, c.over, c.detail)
			}
			if fails := failures([]result{r}) != nil; fails != (c.want != exact && c.want != tooSlow) {
				t.Errorf("%q fails: %t", r.verdict, fails)
			}
		})
	}
}

// An interval of an exact window is judged wherever it begins.
func TestVerdictsOfExactWindows(t *testing.T) {
	rule := cell{window: windows[2], concurrency: 2, guard: guards[0], threshold: 100}
	good := func() *decisions { // the hundred of each second come in its first ten milliseconds, and a bit later in each
		a := steady(9000, decided{0, 1})
		for second := range 9 {
			for ms := range 10 {
				a.buckets[1000+1001*second+ms] = decided{10, 5}
			}
		}
		return a
	}
	a := good()
	if r := judge(rule, a, agreeing(a)); r.verdict != exact {
		t.Errorf("%q, %q", r.verdict, r.detail)
	}
	a.buckets[1000+1001] = decided{9, 0}
	a.buckets[1000+999] = decided{1, 0} // in the second of the first hundred
	if r := judge(rule, a, agreeing(a)); r.verdict != over || r.over != 1 {
		t.Errorf("one more within a second: %q, over %d", r.verdict, r.over)
	}
}

func TestAuditIsSummedOverWorkersAndLines(t *testing.T) {
	const log = `[2026-01-02 20:43:35.429][25][warning][main] something else
[2026-01-02 20:43:35.445][41][debug][wasm] [a.cc:1] wasm log sentinel_http sentinel: audit rule=r bucket_ms=500 bucket=9 admitted=3 refused=1
[2026-01-02 20:43:35.445][42][debug][wasm] [a.cc:1] wasm log sentinel_tcp sentinel: audit rule=r bucket_ms=500 bucket=9 admitted=4 refused=0
[2026-01-02 20:43:35.465][41][debug][wasm] [a.cc:1] wasm log sentinel_http sentinel: audit rule=r bucket_ms=500 bucket=9 admitted=-1 refused=5
[2026-01-02 20:43:35.945][41][debug][wasm] [a.cc:1] wasm log sentinel_http sentinel: audit rule=r bucket_ms=500 bucket=10 admitted=0 refused=8
[2026-01-02 20:43:35.945][41][debug][wasm] [a.cc:1] wasm log sentinel_http sentinel: audit rule=other bucket_ms=500 bucket=10 admitted=1 refused=0`
	rules, err := sumAudit(found(log), windows[0])
	if err != nil {
		t.Fatal(err)
	}
	r := rules["r"]
	if len(rules) != 2 || r == nil || len(r.buckets) != 2 || r.buckets[9] != (decided{6, 6}) || r.buckets[10] != (decided{0, 8}) {
		t.Fatalf("%+v", rules)
	}
	if w := r.workers(); len(w) != 2 || w[0] != 0.8 || w[1] != 0.2 {
		t.Errorf("shares %v, want 0.8 and 0.2", w)
	}
	if _, err := sumAudit(found(strings.ReplaceAll(log, "bucket_ms=500", "bucket_ms=1000")), windows[0]); err == nil {
		t.Error("buckets of another length are accepted")
	}
}

// found matches lines as the log's reader does.
func found(log string) (lines [][]string) {
	re := regexp.MustCompile(audit.Pattern)
	for line := range strings.SplitSeq(log, "\n") {
		if m := re.FindStringSubmatch(line); m != nil {
			lines = append(lines, m)
		}
	}
	return lines
}

func TestPlanAndBatches(t *testing.T) {
	highest := map[cell]int{}
	for _, c := range kinds(windows[0], 2) {
		highest[c] = 5000
	}
	cells := plan(windows[0], 2, []int{20, 1000}, highest, false)
	if len(cells) != 18 {
		t.Fatalf("%d cells, want 18", len(cells))
	}
	rules := map[string]bool{}
	for _, c := range cells {
		rules[c.rule()] = true
	}
	if len(rules) != len(cells) {
		t.Errorf("%d rules for %d cells: some share a budget", len(rules), len(cells))
	}
	got := batches(cells)
	if len(got) != 13 || len(got[0]) != 6 {
		t.Fatalf("%d batches, %d cells in the first; want 13 and 6", len(got), len(got[0]))
	}
	for _, b := range got[1:] {
		if len(b) != 1 {
			t.Errorf("%d cells together, the first with a demand of %v/s", len(b), b[0].demand())
		}
	}
}

func TestLoadsGoToTheCellsListeners(t *testing.T) {
	c := cell{concurrency: 4, guard: guards[2], spread: true, threshold: 100}
	ports := map[string]int{c.httpListener(): 1001, c.tcpListener(): 1002}
	addr := func(listener string) string { return "127.0.0.1:" + strconv.Itoa(ports[listener]) }
	loads, err := c.loads(addr, time.Second)
	if err != nil || len(loads) != 2 {
		t.Fatal(loads, err)
	}
	for i, port := range []int{1001, 1002} {
		if l := loads[i]; l.Port != port || l.Connections != 4*perWorker || l.QPS != c.demand()/2 || l.Duration != time.Second {
			t.Errorf("%+v", l)
		}
	}
	c.spread = false
	if loads, err = c.loads(addr, time.Second); err != nil || loads[0].Connections != 1 || loads[1].Connections != 1 {
		t.Error(loads, err)
	}
	if _, err := c.loads(func(string) string { return "" }, time.Second); err == nil {
		t.Error("no error without listeners")
	}
}

func TestFlags(t *testing.T) {
	o, err := parseFlags(nil, io.Discard)
	if err != nil || len(o.concurrency) != 4 || !o.high || o.duration != longSeconds*time.Second {
		t.Errorf("default: %+v, %v", o, err)
	}
	o, err = parseFlags([]string{"-short", "-concurrency", "3", "-thresholds", "7,max", "-seconds", "9"}, io.Discard)
	if err != nil || o.concurrency[0] != 3 || o.thresholds[0] != 7 || len(o.thresholds) != 1 || !o.high || o.duration != 9*time.Second {
		t.Errorf("given with -short: %+v, %v", o, err)
	}
	for _, args := range [][]string{
		{"-concurrency", "0"}, {"-concurrency", "1,65"}, {"-thresholds", "0"}, {"-thresholds", "much"}, {"-seconds", "6"},
		{"-seconds", "NaN"}, {"more"}, {"-window", "exakt"},
	} {
		if _, err := parseFlags(args, io.Discard); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}

func TestTableHasARowForEachCell(t *testing.T) {
	a := steady(14, decided{100, 200}, decided{0, 300})
	r := judge(cell{window: windows[0], concurrency: 2, guard: guards[2], spread: true, threshold: 100}, a, agreeing(a))
	r.retries = 3
	var b strings.Builder
	if err := writeMarkdown(&b, []result{r}); err != nil {
		t.Fatal(err)
	}
	const want = "| 2 | HTTP + TCP | spread | 100 | 600 | 100 / 100 / 100 | 0 | 100.00 % | 1 (100 %) | 3 | exact |\n"
	if lines := strings.SplitAfter(b.String(), "\n"); len(lines) != 4 || lines[2] != want {
		t.Errorf("%s", b.String())
	}
	for line := range strings.Lines(b.String()) {
		if strings.Count(line, "|") != len(columns)+1 {
			t.Errorf("not %d columns: %s", len(columns), line)
		}
	}
}
