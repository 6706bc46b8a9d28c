package engine_test

import (
	"testing"

	"sentinel-envoy/shared/engine"
)

// What a client is told of a token bucket holds in the long run: its policy says no more than comes back.
func TestQuotaOfABucketIsItsBurstInTheTimeItTakesToFill(t *testing.T) {
	c := tried(t, `"rate_limit_headers": "draft_11", "flowRules": [{"id": "f", "resource": "r", "threshold": 5, "burst": 30}]`)
	p := newProcess(1, c)
	p.workers[0].as("alice")
	var e engine.Entry
	if b := p.workers[0].http.Enter("r", p.Now(), &e); b != nil {
		t.Fatal(b)
	}
	q := e.Quotas(nil, p.Now())
	if len(q) != 1 || q[0].Limit != 30 || q[0].WindowMs != 6000 || q[0].Left != 29 {
		t.Errorf("%+v", q)
	}
}
