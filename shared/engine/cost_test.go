package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/request/requesttest"
)

// What a later rule refuses gives back all that it took of those before, of whatever kind, and what costs nothing takes
// nothing and gives nothing back.
func TestWhatALaterRuleRefusesGivesBackAllItTook(t *testing.T) {
	for _, first := range []string{
		`"flowRules": [{"id": "f", "resource": "r", "threshold": 10, "statIntervalInMs": 600000, %s}]`,
		`"flowRules": [{"id": "f", "resource": "r", "threshold": 10, "statIntervalInMs": 600000, "window": "exact", %s}]`,
		`"flowRules": [{"id": "f", "resource": "r", "threshold": 0.001, "burst": 10, %s}]`,
		`"hotspotRules": [{"id": "f", "resource": "r", "metricType": "QPS", "paramSource": "Host", "threshold": 10, "durationInSec": 600, %s}]`,
	} {
		const cost = `"batchCount": {"from": "Header", "name": "x-cost", "max": 100}`
		// Of the hotspot rules the other is asked after the first.
		other := `{"id": "z", "resource": "r", "metricType": "QPS", "paramSource": "Header", "paramKey": "x-user", "threshold": 1, "durationInSec": 600}`
		doc := fmt.Sprintf(first, cost)
		if doc[:7] == `"hotspo` {
			doc = doc[:len(doc)-1] + ", " + other + "]"
		} else {
			doc += `, "hotspotRules": [` + other + "]"
		}
		p := newProcess(2, tried(t, doc))
		ask := func(cost, user string) bool {
			f := p.workers[len(user)%2].http
			f.Stream.Of(&requesttest.Client{Headers: map[string]string{":authority": "h", "x-cost": cost, "x-user": user}})
			var e engine.Entry
			return f.Enter("r", p.Now(), &e) == nil
		}
		p.run(millisecond)
		for _, c := range []struct {
			cost, user string
			want       bool
		}{
			{"3", "ann", true}, {"7", "ann", false}, {"7", "ann", false}, {"0", "ann", false}, {"8", "john", false}, {"7", "john", true},
			{"1", "mary", false}, {"0", "mary", true}, {"101", "eve", false},
		} {
			if got := ask(c.cost, c.user); got != c.want {
				t.Errorf("%s: %s of %s was let in: %t", doc, c.cost, c.user, got)
			}
			p.run(10 * millisecond)
		}
	}
}

// Without ids a rule for requests and one for what they cost keep each its own budget, in whatever order they are written.
func TestCostsAndRequestsAreNotOneBudget(t *testing.T) {
	for _, family := range []string{
		`"flowRules": [%s, %s]|{"resource": "r", "threshold": %d, "statIntervalInMs": 600000%s}`,
		`"hotspotRules": [%s, %s]|{"resource": "r", "metricType": "QPS", "paramSource": "Host", "threshold": %d, "durationInSec": 600%s}`,
	} {
		list, one, _ := strings.Cut(family, "|")
		requests := fmt.Sprintf(one, 10, "")
		bytes := fmt.Sprintf(one, 1000, `, "batchCount": {"from": "Header", "name": "X-Cost", "max": 1000}`)
		p := newProcess(1, tried(t, fmt.Sprintf(list, requests, bytes)))
		ask := func(cost string) *engine.Block {
			p.run(10 * millisecond)
			return p.workers[0].enters(p.Now(), map[string]string{":authority": "h", "x-cost": cost})
		}
		for range 3 {
			if b := ask("300"); b != nil {
				t.Fatal(b)
			}
		}
		p.workers[0].update(tried(t, fmt.Sprintf(list, bytes, requests)))
		if b := ask("101"); b == nil {
			t.Error("1001 of 1000 were let in")
		}
		if b := ask("50"); b != nil {
			t.Errorf("the fourth of 10 requests, with 950 of 1000: %+v", b)
		}
	}
}

// Of a cold rule that nobody has taken anything of, a client is told what a cold rule has.
func TestQuotaOfARuleThatWasNeverWarm(t *testing.T) {
	p := newProcess(1, tried(t, `"rate_limit_headers": "draft_03", "flowRules": [{"id": "f", "resource": "r", "threshold": 9,
		"tokenCalculateStrategy": "WarmUp", "warmUpPeriodSec": 3, "batchCount": {"from": "Header", "name": "x-cost", "max": 9}}]`))
	f := p.workers[0].http
	f.Stream.Of(&requesttest.Client{Headers: map[string]string{"x-cost": "0"}})
	var e engine.Entry
	if b := f.Enter("r", p.Now(), &e); b != nil {
		t.Fatal(b)
	}
	if q := e.Quotas(nil, p.Now()); len(q) != 1 || q[0].Left != 3 || q[0].Limit != 3 {
		t.Errorf("%+v, and a cold rule of 9 has 3", q)
	}
}
