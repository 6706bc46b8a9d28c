package engine_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/calendar"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/rule"
)

// In each unit of a zone's calendar all workers admit the threshold, whether it is a day of 23 hours or of 25, and also where
// the wall clock is set back or forward by some seconds about its end.
func TestUnitsOfTheCalendar(t *testing.T) {
	seeds.Try(t, 150, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 17))
		of := rule.Calendar{Unit: rule.Unit(2 + rng.IntN(6)), Timezone: []string{"", "Europe/Berlin", "America/New_York", "+05:45", "Asia/Beirut"}[rng.IntN(5)]}
		zone, _ := calendar.ParseZone(of.Timezone)
		period := calendar.Period{Unit: of.Unit, Zone: zone}
		threshold, steps := 1+rng.IntN(300), rng.IntN(2) == 0
		h, f := perUser("h", int64(threshold)), limit("f", float64(threshold), 0)
		h.DurationInSec, h.Calendar, f.Calendar = 0, of, of
		c, isFlow := hot(h), rng.IntN(2) == 0
		if isFlow {
			c = cfg(f)
		}
		w := newProcess(1+rng.IntN(6), c)
		wall := time.Date(2026, time.Month(1+rng.IntN(12)), 1+rng.IntN(28), rng.IntN(24), 30, 0, 0, time.UTC).UnixNano()
		w.SetWall(wall)
		newest, admitted, whole := period.Number(wall/1e9), 0, false
		offset := wall - w.Now()
		length := of.Unit.Ms() * 1e6
		for range 6 * (3*threshold + 60) {
			if n := period.Number((w.Now() + offset) / 1e9); n > newest {
				if whole && !steps && admitted != threshold { // a window that is cut short may have fewer
					t.Fatalf("%s, flow %t, clock set %t: %d admitted of %d", of.Name(), isFlow, steps, admitted, threshold)
				}
				newest, admitted, whole = n, 0, true
			}
			wk := w.workers[rng.IntN(len(w.workers))]
			b := wk.try("alice", 200, w.Now())
			if b == nil {
				admitted++
			} else if !strings.HasPrefix(b.Measure, "in this "+of.Name()) || b.RetryAfterMs < 1 || b.RetryAfterMs > 2*length/1e6 {
				t.Fatalf("%+v", b)
			}
			if admitted > threshold {
				t.Fatalf("%s, flow %t, clock set %t: %d admitted of %d", of.Name(), isFlow, steps, admitted, threshold)
			}
			w.Advance(rng.Int64N(2*length/int64(3*threshold+50)) + 1)
			if rng.IntN(4) == 0 {
				w.run(tick)
			}
			if steps && rng.IntN(20) == 0 {
				offset += rng.Int64N(6*second) - 3*second
				w.SetWall(w.Now() + offset)
				w.run(2 * second) // they hear of it one after the other
			}
		}
	})
}

// What is left, and when all is again, is by the calendar: the whole of a month of 31 days.
func TestQuotaOfAMonth(t *testing.T) {
	of := rule.Calendar{Unit: rule.Month, Timezone: "Europe/Berlin"}
	h, f := perUser("h", 10), limit("f", 10, 0)
	h.DurationInSec, h.Calendar, f.Calendar = 0, of, of
	for name, c := range map[string]*config.Config{"hotspot": hot(h), "flow": cfg(f)} {
		c.RateLimitHeaders = config.Draft03
		w := newProcess(2, c)
		end := time.Date(2026, 10, 31, 23, 0, 0, 0, time.UTC) // of October, of 31 days and an hour
		w.SetWall(end.Add(-30 * 24 * time.Hour).UnixNano())
		w.workers[0].as("alice")
		e := crowdIn(w.workers[0].http, w.Now())
		if len(e) != 10 {
			t.Fatalf("%s: %d of 10", name, len(e))
		}
		q := e[0].Quotas(nil, w.Now())
		if len(q) != 1 || q[0].Left != 0 || q[0].WindowMs != 31*86_400_000+3_600_000 || q[0].ResetMs/1000 != 30*86_400 {
			t.Errorf("%s: %+v", name, q)
		}
		w.Advance(30*day - second)
		if b := w.workers[1].try("alice", 200, w.Now()); b == nil || b.RetryAfterMs != 1000 {
			t.Errorf("%s: a second before the end: %+v", name, b)
		}
		w.Advance(2 * second)
		if b := w.workers[1].try("alice", 200, w.Now()); b != nil {
			t.Errorf("%s: a second after it: %+v", name, b)
		}
	}
}

// A unit of the calendar has no more than its threshold of what is large, too, where the clock is set forward in its last minute.
func TestAUnitHasNothingOfTheOneBefore(t *testing.T) {
	const threshold = 16384 * 8
	f := limit("f", threshold, 0)
	f.Calendar = rule.Calendar{Unit: rule.Day}
	w := newProcess(3, cfg(f))
	w.SetWall(time.Date(2026, 11, 28, 23, 59, 0, 0, time.UTC).UnixNano())
	w.run(2 * second)
	for _, wk := range w.workers {
		if wk.try("alice", 200, w.Now()) != nil {
			t.Fatal("refused")
		}
	}
	w.run(2 * second)
	w.SetWall(time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC).UnixNano())
	w.run(2 * second)
	admitted := 0
	for range threshold/3 + 100 {
		for _, wk := range w.workers {
			if wk.try("alice", 200, w.Now()) == nil {
				admitted++
			}
		}
	}
	if admitted > threshold {
		t.Errorf("%d admitted of %d", admitted, threshold)
	}
}
