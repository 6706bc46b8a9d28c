package quota_test

import (
	"testing"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/quota"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rls"
	"sentinel-envoy/shared/rls/rlstest"
	"sentinel-envoy/shared/rule"
)

// A worker that read its clock, and then stood still while others went on, leases permits of their time: none of them may count
// as admitted at its own earlier reading, which may lie in a window before.
func TestLeasedPermitsAreNotOfAnEarlierTime(t *testing.T) {
	process := memhost.NewProcess(1000 * second)
	service := rlstest.New(map[string]rlstest.Limit{descriptor: {Hits: 60000, Unit: ratelimit.RateLimitResponse_RateLimit_HOUR}})
	var due []func()
	worker := func() *quota.Quota {
		w := process.Worker(nil)
		w.Serve(func(_, _, _ string, message []byte, _ uint32, answered func([]byte, error)) error {
			reply, err := service.ShouldRateLimit(message, 1000, 1000)
			due = append(due, func() { answered(reply, err) })
			return nil
		})
		quotas := quota.NewQuotas(w, record.NewTable(w), func(what string, err error) { t.Errorf("%s: %v", what, err) })
		return quotas.Acquire(rule.RateLimitService{Cluster: "rls", Domain: "d", TimeoutMs: 50}, "r", []rls.Entry{{Key: "rule", Value: "r"}})
	}
	take := func(q *quota.Quota, now int64) quota.Verdict {
		v, err := q.Take(false, now)
		if err != nil {
			t.Fatal(err)
		}
		for ; len(due) > 0; due = due[1:] {
			due[0]()
		}
		return v
	}
	busy, slow := worker(), worker()
	for range 4000 { // until a reservation serves several permits, and the slow worker has a lease of more than one
		take(busy, process.Now())
		take(slow, process.Now())
		process.Advance(millisecond / 2)
	}
	stale, leased, spent := process.Now(), int64(0), 0
	for range 50 {
		process.Advance(millisecond / 2)
		take(busy, process.Now())
		v := take(slow, stale)
		if v.Outcome != quota.Pass {
			continue
		}
		if v.At < leased {
			t.Fatalf("a permit that was leased at %d counts as admitted at %d", leased, v.At)
		}
		if leased > 0 && v.At == leased {
			spent++
		}
		if v.At > stale {
			leased = v.At
		}
	}
	if spent == 0 {
		t.Errorf("no lease of the slow worker had two permits: nothing was tried")
	}
}
