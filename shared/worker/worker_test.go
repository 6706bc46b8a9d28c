package worker_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/worker"
)

const (
	millisecond = int64(time.Millisecond)
	second      = int64(time.Second)
	start       = 1000 * second
	tick        = 20 * millisecond
)

// registry is what a simulation has seen of who held what.
type registry struct {
	t     *testing.T
	owner map[worker.Identity]int // lease → worker
	term  map[uint64]worker.Identity
	last  uint64
}

func (r *registry) lease(index int, h worker.Identity) {
	if other, ok := r.owner[h]; ok && other != index {
		r.t.Errorf("workers %d and %d both hold %+v", other, index, h)
	}
	r.owner[h] = index
}

func (r *registry) lead(role worker.Role) {
	h := role.Identity
	if other, ok := r.term[role.Term]; ok && other != h {
		r.t.Errorf("%+v and %+v both lead in term %d", other, h, role.Term)
	}
	r.term[role.Term] = h
	r.last = max(r.last, role.Term)
}

func live(r *registry, task *memhost.Task, index int, end int64) {
	m := worker.New(task)
	for now := task.Now(); now < end; now = task.Now() {
		if err := m.Beat(now); err != nil {
			r.t.Error(err)
		}
		if l, held := m.Identity(); held {
			r.lease(index, l)
		}
		role, err := m.Role(now)
		if err != nil {
			r.t.Error(err)
		}
		if role.Mine {
			r.lead(role)
		}
		task.Sleep(now + tick)
	}
}

func TestOneWorkerPerLeaseAndOneLeaderPerTerm(t *testing.T) {
	var terms uint64
	seeds.Try(t, 60, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		sim := memhost.NewSim(seed, start)
		r := &registry{t: t, owner: map[worker.Identity]int{}, term: map[uint64]worker.Identity{}}
		for index := range 1 + rng.IntN(10) {
			sim.Go(func(task *memhost.Task) { live(r, task, index, start+10*second) })
		}
		for sim.Step() {
			live := sim.Live()
			if len(live) == 0 {
				continue
			}
			some := live[rng.IntN(len(live))]
			switch {
			case rng.IntN(200) == 0:
				sim.Stall(some, rng.Int64N(4*second))
			case len(live) > 1 && rng.IntN(2000) == 0:
				sim.Kill(some)
			case rng.IntN(50) == 0:
				sim.Advance(rng.Int64N(millisecond))
			}
		}
		sim.Close()
		terms += r.last
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	})
	if seeds.Complete() && terms < 120 {
		t.Errorf("%d terms in 60 runs: the test tries nothing", terms)
	}
}

// beats lets members live for d nanoseconds, and returns who leads at the end.
func beats(t *testing.T, p *memhost.Process, d int64, members ...*worker.Worker) (leader int) {
	t.Helper()
	for end := p.Now() + d; p.Now() < end; p.Advance(tick) {
		leader = -1
		for i, m := range members {
			if err := m.Beat(p.Now()); err != nil {
				t.Fatal(err)
			}
			role, err := m.Role(p.Now())
			if err != nil {
				t.Fatal(err)
			}
			if role.Mine {
				leader = i
			}
		}
	}
	return leader
}

func TestRoleIsTakenOverAndSlotsAreReused(t *testing.T) {
	p := memhost.NewProcess(start)
	a, b, c := worker.New(p.Worker(nil)), worker.New(p.Worker(nil)), worker.New(p.Worker(nil))
	if got := beats(t, p, second, a, b); got != 0 {
		t.Errorf("worker %d leads, the first that came was 0", got)
	}
	first, _ := a.Identity()
	if got := beats(t, p, 2*second-tick, b); got != 0 {
		t.Error("two seconds after the leader's death nobody has taken over")
	}
	beats(t, p, second, b, c)
	reused, held := c.Identity()
	if !held || reused.Slot != first.Slot || reused.Epoch <= first.Epoch {
		t.Errorf("the dead worker held %+v, the new one has %+v", first, reused)
	}
	err := a.Beat(p.Now())
	again, claimed := a.Identity()
	if err != nil || !claimed || again.Slot == reused.Slot || again.Epoch <= first.Epoch {
		t.Errorf("the dead worker was only slow: it claimed %t %+v, %v; its slot is taken by %+v", claimed, again, err, reused)
	}
}

func TestNothingIsWrittenBeforeTheFirstBeat(t *testing.T) {
	p := memhost.NewProcess(start)
	m := worker.New(p.Worker(nil))
	if role, err := m.Role(p.Now()); err != nil || role.Mine {
		t.Errorf("a worker without a slot: %+v, %v", role, err)
	}
	if keys, _ := p.Keys(); keys != 0 {
		t.Errorf("it wrote %d keys", keys)
	}
}

func TestGuarantee6SlotsAreBounded(t *testing.T) {
	p := memhost.NewProcess(start)
	for range worker.Slots {
		if err := worker.New(p.Worker(nil)).Beat(p.Now()); err != nil {
			t.Fatal(err)
		}
	}
	late := worker.New(p.Worker(nil))
	if err := late.Beat(p.Now()); !errors.Is(err, worker.ErrFull) {
		t.Errorf("the worker after the last slot got %v", err)
	}
	var err error
	for end := p.Now() + worker.TTL + 2*tick; p.Now() < end; p.Advance(tick) {
		err = late.Beat(p.Now())
	}
	if err != nil {
		t.Errorf("all others are dead: %v", err)
	}
	if keys, _ := p.Keys(); keys != worker.Slots {
		t.Errorf("%d keys", keys)
	}
}

func TestGuarantee7CorruptedLeasesAreTakenAnew(t *testing.T) {
	seeds.Try(t, 1, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p := memhost.NewProcess(start)
		members := []*worker.Worker{worker.New(p.Worker(nil)), worker.New(p.Worker(nil)), worker.New(p.Worker(nil))}
		for range 200 {
			p.Corrupt(func(_ string, value []byte) ([]byte, bool) {
				if len(value) == 0 || rng.IntN(2) == 0 {
					return value[:rng.IntN(len(value)+1)], rng.IntN(2) == 0
				}
				noise := append([]byte(nil), value...)
				noise[rng.IntN(len(noise))] ^= byte(1 + rng.IntN(255))
				return noise, rng.IntN(2) == 0
			})
			beats(t, p, tick*rng.Int64N(30), members...)
		}
		if leader := beats(t, p, 3*second, members...); leader < 0 {
			t.Errorf("seed %d: nobody leads after the corruption", seed)
		}
		slots := map[uint16]bool{}
		for _, m := range members {
			l, held := m.Identity()
			if !held || slots[l.Slot] {
				t.Errorf("seed %d: after the corruption a worker has %+v, %t", seed, l, held)
			}
			slots[l.Slot] = true
		}
	})
}

// A role whose record was lost is a new one: the others must see that somebody else may have it.
func TestTermsGrowThoughTheRoleIsLost(t *testing.T) {
	p := memhost.NewProcess(start)
	members := []*worker.Worker{worker.New(p.Worker(nil)), worker.New(p.Worker(nil))}
	term := uint64(0)
	for range 5 {
		leader := beats(t, p, second, members...)
		if leader < 0 {
			t.Fatal("nobody leads")
		}
		role, err := members[leader].Role(p.Now())
		if err != nil || role.Term <= term {
			t.Fatalf("after term %d comes %d, %v", term, role.Term, err)
		}
		term = role.Term
		p.Corrupt(func(_ string, value []byte) ([]byte, bool) { return nil, true })
	}
}
