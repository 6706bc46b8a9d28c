package meshtest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/plugintest"
)

const (
	// soon is how long things may take that take seconds on an idle machine.
	soon = 90 * time.Second
	// qps is what each of the two protocols is offered in a second.
	qps = 150
	// windows is how many windows in a row must be as full as they may be.
	windows = 4
)

// Proxy is an Envoy, whoever started it.
type Proxy struct {
	Admin *envoytest.Admin
	Log   func() string // all that it has logged
}

// Of is an Envoy of the test's own.
func Of(e *envoytest.Envoy) Proxy { return Proxy{e.Admin, e.Log.String} }

// Sum adds up the samples of a metric that have these labels, names and values in turn.
func (p Proxy) Sum(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	samples, err := p.Admin.Prometheus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return envoytest.Sum(samples, name, labels...)
}

// Offer is what goes through a proxy: requests to a host:port, connections to another. Either may be empty.
type Offer struct {
	HTTP, TCP string
	Path      string // of the requests; default "/"
	Host      string // of the requests; default the address
}

// requests are the load that goes to HTTP.
func (o Offer) requests() load.Options {
	options := load.Options{Path: o.Path, QPS: qps, Connections: 8}
	if o.Host != "" {
		options.Header = map[string][]string{"Host": {o.Host}}
	}
	return options
}

// connections is the load that goes to TCP.
var connections = load.Options{Proto: load.TCP, QPS: qps, Connections: 16}

// guarded waits until either side refuses something. Before that a proxy may yet be getting its filters, and lets all pass:
// no metric tells, since VMs that drain are still counted.
func guarded(t testing.TB, o Offer) {
	t.Helper()
	refuses := func(addr string, options load.Options) {
		t.Helper()
		options.Port, options.Requests = envoytest.PortOf(t, addr), 2*qps
		envoytest.Eventually(t, soon, addr+" refuses something", func() bool {
			sum, err := load.Run(t.Context(), options)
			if err != nil && !errors.Is(err, load.ErrNothingSent) { // it may not listen yet
				t.Fatal(err)
			}
			return sum.Blocked > 0
		})
	}
	if o.HTTP != "" {
		refuses(o.HTTP, o.requests())
	}
	if o.TCP != "" {
		refuses(o.TCP, connections)
	}
}

// Budget is what became of an Offer.
type Budget struct {
	Offered   int     // in a second, both protocols together
	HTTP, TCP float64 // admitted in a second
	Most      int     // that any window of the rule's admitted, all VMs together
}

// Measure offers several times the threshold until windows are full, and counts in which of them the plugin admitted how
// much. The rule's window must be of a second, its id rule.
func Measure(t testing.TB, p Proxy, o Offer, rule string, threshold int) Budget {
	t.Helper()
	if err := p.Admin.SetLogLevel(t.Context(), "wasm", "debug"); err != nil {
		t.Fatal(err)
	}
	guarded(t, o)
	b, from := Budget{}, admitted(t, p, rule).newest()
	var http, tcp *plugintest.Offered
	if o.HTTP != "" {
		b.Offered += qps
		http = plugintest.Offer(t, o.HTTP, o.requests())
	}
	if o.TCP != "" {
		b.Offered += qps
		tcp = plugintest.Offer(t, o.TCP, connections)
	}
	envoytest.Eventually(t, soon, fmt.Sprintf("windows of %s admit at least 90 %% of %d", rule, threshold), func() bool {
		return admitted(t, p, rule).full(from, threshold)
	})
	for _, side := range []struct {
		load *plugintest.Offered
		rate *float64
	}{{http, &b.HTTP}, {tcp, &b.TCP}} {
		if side.load == nil {
			continue
		}
		sum := side.load.Stop(t)
		if n := sum.Failed - sum.Errors["interrupted"]; n != 0 || sum.Passed == 0 {
			t.Errorf("%d passed, %d failed: %v %v %s", sum.Passed, n, sum.Status, sum.Errors, sum.LastError)
		}
		*side.rate = float64(sum.Passed) / sum.Elapsed.Seconds()
	}
	b.Most = admitted(t, p, rule).most(from)
	return b
}

// IsOne fails the test where what was admitted is not one budget's.
func (b Budget) IsOne(t testing.TB, threshold int) {
	t.Helper()
	if b.Most > threshold {
		t.Errorf("a window admitted %d, more than %d: there is more than one budget", b.Most, threshold)
	}
	// A few windows admit half as much again in the time that they take, by the client's clock; two budgets, or what no filter
	// guards, more.
	if rate := b.HTTP + b.TCP; rate > 1.6*float64(threshold) {
		t.Errorf("%.0f/s passed (HTTP %.0f, TCP %.0f): something is not guarded", rate, b.HTTP, b.TCP)
	}
}

// Admits waits until some windows in a row, from now on, admit the threshold and no more, or nearly as much. Load must be
// on.
func Admits(t testing.TB, p Proxy, rule string, threshold int) {
	t.Helper()
	if err := p.Admin.SetLogLevel(t.Context(), "wasm", "debug"); err != nil {
		t.Fatal(err)
	}
	from := admitted(t, p, rule).newest()
	envoytest.Eventually(t, soon, fmt.Sprintf("windows of %s admit %d", rule, threshold), func() bool {
		b := admitted(t, p, rule)
		recent := max(from, b.newest()-2-windows-1)
		return b.full(recent, threshold) && b.most(recent) <= threshold
	})
}

// Newest is the last bucket of time in which a rule has admitted anything.
func Newest(t testing.TB, p Proxy, rule string) int { return admitted(t, p, rule).newest() }

// Within fails the test where a window after a bucket has admitted more than the threshold.
func Within(t testing.TB, p Proxy, rule string, from, threshold int) {
	t.Helper()
	if most := admitted(t, p, rule).most(from); most > threshold {
		t.Errorf("a window of %s admitted %d, more than %d", rule, most, threshold)
	}
}

// buckets is what all workers admitted, by the number of the bucket of 500 ms.
type buckets map[int]int

func admitted(t testing.TB, p Proxy, rule string) buckets {
	t.Helper()
	all := buckets{}
	for line := range strings.Lines(p.Log()) {
		one, ok, err := plugintest.ParseDecided(line)
		if err != nil {
			t.Fatal(err)
		}
		if ok && one.Rule == rule {
			all[int(one.Bucket)] += one.Admitted
		}
	}
	return all
}

// newest is the last bucket in which anything was admitted.
func (b buckets) newest() (newest int) {
	for n := range b {
		newest = max(newest, n)
	}
	return newest
}

// most is the most that two adjacent buckets after from admitted.
func (b buckets) most(from int) (most int) {
	for n, admitted := range b {
		if n > from {
			most = max(most, admitted+b[n+1])
		}
	}
	return most
}

// full is whether some windows in a row, after from, admitted nearly as much as they may, or more.
func (b buckets) full(from, threshold int) bool {
	last := b.newest() - 2 // later ones are not whole, or some worker has not told of them yet
	if last-windows <= from {
		return false
	}
	for n := last - windows; n < last; n++ {
		if b[n]+b[n+1] < threshold*9/10 {
			return false
		}
	}
	return true
}
