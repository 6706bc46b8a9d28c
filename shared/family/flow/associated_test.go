package flow_test

import (
	"testing"

	"sentinel-envoy/shared/family/flow"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/record"
)

func TestMeterSeesItsOwnAtOnceAndOthersOnceTheyHaveTold(t *testing.T) {
	p := memhost.NewProcess(start)
	w := flow.WindowOf(1000)
	var meters [2]*flow.AssociatedCount
	for i := range meters {
		meters[i] = flow.NewAssociatedCount(record.NewTable(p.Worker(nil)), record.IDOf("meter"), w)
	}
	check := func(want0, want1 int64) {
		t.Helper()
		for i, want := range []int64{want0, want1} {
			if err := meters[i].Read(p.Now(), tick); err != nil {
				t.Fatal(err)
			}
			if got, _ := meters[i].Sums(p.Now()); got != want {
				t.Errorf("meter %d counts %d, want %d", i, got, want)
			}
		}
	}
	check(0, 0)
	for range 3 {
		if err := meters[0].Add(p.Now()); err != nil {
			t.Fatal(err)
		}
	}
	check(3, 0)
	p.Advance(tick)
	if err := meters[0].Sync(p.Now()); err != nil {
		t.Fatal(err)
	}
	check(3, 3)
	p.Advance(500 * millisecond) // another bucket
	if err := meters[1].Add(p.Now()); err != nil {
		t.Fatal(err)
	}
	check(3, 4)
	p.Advance(500 * millisecond) // the first bucket has left
	if err := meters[1].Sync(p.Now()); err != nil {
		t.Fatal(err)
	}
	check(1, 1)
	if _, previous := meters[0].Sums(p.Now()); previous != 4 {
		t.Errorf("%d in the window before, want 4", previous)
	}
}

// A rule that warms up with another resource has one threshold for all workers and for a whole second.
func TestWarmerIsTheSameForAllWorkers(t *testing.T) {
	p := memhost.NewProcess(start)
	warm := flow.NewWarmUp(100, 1000, 10, 3)
	var warmers [3]*flow.AssociatedWarmUp
	for i := range warmers {
		warmers[i] = flow.NewAssociatedWarmUp(record.NewTable(p.Worker(nil)), record.IDOf("warm"))
	}
	last := 0.0
	for second := range 12 {
		var thresholds [3]float64
		for i, w := range warmers {
			var err error
			// What they know of the other resource differs.
			if thresholds[i], err = w.Threshold(warm, 60+int64(i), p.Now()); err != nil {
				t.Fatal(err)
			}
			p.Advance(millisecond)
		}
		if thresholds[0] != thresholds[1] || thresholds[1] != thresholds[2] || int(thresholds[0]) < int(last) {
			t.Errorf("second %d: thresholds %v, before %v", second, thresholds, last)
		}
		last = thresholds[0]
		p.Advance(997 * millisecond)
	}
	if last <= 34 {
		t.Errorf("it did not warm up: %v", last)
	}
}

// An entry that had a turn and did not enter after all does not warm the rule up; its turn stays taken.
func TestForgottenTurnsDoNotWarmUp(t *testing.T) {
	warm := flow.NewWarmUp(100, 1000, 2, 3)
	pace := flow.Pace{IntervalMs: 1000, MaxWaitMs: 100}
	for _, forget := range []bool{false, true} {
		p := memhost.NewProcess(start)
		pacer := flow.NewThrottle(record.NewTable(p.Worker(nil)), record.IDOf("pace"), flow.WindowOf(1000))
		var last flow.Turn
		for range 1000 {
			turn, err := pacer.Next(pace, 100, warm, 1, 100*millisecond, p.Now())
			if err != nil {
				t.Fatal(err)
			}
			if turn.OK && forget {
				if err := pacer.Forget(turn.At, 1, p.Now()); err != nil {
					t.Fatal(err)
				}
			}
			if turn.OK && turn.At-last.At < pace.Gap(turn.Threshold, 1) {
				t.Fatalf("forget %t: turns at %d and %d", forget, last.At, turn.At)
			}
			if turn.OK {
				last = turn
			}
			p.Advance(5 * millisecond)
		}
		if warmed := last.Threshold > 99; warmed == forget {
			t.Errorf("forget %t: the threshold is %v", forget, last.Threshold)
		}
	}
}
