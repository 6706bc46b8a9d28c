package guest

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"sentinel-envoy/internal/plugintest"
)

func TestMain(m *testing.M) { os.Exit(plugintest.Run(m)) }

// named is a build of the artefact under test with the names of its functions.
var named = plugintest.Named("named.wasm")

// One rule of each family, with %s for its threshold, or for how many requests a breaker wants to see.
const (
	flowRule     = `"flowRules": [{"id": "f", "resource": "web", "threshold": %s, "statIntervalInMs": 600000}]`
	perSecond    = `"flowRules": [{"id": "p", "resource": "web", "threshold": %s}]`
	warmUp       = `"flowRules": [{"id": "w", "resource": "web", "threshold": %s, "tokenCalculateStrategy": "WarmUp", "warmUpPeriodSec": 10, "warmUpColdFactor": 3}]`
	throttled    = `"flowRules": [{"id": "t", "resource": "web", "threshold": %s, "controlBehavior": "Throttling"}]`
	isolated     = `"isolationRules": [{"id": "i", "resource": "web", "threshold": %s}]`
	byHost       = `"hotspotRules": [{"id": "h", "resource": "web", "metricType": "QPS", "paramSource": "Host", "threshold": %s, "durationInSec": 600}]`
	byTwo        = `"hotspotRules": [{"id": "2", "resource": "web", "metricType": "QPS", "params": [{"paramSource": "Host"}, {"paramSource": "SourceAddress", "v4PrefixLen": 24}], "threshold": %s, "durationInSec": 600}]`
	inFlight     = `"hotspotRules": [{"id": "c", "resource": "web", "metricType": "Concurrency", "paramSource": "Host", "threshold": %s}]`
	inboundRule  = `"systemRules": [{"id": "s", "metricType": "InboundQPS", "triggerCount": %s}]`
	breaksByTime = `"circuitBreakerRules": [{"id": "b", "resource": "web", "strategy": "SlowRequestRatio", "maxAllowedRtMs": 10, "threshold": 0.5, "minRequestAmount": %s, "retryTimeoutMs": 600000, "statIntervalMs": 60000}]`
	breaksByFail = `"circuitBreakerRules": [{"id": "b", "resource": "web", "strategy": "ErrorRatio", "threshold": 0.5, "minRequestAmount": %s, "retryTimeoutMs": 600000, "statIntervalMs": 60000}]`
)

// far is a threshold that nothing here comes near.
const far = "100000000"

// TestRequestsAllocateNothing: what a request allocates the collector has to find again. TinyGo's compiler puts more on the
// heap than Go's, so that natively it cannot be seen: deferred functions once made a request twice as dear.
func TestRequestsAllocateNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the plugins")
	}
	file := plugintest.File(t, named)
	for _, c := range []struct{ name, rule, threshold string }{
		{"flow admits", flowRule, far}, {"flow refuses", flowRule, "1"},
		{"flow by the second admits", perSecond, far}, {"flow by the second refuses", perSecond, "1"},
		{"warm-up admits", warmUp, far}, {"warm-up refuses", warmUp, "1"},
		{"throttling admits", throttled, far}, {"throttling refuses", throttled, "1"},
		{"isolation admits", isolated, "1000000"}, {"isolation refuses", isolated, "1"},
		{"hotspot admits", byHost, far}, {"hotspot refuses", byHost, "1"},
		{"hotspot of two parameters admits", byTwo, far}, {"hotspot of two parameters refuses", byTwo, "1"},
		{"concurrency of a value admits", inFlight, "1000"}, {"concurrency of a value refuses", inFlight, "1"},
		{"system admits", inboundRule, far}, {"system refuses", inboundRule, "0"},
		{"breaker by slow requests admits", breaksByTime, far}, {"breaker by slow requests refuses", breaksByTime, "1"},
		{"breaker by failures admits", breaksByFail, far}, {"breaker by failures refuses", breaksByFail, "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := started(t, file, "sentinel_http", `{"resource_name": "web", `+fmt.Sprintf(c.rule, c.threshold)+`}`)
			first := request("/")
			first.Response[":status"] = "503"
			g.Stream = first
			id, err := g.Begin()
			must(t, err)
			must(t, g.Tick()) // a breaker finds the first slow, or failed
			if strings.HasPrefix(c.name, "breaker") {
				must(t, g.End(id)) // the others' first goes on
			}
			wants(t, g, strings.HasSuffix(c.name, "refuses"), request("/"))
		})
	}
}

// TestRequestsToManyResourcesAllocateNothing: each is another's turn, so that a resource has one request in many ticks.
func TestRequestsToManyResourcesAllocateNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the plugins")
	}
	const resources = 300
	var rules []string
	var all []Stream
	for i := range resources {
		rules = append(rules, fmt.Sprintf(`{"resource": "/r/%d", "threshold": %s}`, i, far))
		all = append(all, request(fmt.Sprintf("/r/%d?q=%d", i, i)))
	}
	g := started(t, plugintest.File(t, named), "sentinel_http", `{"flowRules": [`+strings.Join(rules, ", ")+`]}`)
	wants(t, g, false, all...)
}

// TestAnswersAllocateNothing: whatever is said in them, also to calls of gRPC.
func TestAnswersAllocateNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the plugins")
	}
	call := request("/")
	call.Request["content-type"] = "application/grpc"
	for _, block := range []string{`{}`, `{"body": "later"}`, `{"problem": true, "filter_state": false}`} {
		g := started(t, plugintest.File(t, named), "sentinel_http",
			`{"resource_name": "web", "block": `+block+`, `+fmt.Sprintf(flowRule, "0")+`}`)
		wants(t, g, true, request("/"), call)
	}
}

// TestConnectionsAllocateNothing: those of the TCP filter.
func TestConnectionsAllocateNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the plugins")
	}
	for _, threshold := range []string{"0", far} {
		g := started(t, plugintest.File(t, named), "sentinel_tcp", `{"resource_name": "web", `+fmt.Sprintf(flowRule, threshold)+`}`)
		g.Stream = request("/")
		nothing(t, g, g.Connection)
	}
}

// TestAllocationsAreSeen: a filter that starts allocates, and so does a tick that writes to the log; a test that no longer
// knew the functions by their names would find nothing anywhere.
func TestAllocationsAreSeen(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the plugins")
	}
	g := started(t, plugintest.File(t, named), "sentinel_http", `{"resource_name": "web", `+fmt.Sprintf(flowRule, far)+`}`)
	seen := 0
	g.Called = func(string, []string) { seen++ }
	must(t, g.Call("proxy_on_context_create", 1000, 0))
	must(t, g.Call("proxy_on_configure", 1000, uint64(len(g.configuration))))
	if seen == 0 {
		t.Error("a filter that starts does not allocate")
	}
}

// allocates tells the functions that take memory from the heap, of Go's runtime and of TinyGo's.
func allocates(function string) bool {
	return function == "runtime.alloc" || function == "runtime.mallocgc"
}

// request is one that succeeds.
func request(path string) Stream {
	return Stream{
		Request:    map[string]string{":authority": "example.org", ":path": path, ":method": "GET"},
		Response:   map[string]string{":status": "200"},
		Properties: map[string]string{"response.code_details": "via_upstream", "source.address": "192.0.2.2:80"},
	}
}

// started is a guest with a filter.
func started(t *testing.T, file, rootID, configuration string) *Guest {
	t.Helper()
	g, err := Start(t.Context(), file, rootID, configuration, allocates)
	must(t, err)
	t.Cleanup(func() { must(t, g.Close()) })
	return g
}

// wants fails the test where requests, each in its turn, allocate, or where most are refused and shall not, or the other way.
func wants(t *testing.T, g *Guest, refuses bool, requests ...Stream) {
	t.Helper()
	made, refused := 0, 0
	nothing(t, g, func() error {
		g.Stream = requests[made%len(requests)]
		id, err := g.Begin()
		if made++; g.Stream.Answered != 0 {
			refused++
		}
		if err != nil {
			return err
		}
		return g.End(id)
	})
	if (refused > made*9/10) != refuses || (refused > 0) != refuses {
		t.Errorf("%d of %d requests are refused", refused, made)
	}
}

// nothing fails the test where what is done over and over, 10 µs apart, allocates. What grows has grown before. What ticks
// allocate, of which there is one for many requests, is their matter, and so is what a few of the requests after one do for all
// others: a reservation, a page of the snapshot that is decoded.
func nothing(t *testing.T, g *Guest, do func() error) {
	t.Helper()
	const grows, counted, perTick, few = 6000, 4000, 100, 3
	by := map[string]int{}
	for i := range grows + counted {
		if i%perTick == 0 {
			g.Called = nil
			must(t, g.Tick())
		}
		if i == grows {
			clear(by)
		}
		g.Called = func(function string, callers []string) {
			by[strings.Join(append([]string{function}, callers...), " < ")]++
		}
		g.Now += 10_000
		must(t, do())
	}
	for _, way := range slices.Sorted(maps.Keys(by)) {
		if n := by[way]; n > few*counted/perTick {
			t.Errorf("%d of %d allocate: %.300s", n, counted, way)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
