package engine_test

import (
	"fmt"
	"slices"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/source"
)

// liveOwn is the configuration of a filter whose rules come from a file, and from nowhere else.
const liveOwn = `{"resource_name": "r", "datasource": [{"type": "http", "cluster": "rules", "path": "/rules.json", "interval_ms": 500}]}`

// versions are documents, each of which admits so many entries as it has in its name in an hour, and a server of the newest.
type versions struct {
	sim    *memhost.Sim
	newest int
	asked  map[int]int // by worker
}

func (v *versions) document(n int) string {
	return fmt.Sprintf(`{"flowRules": [{"id": "version %d", "resource": "r", "threshold": 0}]}`, n)
}

// answer answers a question as a server with ETags does, or sometimes with nonsense or not at all.
func (v *versions) answer(a *engine.Ask) (source.Response, error) {
	etag := fmt.Sprintf("%q", fmt.Sprint(v.newest))
	switch r := v.sim.Rand.IntN(10); {
	case r == 0:
		return source.Response{}, fmt.Errorf("no answer")
	case r == 1:
		return source.Response{Status: 200, Body: []byte(`{"flowRules": [{`)}, nil
	case slices.Contains(a.Headers, [2]string{"if-none-match", etag}):
		return source.Response{Status: 304}, nil
	}
	return source.Response{Status: 200, Headers: [][2]string{{"etag", etag}}, Body: []byte(v.document(v.newest))}, nil
}

// liveDecision is by which version's rules an entry was refused, 0 where none did, and between which times that was decided.
type liveDecision struct {
	began, ended int64
	version      int
}

// liveWorker is a worker with two filters that have one source: it ticks, asks when it is its turn, and decides in between.
func liveWorker(t *testing.T, v *versions, task *memhost.Task, n int, log *[]liveDecision) {
	vm := engine.New(task.Worker, "test")
	var filters []*engine.Filter
	for range 2 {
		own, err := config.Parse([]byte(liveOwn), config.KindHTTP)
		if err != nil {
			t.Fatal(err)
		}
		f := vm.NewFilter("sentinel_http", own, nil)
		f.Follow(func(documents []config.Document) (*config.Config, error) {
			return config.ParseRules(documents, config.KindHTTP, own)
		})
		filters = append(filters, f)
	}
	for {
		now := task.Now()
		vm.Tick(now)
		vm.AskSources(now, func(a *engine.Ask) error {
			v.asked[n]++
			r, err := v.answer(a)
			vm.AskAnswered(a, r, err, task.Now())
			return nil
		})
		for _, f := range filters {
			f.Renew(now)
			f.Prepare(now)
		}
		for range v.sim.Rand.IntN(4) {
			task.Sleep(task.Now() + v.sim.Rand.Int64N(10*millisecond))
			f, at := filters[v.sim.Rand.IntN(2)], task.Now()
			f.Renew(at)
			d := liveDecision{began: at, ended: task.Now()}
			if b := f.Enter("r", at, &engine.Entry{}); b != nil {
				_, _ = fmt.Sscanf(b.Rule, "version %d", &d.version)
			}
			*log = append(*log, d)
		}
		task.Sleep(task.Now() + v.sim.Rand.Int64N(60*millisecond))
	}
}

// TestRulesChangeAtOneInstant has workers that ask, decide, stall and die, and a server whose document changes: by their times,
// decisions go from one version to the next and never back, and the newest arrives.
func TestRulesChangeAtOneInstant(t *testing.T) {
	seeds.Try(t, 30, func(t *testing.T, seed uint64) {
		sim := memhost.NewSim(seed, start)
		defer sim.Close()
		v := &versions{sim: sim, newest: 1, asked: map[int]int{}}
		var log []liveDecision
		for n := range 4 {
			sim.Go(func(task *memhost.Task) { liveWorker(t, v, task, n, &log) })
		}
		killed := 0
		for sim.Now() < start+25*second && sim.Step() {
			if now := sim.Now(); now < start+12*second {
				v.newest = 1 + int((now-start)/(2*second))
				if sim.Rand.IntN(3000) == 0 {
					live := sim.Live()
					sim.Stall(live[sim.Rand.IntN(len(live))], sim.Rand.Int64N(900*millisecond))
				}
				if killed < 2 && sim.Rand.IntN(20000) == 0 {
					killed++
					sim.Kill(sim.Live()[0])
				}
			}
		}
		seeLiveOrder(t, v, log)
	})
}

// seeLiveOrder wants no decision to have begun after another had ended that is by a newer version, and the newest to arrive.
func seeLiveOrder(t *testing.T, v *versions, log []liveDecision) {
	t.Helper()
	newest, ended := 0, map[int]int64{} // when each version has first decided, at the latest
	for _, d := range log {
		newest = max(newest, d.version)
		if first, any := ended[d.version]; !any || d.ended < first {
			ended[d.version] = d.ended
		}
	}
	if newest != v.newest {
		t.Errorf("the newest version is %d, want %d", newest, v.newest)
	}
	total := 0
	for _, n := range v.asked {
		total += n
	}
	if total > 80 { // 25 s by 450 ms, and some after worker's deaths and texts that nobody could confirm
		t.Errorf("the server was asked %d times: %v", total, v.asked)
	}
	for _, d := range log {
		for n, at := range ended {
			if n > d.version && d.began > at {
				t.Fatalf("a decision that began at %d ms is by version %d, and one that had ended at %d ms by %d",
					(d.began-start)/millisecond, d.version, (at-start)/millisecond, n)
			}
		}
	}
}
