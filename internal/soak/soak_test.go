package soak

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
)

const (
	// soon is how long things may take that take milliseconds on an idle machine.
	soon = 20 * time.Second
	// workers is the usual --concurrency.
	workers = 4
)

var (
	run   = flag.Bool("soak", false, "run the tests of this package, which take minutes")
	built = flag.String("soak.wasm", "", "test these plugins, as they are released, instead of building them")
)

// summary has a line for each scenario, printed at the end.
var summary struct {
	sync.Mutex
	rows []string
}

// report puts a line into the summary and the test's log: the figures of a scenario.
func report(t testing.TB, format string, figures ...any) {
	t.Helper()
	text := fmt.Sprintf(format, figures...)
	t.Log(text)
	_, name, _ := strings.Cut(t.Name(), "Test")
	summary.Lock()
	defer summary.Unlock()
	summary.rows = append(summary.rows, "| "+strings.ReplaceAll(name, "_", " ")+" | "+text+" |")
}

func TestMain(m *testing.M) {
	flag.Parse()
	if !*run {
		fmt.Println("skipped: these tests take minutes; run make soak")
		return
	}
	code := plugintest.Run(m)
	if len(summary.rows) > 0 {
		fmt.Printf("\n| scenario | figures |\n|---|---|\n%s\n\n", strings.Join(summary.rows, "\n"))
	}
	os.Exit(code)
}

// plugins are built here, into a file of our own that nobody else replaces while tests run.
var plugins = plugintest.Plugins("release.wasm", "")

// release is the plugins as they are released.
var release = sync.OnceValues(func() (string, error) {
	if *built != "" {
		return filepath.Abs(*built)
	}
	return plugins()
})

// start runs an Envoy until the test's end that tells of every decision (see audit), with 4 workers where cfg does not
// say how many.
func start(t testing.TB, cfg envoytest.Config) *envoytest.Envoy {
	t.Helper()
	if cfg.Concurrency == 0 {
		cfg.Concurrency = workers
	}
	if cfg.LogLevel == "" {
		cfg.LogLevel = "warning"
	}
	if cfg.Components == nil {
		cfg.Components = map[string]string{"wasm": "debug"}
	}
	return envoytest.Start(t, cfg)
}

// waitMetric waits until the sum of a metric is want.
func waitMetric(t testing.TB, e *envoytest.Envoy, want float64, name string, labels ...string) {
	t.Helper()
	e.WaitSum(t, soon, want, name, labels...)
}

// waitTicks waits until the plugins have had so many ticks more, of all VMs together; each has about 50 a second. What has
// not happened by then does not happen by itself.
func waitTicks(t testing.TB, e *envoytest.Envoy, n float64) {
	t.Helper()
	before := e.Sum("sentinel_ticks")
	envoytest.Eventually(t, soon, fmt.Sprintf("%v ticks", n), func() bool { return e.Sum("sentinel_ticks") > before+n })
}

// decided counts decisions.
type decided struct{ admitted, refused int }

// audit follows the log and adds up what all workers decided about each flow rule whose window has buckets of 500 ms, by
// the number of the bucket that holds the time of the decision.
type audit struct {
	log   *os.File
	rest  *bufio.Reader
	part  string // of a line that Envoy has not ended yet
	rules map[string]map[int64]decided
}

func newAudit(t testing.TB, e *envoytest.Envoy) *audit {
	t.Helper()
	f, err := os.Open(e.Log.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &audit{log: f, rest: bufio.NewReader(f), rules: map[string]map[int64]decided{}}
}

// read takes in what the log has got since the last call.
func (a *audit) read(t testing.TB) {
	t.Helper()
	for {
		line, err := a.rest.ReadString('\n')
		a.part += line
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		d, ok, err := plugintest.ParseDecided(a.part)
		if a.part = ""; err != nil {
			t.Fatal(err)
		}
		if !ok || d.BucketMs != 500 {
			continue
		}
		if a.rules[d.Rule] == nil {
			a.rules[d.Rule] = map[int64]decided{}
		}
		b := a.rules[d.Rule][d.Bucket]
		a.rules[d.Rule][d.Bucket] = decided{b.admitted + d.Admitted, b.refused + d.Refused}
	}
}

// span is from the first to the last bucket in which something was decided about a rule.
func (a *audit) span(rule string) (first, last int64) {
	for b := range a.rules[rule] {
		if first == 0 || b < first {
			first = b
		}
		last = max(last, b)
	}
	return first, last
}

// total is what was decided about a rule in all.
func (a *audit) total(rule string) (d decided) {
	for _, b := range a.rules[rule] {
		d.admitted += b.admitted
		d.refused += b.refused
	}
	return d
}

// verdict says how exact a rule was over a span of buckets. A window is two adjacent buckets.
type verdict struct {
	windows int     // with a decision
	over    int     // of them, those that admitted more than the threshold
	most    int     // admitted in a window
	full    int     // windows whose demand was at least twice the threshold, half of it in each bucket
	used    float64 // of the threshold, in the full windows together; 0 to 1
}

// judge looks at the windows of a rule whose first bucket is in [from, to).
func (a *audit) judge(rule string, threshold int, from, to int64) (v verdict) {
	admitted := 0
	buckets := a.rules[rule]
	for b := from; b < to; b++ {
		one, two := buckets[b], buckets[b+1]
		n := one.admitted + two.admitted
		if one == (decided{}) {
			continue
		}
		v.windows++
		v.most = max(v.most, n)
		if n > threshold {
			v.over++
		}
		if one.admitted+one.refused >= threshold && two.admitted+two.refused >= threshold {
			v.full++
			admitted += n
		}
	}
	if v.full > 0 {
		v.used = float64(admitted) / float64(v.full*threshold)
	}
	return v
}

func (v verdict) String() string {
	return fmt.Sprintf("%d windows, %d over, %.2f %% used in the %d of twice the demand", v.windows, v.over, v.used*100, v.full)
}

// exact fails the test where a window was over the threshold, or too little of it was used in those with demand enough: 99 %
// of ten windows or more is the guarantee, fewer are judged by 90 %. So it does where fewer than least had demand enough.
func (v verdict) exact(t testing.TB, what string, least int) {
	t.Helper()
	if v.over > 0 {
		t.Errorf("%s: %d of %d windows are over, the worst admitted %d", what, v.over, v.windows, v.most)
	}
	bound := 0.99
	if v.full < 10 {
		bound = 0.9
	}
	if v.full < least {
		t.Errorf("%s: only %d windows of %d had twice the demand, want %d to judge by", what, v.full, v.windows, least)
	} else if v.used < bound {
		t.Errorf("%s: %.2f %% of the threshold was used in %d windows of twice the demand", what, v.used*100, v.full)
	}
}
