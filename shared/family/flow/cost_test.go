package flow_test

import (
	"testing"

	"sentinel-envoy/shared/family/flow"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rule"
)

// Who asks for more than there is gets nothing and leaves no trace; who asks for more than there can be is told so.
func TestPermitsAreTakenTogetherOrNotAtAll(t *testing.T) {
	for _, shape := range []rule.Window{rule.SlidingWindow, rule.FixedWindow, rule.ExactWindow} {
		p := memhost.NewProcess(start)
		b := flow.NewBudget(record.NewTable(p.Worker(nil)), record.IDOf("r"), flow.ShapedWindow(1000, shape))
		ask := func(n int64) flow.Verdict {
			t.Helper()
			p.Advance(5 * millisecond) // a refusal is remembered for 2
			v, err := b.Take(10, n, p.Now())
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		first := ask(7)
		if !first.OK {
			t.Fatalf("%s: 7 of 10 were refused", shape)
		}
		if v := ask(11); v.OK || v.FreeAt != 0 {
			t.Errorf("%s: 11 of 10: %+v", shape, v)
		}
		if v := ask(4); v.OK || v.Used != 7 || v.FreeAt <= p.Now() {
			t.Errorf("%s: 4 where 3 are left: %+v", shape, v)
		}
		v, err := b.Take(10, 3, p.Now()) // at once: the refusal of 4 is none of 3
		if err != nil || !v.OK {
			t.Errorf("%s: 3 where 3 are left: %+v, %v", shape, v, err)
		}
		if v := ask(1); v.OK {
			t.Errorf("%s: an eleventh", shape)
		}
		if err := b.GiveBack(first.At, 7, p.Now()); err != nil {
			t.Fatal(err)
		}
		if v := ask(7); !v.OK {
			t.Errorf("%s: 7 that were given back are not free: %+v", shape, v)
		}
		if v := ask(1); v.OK {
			t.Errorf("%s: an eleventh after 7 were given back", shape)
		}
	}
}

// With Throttling what takes n permits keeps the next away for n gaps.
func TestThrottlingSpacesByPermits(t *testing.T) {
	p := memhost.NewProcess(start)
	th := flow.NewThrottle(record.NewTable(p.Worker(nil)), record.IDOf("r"), flow.WindowOf(1000))
	pace := flow.Pace{IntervalMs: 1000, MaxWaitMs: 10_000, Costs: true}
	begin := p.Now()
	for i, c := range []struct{ n, after int64 }{{3, 0}, {1, 300}, {10, 400}, {2, 1400}, {1, 1600}} {
		turn, err := th.Next(pace, 10, nil, c.n, 10*second, p.Now())
		if err != nil || !turn.OK || turn.At != begin+c.after*millisecond {
			t.Errorf("request %d of %d permits: %+v, %v; want it %d ms after the first", i, c.n, turn, err, c.after)
		}
	}
	if turn, err := th.Next(pace, 10, nil, 11, 10*second, p.Now()); err != nil || turn.OK {
		t.Errorf("11 permits of 10: %+v, %v", turn, err)
	}
	// Nobody who comes late finds more: an idle minute is worth nothing.
	p.Advance(60 * second)
	for i, after := range []int64{0, 1000} {
		turn, err := th.Next(pace, 10, nil, 10, 10*second, p.Now())
		if err != nil || turn.At != begin+60*second+after*millisecond {
			t.Errorf("after a minute, %d: %+v, %v", i, turn, err)
		}
	}
}
