package engine_test

import "testing"

// The metrics tell how many VMs live and how many died, whoever died, and do not mistake one whose filters are gone for dead.
func TestWorkersAreCounted(t *testing.T) {
	const workers = 6
	w := newProcess(workers, cfg(limit("id", 10, 1000)))
	see := func(live, lost uint64) {
		t.Helper()
		w.run(4 * second)
		before, _ := w.Metric("sentinel_ticks")
		w.run(second)
		after, _ := w.Metric("sentinel_ticks")
		gotLive, _ := w.Metric("sentinel_workers")
		gotLost, _ := w.Metric("sentinel_workers_lost")
		if gotLive != live || gotLost != lost || after-before != live*50 {
			t.Errorf("%d live, %d lost, %d ticks a second; want %d, %d, %d", gotLive, gotLost, after-before, live, lost, live*50)
		}
	}
	see(workers, 0)
	w.workers[workers-1].gone = true
	see(workers-1, 1)
	w.workers[0].gone = true // it aggregates
	see(workers-2, 2)
	w.workers[1].http.Drain()
	see(workers-2, 2)
	w.workers[1].tcp.Drain()
	w.workers[1].gone = true
	see(workers-3, 2)
	w.join(cfg(limit("id", 10, 1000))) // a VM made anew
	see(workers-2, 2)
	w.workers[2].gone = true
	see(workers-3, 3)
	w.workers[2].gone = false // it was only held up
	see(workers-2, 3)
	if returned, _ := w.Metric("sentinel_workers_returned"); returned != 1 {
		t.Errorf("%d returned, want 1", returned)
	}
}
