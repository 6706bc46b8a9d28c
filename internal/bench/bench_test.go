package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/shared/config"
)

func TestClientSendsPathsInTurnAndCountsStatuses(t *testing.T) {
	var mutex sync.Mutex
	seen := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mutex.Lock()
		seen[r.URL.Path]++
		mutex.Unlock()
		if r.URL.Path == path(3) {
			w.WriteHeader(http.StatusTooManyRequests)
		}
		io.WriteString(w, "some body")
	}))
	defer server.Close()
	c, err := dial(server.Listener.Addr().String(), 7, requestsFor(paths))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	// Two rounds over the paths in three parts, none of which is a multiple of the connections.
	total := map[int]int{}
	for _, n := range []int{1, 999, 1000} {
		statuses, err := c.send(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		for status, count := range statuses {
			total[status] += count
		}
	}
	if total[200] != 1998 || total[429] != 2 || len(total) != 2 {
		t.Errorf("statuses %v", total)
	}
	for i := range paths {
		if got := seen[path(i)]; got != 2 {
			t.Errorf("%s was requested %d times, not twice", path(i), got)
		}
	}
	if err := c.sendOK(t.Context(), 10); err == nil {
		t.Error("a 429 passes for a 200")
	}
}

func TestReadResponseRefuses(t *testing.T) {
	for _, text := range []string{
		"",
		"HTTP/1.1 200 OK\r\n",
		"HTTP/2 200 OK\r\n\r\n",
		"HTTP/1.1 \r\n\r\n",
		"HTTP/1.1 two OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfour",
	} {
		if status, err := readResponse(bufio.NewReader(strings.NewReader(text))); err == nil {
			t.Errorf("%q is taken for a response with status %d", text, status)
		}
	}
}

func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   summary
		text   string
	}{
		{nil, summary{}, "–"},
		{[]float64{2}, summary{2, 2, 2, 1}, "2.0"},
		{[]float64{4, 1, 3, 2}, summary{2.5, 1, 4, 4}, "2.5 (1.0 … 4.0)"},
		{[]float64{9, 1, 2}, summary{2, 1, 9, 3}, "2.0 (1.0 … 9.0)"},
	} {
		got := summarize(c.values)
		if got != c.want || got.format(1) != c.text {
			t.Errorf("%v: %+v %q, want %+v %q", c.values, got, got.format(1), c.want, c.text)
		}
	}
}

func TestCPURowsCompareWithinARound(t *testing.T) {
	variants := []variant{{name: unfiltered}, {name: empty}, {name: sentinel}}
	// The machine is three times as slow in the second round; the ratio is the same.
	rows := cpuRows(variants, [][]float64{{20, 30, 32}, {60, 90, 96}, {20, 30, 32}}, empty)
	if rows[0].PerRequest.Median != 20 || rows[0].OfEmpty.N != 0 {
		t.Errorf("no filter: %+v", rows[0])
	}
	if got := rows[2]; got.PerRequest != (summary{12, 12, 36, 3}) || got.OfEmpty != (summary{1.2, 1.2, 1.2, 3}) {
		t.Errorf("sentinel: %+v", got)
	}
}

func TestCalmerHalfKeepsWholePasses(t *testing.T) {
	const unit = turnRequests * time.Microsecond // 1 µs per request
	got := calmerHalf([][]time.Duration{
		{50 * unit, 50 * unit}, // noise
		{10 * unit, 20 * unit},
		{10 * unit, 30 * unit}, // a dear moment of the second, in a calm pass
		{10 * unit, 90 * unit},
	})
	if fmt.Sprint(got) != "[10 25]" {
		t.Errorf("got %v µs per request, want 10 and 25", got)
	}
}

func TestJudge(t *testing.T) {
	one := func(v float64) summary { return summarize([]float64{v}) }
	cpu := []cpuRow{
		{empty, one(10), one(1)},
		{sentinel, one(10), one(1)},
		{sentinelMany, one(16), one(1.6)},
		{sentinelAll, one(14), one(1.4)},
		{sentinelGo, one(40), one(4)},
		{emptyRefusing, one(20), one(2)},
		{sentinelRefusing, one(25), one(2.5)},
		{emptyC, one(4), one(0.4)},
		{sentinelTiny, one(7), one(0.7)},
	}
	starts := []startRow{{empty, one(2), one(3)}, {sentinel, one(4), one(3.75)}}
	var met []string
	for _, target := range judge(cpu, starts) {
		met = append(met, fmt.Sprintf("%.2f %v", target.Got, target.Met))
	}
	want := "[1.00 true 1.60 false 1.40 true 1.75 false 0.25 true 1.25 false 2.00 false 1.25 true]"
	if fmt.Sprint(met) != want {
		t.Errorf("got %v, want %s", met, want)
	}
	if got := judge(cpu[:1], starts[:1]); got != nil {
		t.Errorf("targets without Sentinel's rows: %v", got)
	}
}

func TestReportInBothForms(t *testing.T) {
	r := report{
		Rounds: 9, Requests: 4000, Workers: 1,
		CPU:     []cpuRow{{Name: unfiltered, PerRequest: summarize([]float64{20, 22, 21})}},
		Targets: []target{{"something", 1.3, 1.25, true}, {"another", 1.5, 1.75, false}},
	}
	var text strings.Builder
	if err := r.writeMarkdown(&text); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"| no filter (the whole request) | 21.0 (20.0 … 22.0) | – |",
		"| something | 1.30 | 1.25 | met |",
		"| another | 1.50 | 1.75 | missed |",
	} {
		if !strings.Contains(text.String(), line+"\n") {
			t.Errorf("no line %q in\n%s", line, text.String())
		}
	}
	var encoded strings.Builder
	if err := r.writeJSON(&encoded); err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal([]byte(encoded.String()), &back); err != nil || back.CPU[0] != r.CPU[0] {
		t.Errorf("%v: %+v", err, back)
	}
}

func TestVariants(t *testing.T) {
	ours, tiny := module{sentinel, "s.wasm"}, module{sentinelTiny, "t.wasm"}
	modules := []module{{empty, "e.wasm"}, {emptyRefusing, "r.wasm"}, {emptyC, "c.wasm"}, ours, tiny, {sentinelGo, "g.wasm"}}
	variants := append(cpuVariants(modules), refusalVariants(modules)...)
	var names []string
	vms := map[string]string{}
	for _, v := range variants {
		names = append(names, v.name)
		if (v.control != nil) != (v.name == sentinel || v.name == sentinelTiny || v.name == sentinelGo) {
			t.Errorf("%s: control is %v", v.name, v.control)
		}
		for _, w := range v.listener.Wasm {
			if other := vms[w.VMID]; other != "" && !strings.HasPrefix(w.VMID, "bench-families") {
				t.Errorf("%s and %s share a VM", v.name, other)
			}
			vms[w.VMID] = v.name
		}
	}
	want := []string{unfiltered, native, empty, emptyC, sentinel, sentinelMany}
	add := func(variants []variant) {
		for _, v := range variants {
			want = append(want, v.name)
			if _, err := config.Parse([]byte(v.listener.Wasm[0].Config), config.KindHTTP); err != nil {
				t.Errorf("%s: %v", v.name, err)
			}
		}
	}
	add(familyVariants(ours))
	want = append(want, sentinelTiny, "sentinel, TinyGo, 1,000 rules")
	add(familyVariants(tiny))
	want = append(want, sentinelGo, nativeRefusing, emptyRefusing)
	add(sentinelRefusals(ours))
	add(sentinelRefusals(tiny))
	if !slices.Contains(want, "sentinel, TinyGo, 1 rule: isolation") || !slices.Contains(want, "sentinel, TinyGo, refusing: flow") {
		t.Errorf("rows %q", want)
	}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", names, want)
	}
	var rules struct{ FlowRules []any }
	if err := json.Unmarshal([]byte(variants[5].listener.Wasm[0].Config), &rules); err != nil || len(rules.FlowRules) != paths {
		t.Errorf("%v: %d rules", err, len(rules.FlowRules))
	}
}

func TestCollectModulesNamesWhatIsMissing(t *testing.T) {
	if testing.Short() {
		t.Skip("builds Wasm")
	}
	dir := t.TempDir()
	o := options{sentinel: filepath.Join(dir, "none.wasm"), tiny: filepath.Join(dir, "no-tiny.wasm")}
	modules, err := collectModules(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := findClang(); err != nil && modules[len(modules)-1].name == emptyC {
		t.Errorf("a floor without clang: %v", modules)
	}
	if len(modules) < 2 || len(modules) > 3 || modules[0].name != empty || modules[1].name != sentinelGo {
		t.Errorf("without a Sentinel binary: %v", modules)
	}
	o.extra = extraFilters{{"mine", "absent.wasm"}}
	_, err = collectModules(t.Context(), dir, o)
	if err == nil || !strings.Contains(err.Error(), "absent.wasm") {
		t.Errorf("a filter that does not exist: %v", err)
	}
}

func TestOnlyKeepsWhatOthersAreComparedWith(t *testing.T) {
	o := options{only: regexp.MustCompile("1 rule$")}
	modules := []module{{empty, "e.wasm"}, {sentinel, "s.wasm"}, {sentinelGo, "g.wasm"}}
	var names []string
	for _, v := range o.chosen(cpuVariants(modules)) {
		names = append(names, v.name)
	}
	if want := []string{unfiltered, empty, sentinel}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

func TestExtraFilters(t *testing.T) {
	var e extraFilters
	for _, text := range []string{"", "file.wasm", "=file.wasm", "name="} {
		if e.Set(text) == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if err := e.Set("mine=a=b.wasm"); err != nil || len(e) != 1 || e[0] != (module{"mine", "a=b.wasm"}) {
		t.Errorf("%v: %v", err, e)
	}
}

func TestMemoryIsJudgedAboveNoFilter(t *testing.T) {
	one := func(v float64) summary { return summarize([]float64{v}) }
	loaded := 120.5
	r := memoryReport{Load: "10s", Updates: 100, Rows: []memoryRow{
		{Name: unfiltered, Workers: 4, Ready: one(9), CPU: one(0.1), Private: one(14)},
		{Name: empty, Workers: 4, Ready: one(9), CPU: one(1), Private: one(94)},
		{Name: sentinel, Workers: 4, Ready: one(9), CPU: one(1.9), Private: one(118), Loaded: &loaded},
		{Name: sentinelTiny, Workers: 4, Ready: one(9), CPU: one(0.5), Private: one(55)},
	}}
	r.Targets = r.judge(4)
	var text strings.Builder
	if err := r.writeMarkdown(&text); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"| filter | workers | start to ready, s | s of CPU | private memory, MB | after 10s of load | after 100 updates |",
		"| sentinel, 1 rule | 4 | 9.00 | 1.90 | 118.0 | 120 | – |",
		"| memory above no filter, of the empty filter's, 4 workers | 1.40 | 1.30 | met |",
		"| CPU of a start, of the empty filter's, 4 workers | 1.80 | 1.90 | missed |",
		"| TinyGo: MB above no filter, 4 workers | 40.00 | 41.00 | missed |",
		"| TinyGo: CPU of a start, of the empty filter's, 4 workers | 0.50 | 0.50 | met |",
	} {
		if !strings.Contains(text.String(), line+"\n") {
			t.Errorf("no line %q in\n%s", line, text.String())
		}
	}
	if got := r.judge(8); got != nil {
		t.Errorf("targets without rows: %v", got)
	}
	if _, err := numbers("1,x"); err == nil {
		t.Error("x is a number")
	}
}
