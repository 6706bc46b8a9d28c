package hotspot_test

import (
	"math/rand/v2"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/family/hotspot"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/record"
)

// Who asks for more than a value has gets nothing and leaves what it has to others; more than it can have is told so.
func TestPermitsOfAValueAreTakenTogether(t *testing.T) {
	p := memhost.NewProcess(1000 * second)
	values := hotspot.NewValues(record.NewTable(p.Worker(nil)), record.IDOf("r"))
	limits := &hotspot.Limits{Limit: hotspot.Limit{Threshold: 10, Burst: 5, DurationMs: 1000, Costs: true}}
	ask := func(n int64) hotspot.Verdict {
		t.Helper()
		v, err := values.Take(7, limits, n, 0, p.Now())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if v := ask(16); v.OK || v.FreeAt != 0 {
		t.Errorf("16 of 15: %+v", v)
	}
	first := ask(12)
	if !first.OK {
		t.Error("12 of 15 were refused")
	}
	for range 20 {
		if v := ask(4); v.OK || v.FreeAt <= p.Now() {
			t.Errorf("4 where 3 are left: %+v", v)
		}
	}
	if !ask(3).OK || ask(1).OK {
		t.Error("not the 3 that were left")
	}
	if err := values.GiveBack(7, limits, first.At, 12, p.Now()); err != nil {
		t.Fatal(err)
	}
	if !ask(12).OK || ask(1).OK {
		t.Error("not the 12 that were given back")
	}
	wait := ask(15).FreeAt - p.Now()
	p.Advance(wait - 2*millisecond)
	if ask(15).OK {
		t.Errorf("15 before %d ns have gone by", wait)
	}
	p.Advance(3*millisecond + second/2) // the bucket was filled in parts meanwhile
	p.Advance(1500 * millisecond)
	if !ask(15).OK {
		t.Error("15 were not there when all had come back")
	}
}

// What takes n permits keeps the value's next away for n gaps, over all workers, and an idle minute is worth nothing.
func TestAValueIsSpacedByPermits(t *testing.T) {
	seeds.Try(t, 50, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 21))
		p := memhost.NewProcess(1000 * second)
		limits := &hotspot.Limits{Limit: hotspot.Limit{Threshold: 10, DurationMs: 1000, Paced: true, MaxWaitMs: 3000, Costs: true}}
		var workers []*hotspot.Values
		for range 4 {
			workers = append(workers, hotspot.NewValues(record.NewTable(p.Worker(nil)), record.IDOf("r")))
		}
		free, in := int64(0), 0
		for range 300 {
			n := 1 + rng.Int64N(12)
			v, err := workers[rng.IntN(4)].Take(7, limits, n, 3*second, p.Now())
			if err != nil {
				t.Fatal(err)
			}
			if v.OK && (n > 10 || v.At < free) {
				t.Fatalf("%d permits at %d, before %d", n, v.At, free)
			}
			if v.OK {
				in++
				free = v.At + n*100*millisecond
			}
			p.Advance(rng.Int64N(second))
			if rng.IntN(50) == 0 {
				p.Advance(60 * second)
			}
		}
		if in < 50 {
			t.Errorf("only %d of 300 were let in", in)
		}
	})
}
