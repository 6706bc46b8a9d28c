package engine_test

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/request/requesttest"
	"sentinel-envoy/shared/rule"
)

// failures are the answers 401 and 403.
func failures() *rule.Answers {
	a := &rule.Answers{}
	a.Status.Add(401)
	a.Status.Add(403)
	return a
}

// banning is a rule of three entries a second that bans for 10 s after two refusals.
func banning() rule.Hotspot {
	r := perUser("h", 3)
	r.BanAfter, r.BanMs = 2, 10_000
	return r
}

// try asks for an entry of a user, which is answered at once, with a status, and reports why it was refused.
func (wk *worker) try(user string, status, now int64) *engine.Block {
	wk.as(user)
	wk.http.Stream.Begin()
	var e engine.Entry
	if b := wk.http.Enter("r", now, &e); b != nil {
		return b
	}
	if e.AwaitsStatus() {
		e.Status(outcome.Answer{Status: status}, now)
	}
	e.Exit(now, outcome.End{ResponseMs: outcome.NoTime})
	return nil
}

func TestBanHoldsOnAllWorkers(t *testing.T) {
	w := newProcess(3, hot(banning()))
	for i := range 4 {
		if b := w.workers[i%3].try("alice", 200, w.Now()); (b != nil) != (i == 3) || b != nil && b.Measure != "in 1000 ms for one header x-user" {
			t.Fatalf("entry %d: %+v", i, b)
		}
	}
	banned := w.Now()
	b := w.workers[1].try("alice", 200, banned)
	if b == nil || b.Measure != "refusals in 1000 ms for one header x-user: banned for 10000 ms" || b.RetryAfterMs != 10_000 || b.Seen != 2 {
		t.Fatalf("the refusal that bans: %+v", b)
	}
	if b := w.workers[0].try("bob", 200, banned); b != nil {
		t.Fatalf("another is banned, too: %+v", b)
	}
	for w.Now() < banned+9960*millisecond { // the window is full anew ten times meanwhile
		for i, wk := range w.workers {
			b := wk.try("alice", 200, w.Now())
			if b == nil || !strings.Contains(b.Measure, "banned") || b.RetryAfterMs > (banned+10*second-w.Now())/1e6+1 {
				t.Fatalf("worker %d, %d ms later: %+v", i, (w.Now()-banned)/1e6, b)
			}
		}
		w.run(331 * millisecond)
	}
	w.run(banned + 10*second + millisecond - w.Now())
	for i := range 4 { // and begins anew
		if b := w.workers[i%3].try("alice", 200, w.Now()); (b != nil) != (i == 3) || b != nil && strings.Contains(b.Measure, "banned") {
			t.Errorf("entry %d after the ban: %+v", i, b)
		}
	}
	w.run(second)
	if n, _ := w.Metric("sentinel_hotspot_bans;resource=r;rule=h"); n != 1 {
		t.Errorf("%d bans", n)
	}
}

// Refusals that are too far from each other ban nobody, nor do those of another value; a rule that no longer bans lets in.
func TestBanNeedsItsRefusals(t *testing.T) {
	w := newProcess(2, hot(banning()))
	for range 5 {
		for i := range 4 {
			if b := w.workers[i%2].try("alice", 200, w.Now()); b != nil && (i < 3 || strings.Contains(b.Measure, "banned")) {
				t.Fatalf("entry %d: %+v", i, b)
			}
		}
		w.run(1020 * millisecond)
	}
	for range 5 {
		w.workers[0].try("alice", 200, w.Now())
	}
	w.run(2 * second)
	if b := w.workers[1].try("alice", 200, w.Now()); b == nil {
		t.Fatal("there is no ban to lift")
	}
	mild := banning()
	mild.BanMs = 1000
	for _, wk := range w.workers {
		wk.update(hot(mild))
	}
	if b := w.workers[1].try("alice", 200, w.Now()); b != nil {
		t.Errorf("a shorter ban holds on: %+v", b)
	}
}

// A ban outlives a flood of other values, and is told as nothing left.
func TestBanOutlivesAFlood(t *testing.T) {
	c := hot(banning())
	c.RateLimitHeaders = config.Draft03
	w := newProcess(1, c)
	wk := w.workers[0]
	for range 5 {
		wk.try("alice", 200, w.Now())
	}
	for i := range 300_000 {
		wk.try(string(rune('a'+i%26))+strings.Repeat("x", i%7)+string(rune(0x4e00+i%20000))+string(rune('a'+i/20000)), 200, w.Now())
	}
	wk.as("alice")
	var e engine.Entry
	b := wk.http.Enter("r", w.Now(), &e)
	if b == nil || !strings.Contains(b.Measure, "banned") {
		t.Fatalf("a flood of other values has lifted the ban: %+v", b)
	}
	q := e.Quotas(nil, w.Now())
	if len(q) != 1 || q[0].Left != 0 || q[0].ResetMs < 9_900 || q[0].ResetMs > 10_000 {
		t.Errorf("what is left: %+v", q)
	}
}

// Whatever the workers and the times: who was banned gets nothing until the ban ends, and who was not refused often enough is not.
func TestBansOfManyWorkers(t *testing.T) {
	bans := 0
	seeds.Try(t, 100, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 7))
		r := banning()
		r.Threshold, r.BanAfter, r.BanMs = 1+rng.Int64N(100), 1+rng.Int64N(5), 100+rng.Int64N(5000)
		w := newProcess(1+rng.IntN(8), hot(r))
		var until, first, refused int64
		for range 3000 {
			b := w.workers[rng.IntN(len(w.workers))].try("alice", 200, w.Now())
			told := b != nil && strings.Contains(b.Measure, "banned")
			if now := w.Now(); now < until {
				if !told {
					t.Fatalf("%+v: %d ms before the end of the ban: %+v", r, (until-now)/1e6, b)
				}
			} else if b != nil {
				if refused == 0 || now-first > second {
					first, refused = now, 0
				}
				if refused++; told != (refused == r.BanAfter) {
					t.Fatalf("%+v: refusal %d: %+v", r, refused, b)
				}
				if told {
					until, refused = now+r.BanMs*millisecond, 0
					bans++
				}
			}
			w.Advance(rng.Int64N(2 * second / r.Threshold))
		}
	})
	if seeds.Complete() && bans < 100 {
		t.Errorf("only %d bans", bans)
	}
}

// Only answers that count are charged, when they come, by rules of both families and on all workers.
func TestCountOnlyAnswers(t *testing.T) {
	h, f := perUser("h", 3), limit("f", 3, 60_000)
	h.DurationInSec, h.CountOnly, f.CountOnly = 60, failures(), failures()
	for name, c := range map[string]*config.Config{"hotspot": hot(h), "flow": cfg(f)} {
		w := newProcess(3, c)
		for i := range 100 {
			if b := w.workers[i%3].try("alice", []int64{200, 404, 500, 429}[i%4], w.Now()); b != nil {
				t.Fatalf("%s: entry %d, which does not count: %+v", name, i, b)
			}
		}
		for i := range 3 {
			if b := w.workers[i].try("alice", []int64{401, 403}[i%2], w.Now()); b != nil {
				t.Fatalf("%s: failure %d: %+v", name, i, b)
			}
		}
		for i, wk := range w.workers {
			b := wk.try("alice", 200, w.Now())
			if b == nil || !strings.HasPrefix(b.Measure, "answered 401,403 in 60000 ms") || b.Seen != 3 || b.RetryAfterMs <= 0 || b.RetryAfterMs > 60_001 {
				t.Errorf("%s: worker %d after three failures: %+v", name, i, b)
			}
		}
		w.run(61 * second)
		if b := w.workers[0].try("alice", 200, w.Now()); b != nil {
			t.Errorf("%s: a minute later: %+v", name, b)
		}
	}
}

// A window has at most the threshold and what was under way when it was reached, whatever the workers, and all of it is charged.
func TestCountOnlyIsOverByWhatIsUnderWay(t *testing.T) {
	over := 0
	seeds.Try(t, 100, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 11))
		threshold := 1 + rng.IntN(200)
		h, f := perUser("h", int64(threshold)), limit("f", float64(threshold), 3_600_000)
		h.DurationInSec, h.CountOnly, f.CountOnly = 3600, failures(), failures()
		c := hot(h)
		if rng.IntN(2) == 0 {
			c = cfg(f)
		}
		w := newProcess(1+rng.IntN(8), c)
		var open []*engine.Entry
		charged, atOnce := 0, 1+rng.IntN(50)
		for range 5000 {
			if len(open) > 0 && (len(open) == atOnce || rng.IntN(2) == 0) {
				i := rng.IntN(len(open))
				e := open[i]
				open[i] = open[len(open)-1]
				open = open[:len(open)-1]
				if status := []int64{200, 401}[rng.IntN(2)]; status == 401 {
					e.Status(outcome.Answer{Status: status}, w.Now())
					charged++
				} else if rng.IntN(2) == 0 { // the others never get an answer
					e.Status(outcome.Answer{Status: status}, w.Now())
				}
				e.Exit(w.Now(), outcome.End{ResponseMs: outcome.NoTime})
			} else {
				wk := w.workers[rng.IntN(len(w.workers))]
				wk.as("alice")
				wk.http.Stream.Begin()
				e := &engine.Entry{}
				switch b := wk.http.Enter("r", w.Now(), e); {
				case (b == nil) != (charged < threshold):
					t.Fatalf("with %d of %d charged: %+v", charged, threshold, b)
				case b == nil:
					open = append(open, e)
				}
			}
			w.Advance(rng.Int64N(10 * millisecond))
		}
		if over += max(charged-threshold, 0); charged > threshold+atOnce-1 {
			t.Errorf("%d charged of %d, with %d at once", charged, threshold, atOnce)
		}
	})
	if seeds.Complete() && over == 0 {
		t.Error("none was over: nothing was under way")
	}
}

// What a later rule refuses, or what leaves while it waits, is charged to nobody; shadow counts apart.
func TestCountOnlyChargesWhatEntered(t *testing.T) {
	h := perUser("h", 1)
	h.DurationInSec, h.CountOnly = 60, failures()
	none := perUser("none", 0)
	c := hot(h, none)
	w := newProcess(1, c)
	for range 5 {
		if b := w.workers[0].try("alice", 401, w.Now()); b == nil || b.Rule != "none" {
			t.Fatalf("%+v", b)
		}
	}
	shadow := hot(h)
	shadow.Mode = config.Shadow
	other := w.join(shadow)
	for range 5 {
		other.try("alice", 401, w.Now())
	}
	w.workers[0].update(hot(h))
	if b := w.workers[0].try("alice", 401, w.Now()); b != nil {
		t.Errorf("it was charged: %+v", b)
	}
	if b := w.workers[0].try("alice", 401, w.Now()); b == nil || b.Rule != "h" {
		t.Errorf("it was not charged: %+v", b)
	}
}

// enters asks a worker for an entry of a client with these headers, and reports why it was refused.
func (wk *worker) enters(now int64, headers map[string]string) *engine.Block {
	wk.http.Stream.Of(&requesttest.Client{Headers: headers, Asked: map[string]int{}})
	wk.http.Stream.Begin()
	var e engine.Entry
	return wk.http.Enter("r", now, &e)
}

// Who is banned is refused also with what costs nothing.
func TestABanHoldsForWhatCostsNothing(t *testing.T) {
	p := newProcess(2, tried(t, `"hotspotRules": [{"id": "h", "resource": "r", "metricType": "QPS", "paramSource": "Header", "paramKey": "x-user",
		"threshold": 10, "durationInSec": 1, "banAfter": 2, "banMs": 60000, "batchCount": {"from": "Header", "name": "x-cost", "max": 100}}]`))
	ask := func(worker int, cost string) *engine.Block {
		return p.workers[worker].enters(p.Now(), map[string]string{"x-user": "ann", "x-cost": cost})
	}
	for i, c := range []struct {
		cost string
		want bool
	}{{"10", true}, {"0", true}, {"1", false}, {"0", true}, {"1", false}, {"0", false}, {"0", false}, {"1", false}} {
		if b := ask(i%2, c.cost); (b == nil) != c.want {
			t.Errorf("request %d, of %s permits: %+v", i, c.cost, b)
		}
	}
}

// Who goes on asking for more than anybody can have is banned as others are.
func TestTooDearCountsTowardsABan(t *testing.T) {
	p := newProcess(1, tried(t, `"hotspotRules": [{"id": "h", "resource": "r", "metricType": "QPS", "paramSource": "Header", "paramKey": "x-user",
		"threshold": 10, "durationInSec": 1, "banAfter": 2, "banMs": 60000, "batchCount": {"from": "Header", "name": "x-cost", "max": 100}}]`))
	for i := range 2 {
		b := p.workers[0].enters(p.Now(), map[string]string{"x-user": "ann", "x-cost": "11"})
		if b == nil || i == 0 && b.RetryAfterMs >= 0 || i == 1 && b.RetryAfterMs != 60_000 {
			t.Errorf("request %d: %+v", i, b)
		}
	}
	if b := p.workers[0].enters(p.Now(), map[string]string{"x-user": "ann"}); b == nil {
		t.Error("after two refusals there is no ban")
	}
}

// A rule that comes to ban keeps no permits back from before it did, on no worker.
func TestABanThatComesLaterStopsEveryWorkerAtOnce(t *testing.T) {
	r := perUser("h", 6400)
	r.DurationInSec = 600
	w := newProcess(2, hot(r))
	for range 10 {
		for _, wk := range w.workers {
			wk.try("alice", 200, w.Now())
		}
	}
	r.BanAfter, r.BanMs = 1, 60_000
	for _, wk := range w.workers {
		wk.update(hot(r))
	}
	first, other := w.workers[0], w.workers[1]
	other.try("alice", 200, w.Now())
	for range 7000 {
		if first.try("alice", 200, w.Now()) != nil {
			break
		}
	}
	if b := other.try("alice", 200, w.Now()); b == nil {
		t.Error("who is banned on one worker is let in on another")
	}
}

// An answer is charged under the threshold that its value was asked under, whoever came meanwhile.
func TestAnswerIsChargedUnderItsOwnThreshold(t *testing.T) {
	p := newProcess(1, tried(t, `"hotspotRules": [{"id": "h", "resource": "r", "metricType": "QPS", "paramSource": "Header", "paramKey": "x-user",
		"threshold": 1000, "durationInSec": 600, "countOnly": {"status": [401]},
		"specificItems": [{"valPattern": {"prefix": "guest"}, "threshold": 2}]}]`))
	wk := p.workers[0]
	wk.as("guest")
	wk.http.Stream.Begin()
	var slow engine.Entry
	if b := wk.http.Enter("r", p.Now(), &slow); b != nil {
		t.Fatal(b)
	}
	for i := range 5000 {
		wk.try("guest"+strconv.Itoa(i), 200, p.Now())
	}
	slow.Status(outcome.Answer{Status: 401}, p.Now())
	slow.Exit(p.Now(), outcome.End{ResponseMs: outcome.NoTime})
	for i, want := range []bool{true, false} {
		if b := wk.try("guest", 401, p.Now()); (b == nil) != want {
			t.Errorf("request %d after the first: %+v", i, b)
		}
	}
}

// An answer is charged once, by its HTTP status or by a gRPC status that comes with it or behind it, and by none where neither counts.
func TestAnswersCountByGRPCStatus(t *testing.T) {
	const counted, other = 16, 5
	for _, family := range []string{
		`"flowRules": [{"id": "f", "resource": "r", "threshold": 2, "statIntervalInMs": 3600000`,
		`"hotspotRules": [{"id": "h", "resource": "r", "metricType": "QPS", "paramSource": "Header", "paramKey": "x-user", "threshold": 2, "durationInSec": 3600`,
	} {
		for _, c := range []struct {
			name          string
			only          string
			status        int64
			with, behind  int // gRPC statuses, −1: none
			awaits, wants bool
		}{
			{"with the headers", `"grpc": ["UNAUTHENTICATED"]`, 200, counted, -1, false, true},
			{"another with the headers", `"grpc": ["UNAUTHENTICATED"]`, 200, other, -1, false, false},
			{"in the trailers", `"grpc": [16]`, 200, -1, counted, true, true},
			{"another in the trailers", `"grpc": [16]`, 200, -1, other, true, false},
			{"none", `"grpc": [16]`, 200, -1, -1, true, false},
			{"only the status counts", `"status": [401]`, 200, -1, counted, false, false},
			{"the status before the trailers", `"status": [200], "grpc": [16]`, 200, -1, counted, false, true},
			{"either", `"status": [401], "grpc": [16]`, 200, -1, counted, true, true},
		} {
			t.Run(c.name, func(t *testing.T) {
				p := newProcess(1, tried(t, family+`, "countOnly": {`+c.only+`}}]`))
				wk, admitted := p.workers[0], 0
				for range 10 {
					wk.as("alice")
					wk.http.Stream.Begin()
					var e engine.Entry
					if wk.http.Enter("r", p.Now(), &e) != nil {
						continue
					}
					admitted++
					e.Status(outcome.Answer{Status: c.status, GRPC: uint64(max(c.with, 0)), HasGRPC: c.with >= 0}, p.Now())
					if e.AwaitsGRPCStatus() != c.awaits {
						t.Errorf("awaits more: %t", !c.awaits)
					}
					if c.behind >= 0 {
						e.Status(outcome.Answer{GRPC: uint64(c.behind), HasGRPC: true}, p.Now())
					}
					e.Exit(p.Now(), outcome.End{ResponseMs: outcome.NoTime})
				}
				if want := map[bool]int{true: 2, false: 10}[c.wants]; admitted != want {
					t.Errorf("%d of 10 were admitted, want %d", admitted, want)
				}
			})
		}
	}
}
