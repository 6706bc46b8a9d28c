//go:build !wasip1

package http

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/plugins/vm/vmtest"
)

// liveConfig has a rule of its own and a data source.
const liveConfig = `{"failure_mode": "closed",
	"flowRules": [{"id": "qps", "resource": "/", "threshold": 3, "statIntervalInMs": 3600000}],
	"datasource": [{"type": "http", "cluster": "rules", "path": "/rules.json", "interval_ms": 1000%s}]}`

// liveRun is a filter with a data source, and its server, which a test plays.
type liveRun struct {
	*vmtest.Envoy
	t        *testing.T
	plugin   *vmtest.Plugin
	answered int
}

func startLive(t *testing.T, more string) *liveRun {
	t.Helper()
	e := vmtest.Start(t, map[string]vm.HandlerKind{"sentinel_http": Kind}, "")
	return &liveRun{Envoy: e, t: t, plugin: e.Plugin("sentinel_http", fmt.Sprintf(liveConfig, more))}
}

// call waits for the next call.
func (l *liveRun) call() *envoyhost.RecordedCall {
	l.t.Helper()
	for range 400 {
		if len(l.Calls) > l.answered {
			l.answered++
			return l.Calls[l.answered-1]
		}
		l.Run(100 * time.Millisecond)
	}
	l.t.Fatal("the source is not asked any more")
	return nil
}

// answer answers the next call, and waits until what it brings is in force.
func (l *liveRun) answer(status, etag, body string) {
	l.t.Helper()
	headers := [][2]string{{":status", status}}
	if etag != "" {
		headers = append(headers, [2]string{"etag", etag})
	}
	l.AnswerCall(l.call(), headers, body)
	l.Run(600 * time.Millisecond)
}

// admits wants so many of more requests to a path to be admitted.
func (l *liveRun) admits(path string, want int) {
	l.t.Helper()
	got := 0
	for range want + over {
		s := l.plugin.Stream()
		s.Request[":path"] = path
		s.RequestHeaders()
		if len(s.Answers) == 0 {
			got++
		}
		s.End()
	}
	if got != want {
		l.t.Errorf("%d are admitted to %s, want %d", got, path, want)
	}
}

// over are how many requests more are sent than shall be admitted.
const over = 2

// free wants all requests to a path to be admitted.
func (l *liveRun) free(path string) {
	l.t.Helper()
	for range 20 {
		s := l.plugin.Stream()
		s.Request[":path"] = path
		s.RequestHeaders()
		if len(s.Answers) > 0 {
			l.t.Errorf("a request to %s is refused", path)
		}
		s.End()
	}
}

// logs wants a line of the log to contain that, as often as it says.
func (l *liveRun) logs(times int, text string) {
	l.t.Helper()
	n := 0
	for _, line := range l.Worker.Lines() {
		if strings.Contains(line, text) {
			n++
		}
	}
	if n != times {
		l.t.Errorf("%q is logged %d times, want %d: %q", text, n, times, l.Worker.Lines())
	}
}

func rules(resource string, threshold int) string {
	return fmt.Sprintf(`{"flowRules": [{"id": "live-%d", "resource": %q, "threshold": %d, "statIntervalInMs": 3600000}]}`,
		threshold, resource, threshold)
}

func TestLiveRulesTakeEffect(t *testing.T) {
	l := startLive(t, "")
	l.admits("/", 3) // its own
	c := l.call()
	if c.Cluster != "rules" || c.TimeoutMs != 1000 || c.Headers[1] != [2]string{":path", "/rules.json"} {
		t.Errorf("asked %+v", c)
	}
	l.AnswerCall(c, [][2]string{{":status", "200"}, {"etag", `"one"`}}, rules("/orders", 5))
	l.free("/orders") // what is not in force yet guards nothing
	l.Run(600 * time.Millisecond)
	l.admits("/orders", 5)
	l.admits("/", 0) // and its own rule has kept its window

	c = l.call()
	if !slices.Contains(c.Headers, [2]string{"if-none-match", `"one"`}) {
		t.Errorf("asked %+v", c)
	}
	l.AnswerCall(c, [][2]string{{":status", "304"}}, "")
	l.answer("200", `"two"`, strings.Replace(rules("/orders", 7), "live-7", "live-5", 1))
	l.admits("/orders", 2) // 7 in the same window
	l.answer("200", `"three"`, `{}`)
	l.free("/orders")
	l.answer("200", `"four"`, `{"flowRules": [{"id": "qps", "resource": "/", "threshold": 4, "statIntervalInMs": 3600000}]}`)
	l.admits("/", 1) // in the place of its own
	l.Metrics(map[string]uint64{
		"sentinel_datasource_updates;resource=rules/rules.json": 4, "sentinel_datasource_errors;resource=rules/rules.json": 0,
	})
	l.Faults()
}

// Whatever is wrong with an answer keeps the rules that are in force, and is said once.
func TestBadAnswersKeepTheRules(t *testing.T) {
	for _, c := range []struct {
		name, status, etag, body string
		says                     string
	}{
		{"nonsense", "200", `"x"`, "<html>", "refused; the last rules stay in force: datasource[0]: malformed JSON at line 1, byte 1"},
		{"truncated", "200", `"x"`, rules("/orders", 5)[:40], "malformed JSON at line 1"},
		{"a mistake", "200", `"x"`, rules("/orders", -1), "datasource[0]: flowRules[0].threshold: must be ≥ 0, got -1"},
		{"duplicate ids", "200", "", `{"flowRules": [{"id": "a", "resource": "/a", "threshold": 1}, {"id": "a", "resource": "/b", "threshold": 1}]}`,
			`datasource[0]: flowRules[1].id: "a" is the id of datasource[0]: flowRules[0] already`},
		{"a list", "200", "", `[]`, "must be an object with flowRules or other lists of rules; for a list say in rules"},
		{"nothing", "200", "", " \n", "is empty; to have no rules write {}"},
		{"a key of the filter's", "200", "", `{"resource_name": "all"}`, "resource_name: belongs in the filter's configuration"},
		{"absent", "404", "", "", "status 404: there is no such document"},
		{"forbidden", "403", "", "", "status 403: credentials are for Envoy to add"},
		{"a redirect", "302", "", "", "status 302: redirects are not followed"},
		{"an error", "503", "", "", "status 503"},
		{"too long", "200", "", strings.Repeat(" ", 4<<20) + "{}", "a document of 4194306 bytes, more than 4194304"},
		{"far too long", "200", "", strings.Repeat(" ", 9<<20), "an answer of 9437184 bytes"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			l := startLive(t, "")
			l.answer("304", "", "") // to no condition
			l.logs(1, "status 304")
			l.answer("200", `"good"`, rules("/orders", 5))
			l.logs(1, "new rules")
			for range 3 {
				l.answer(c.status, c.etag, c.body)
			}
			l.logs(1, c.says)
			l.admits("/orders", 5)
			errors, _ := l.Metric("sentinel_datasource_errors;resource=rules/rules.json")
			if errors < 2 {
				t.Errorf("%d errors are counted", errors)
			}
			l.answer("200", `"better"`, rules("/orders", 8))
			l.admits("/orders", 8)
			l.Faults()
		})
	}
}

// TestNoAnswer has a source that is down, hangs, or cannot be asked: it is asked again, less and less often.
func TestNoAnswer(t *testing.T) {
	l := startLive(t, "")
	for range 6 {
		l.AnswerCall(l.call(), nil, "")
	}
	l.logs(1, "datasource rules/rules.json: error 1 on end: no answer; the filter has its own rules only")
	l.AnswerCall(l.call(), [][2]string{{":status", "503"}}, "")
	l.logs(1, "error 7 on end: status 503")
	before := len(l.Calls)
	if l.Run(20 * time.Second); len(l.Calls) > before+1 {
		t.Errorf("after 7 failures it is asked %d times in 20 s", len(l.Calls)-before)
	}
	l.call() // hangs, and the context that has asked is gone: nobody hears of it
	l.answer("200", "", rules("/orders", 5))
	l.admits("/orders", 5)
	l.Before = func(call string) error {
		if call == "callHTTP" {
			return fmt.Errorf("bad argument")
		}
		return nil
	}
	l.Run(3 * time.Second)
	l.logs(1, `error 1 on end: cluster "rules": bad argument; the last rules stay in force`)
	l.Before = nil
	l.answer("304", "", "")
	l.answer("200", "", rules("/orders", 5))
	l.logs(1, "answers again")
	l.Faults()
}

// TestRequired refuses everything until the first answer, by the failure mode.
func TestRequired(t *testing.T) {
	l := startLive(t, `, "required": true`)
	l.Run(time.Second)
	l.admits("/", 0)
	l.admits("/other", 0)
	l.answer("200", "", rules("/orders", -5)) // no good one
	l.admits("/", 0)
	l.answer("200", "", rules("/orders", 5))
	l.admits("/orders", 5)
	l.admits("/", 3)
	l.Faults()
}

// TestALongerRest has no requests: the VM rests, and goes on asking.
func TestAskedAtRest(t *testing.T) {
	l := startLive(t, "")
	l.answer("200", `"one"`, rules("/orders", 5))
	l.Run(10 * time.Second)
	before, ticks := l.answered, l.plugin.TickPeriods
	if last := ticks[len(ticks)-1]; last < 400 {
		t.Errorf("at rest it ticks every %d ms", last)
	}
	for range 10 {
		l.AnswerCall(l.call(), [][2]string{{":status", "304"}}, "")
	}
	l.answer("200", `"two"`, rules("/orders", 9))
	l.admits("/orders", 9)
	if before == l.answered {
		t.Error("not asked")
	}
	l.Faults()
}

// TestLongPoll has Nacos, which is asked for the document once, and then waits for news with the hash of it.
func TestLongPoll(t *testing.T) {
	e := vmtest.Start(t, map[string]vm.HandlerKind{"sentinel_http": Kind}, "")
	l := &liveRun{Envoy: e, t: t, plugin: e.Plugin("sentinel_http", `{"datasource": [{"type": "nacos", "cluster": "nacos", "data_id": "orders",
		"rules": "flowRules", "interval_ms": 1000}]}`)}
	path := func(c *envoyhost.RecordedCall) string { return c.Headers[1][1] }
	list := func(threshold int) string {
		return fmt.Sprintf(`[{"id": "qps", "resource": "/orders", "threshold": %d, "statIntervalInMs": 3600000}]`, threshold)
	}
	l.answer("200", "", list(3))
	for n := range 3 {
		c := l.call()
		if path(c) != "/nacos/v1/cs/configs/listener" || c.TimeoutMs != 33_000 || !strings.Contains(c.Body, "orders%02DEFAULT_GROUP%02") {
			t.Fatalf("asked %+v", c)
		}
		l.Run(29 * time.Second) // it waits, and nobody asks meanwhile
		if len(l.Calls) != l.answered {
			t.Fatalf("asked while it waits: %+v", l.Calls[l.answered])
		}
		if n < 2 {
			l.AnswerCall(c, [][2]string{{":status", "200"}}, "")
			continue
		}
		l.AnswerCall(c, [][2]string{{":status", "200"}}, "orders%02DEFAULT_GROUP%01\n")
		l.Run(50 * time.Millisecond)
		if c = l.call(); path(c) != "/nacos/v1/cs/configs?dataId=orders&group=DEFAULT_GROUP" {
			t.Fatalf("asked %+v", c)
		}
		l.AnswerCall(c, [][2]string{{":status", "200"}}, list(5))
		l.Run(600 * time.Millisecond)
	}
	l.admits("/orders", 5)
	l.Faults()
}

// TestUpdateOfTheFilter replaces a filter whose source has rules in force, and others that were refused, by one that they suit: it
// begins with what is in force, and the source is asked anew.
func TestUpdateOfTheFilter(t *testing.T) {
	l := startLive(t, "")
	l.answer("200", `"one"`, rules("/orders", 5))
	needs := `{"systemRules": [{"id": "load", "metricType": "Load", "triggerCount": 4}]}`
	l.answer("200", `"two"`, needs)
	l.logs(1, "is not visible from inside Envoy: it needs a system_source")
	l.plugin = l.Plugin("sentinel_http", strings.Replace(fmt.Sprintf(liveConfig, ""), `{"failure_mode"`, `{"system_source": {"cluster": "node"}, "failure_mode"`, 1))
	l.admits("/orders", 5) // at once
	asked := 0
	for range 60 { // the filter that was replaced, which it does not suit, is parked after 2 s
		l.Run(100 * time.Millisecond)
		for ; l.answered < len(l.Calls); l.answered++ {
			c := l.Calls[l.answered]
			if c.Cluster != "rules" {
				continue
			}
			if slices.ContainsFunc(c.Headers, func(h [2]string) bool { return h[0] == "if-none-match" }) {
				l.AnswerCall(c, [][2]string{{":status", "304"}}, "")
				continue
			}
			asked++
			l.AnswerCall(c, [][2]string{{":status", "200"}, {"etag", `"two"`}}, needs)
		}
	}
	if updates, _ := l.Metric("sentinel_datasource_updates;resource=rules/rules.json"); asked != 2 || updates != 2 {
		t.Errorf("asked anew %d times, %d updates", asked, updates)
	}
	l.free("/orders")
	l.Faults()
}

// TestLostSharedData loses what the workers know together of the source: the rules stay, and all is found anew.
func TestLostSharedData(t *testing.T) {
	l := startLive(t, "")
	l.answer("200", `"one"`, rules("/orders", 5))
	l.admits("/orders", 5)
	l.Corrupt(func(key string, value []byte) ([]byte, bool) {
		return []byte("nonsense"), strings.Contains(key, "sources")
	})
	l.Run(300 * time.Millisecond)
	l.admits("/orders", 0)
	l.answer("200", `"one"`, rules("/orders", 5))
	l.answer("200", `"two"`, rules("/orders", 9))
	l.admits("/orders", 9)
	l.Corrupt(func(key string, value []byte) ([]byte, bool) {
		return []byte("nonsense"), strings.Contains(key, "document")
	})
	l.plugin = l.Plugin("sentinel_http", fmt.Sprintf(liveConfig, "")) // which has to read the text, and cannot
	l.Run(100 * time.Millisecond)
	l.answer("200", `"two"`, rules("/orders", 9)) // asked without a mark
	l.Run(time.Second)
	l.admits("/orders", 0)
}
