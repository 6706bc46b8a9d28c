package publication_test

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/publication"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/source"
	"sentinel-envoy/shared/worker"
)

const (
	millisecond = int64(1e6)
	start       = int64(1000e9)
)

var id = record.IDOf("rules")

// identity is that of the nth worker of a test.
func identity(n int) worker.Identity { return worker.Identity{Slot: uint16(n), Epoch: 1} }

func newBoard(h *memhost.Worker) *publication.Board {
	return publication.NewBoard(record.NewTable(h), h)
}

// decision is by which version a worker has decided at a time.
type decision struct {
	at   int64
	hash uint64
	name string
}

// decide decides at the time now, by what a board says. Where a version is in force only since the worker has read its clock,
// the decision is of that later time: the worker has seen it there.
func decide(t *testing.T, b *publication.Board, name string, now int64, log *[]decision) {
	if err := b.Look(now); err != nil {
		t.Fatal(err)
	}
	if e := b.Entry(id); e != nil {
		v := e.InForce(now)
		*log = append(*log, decision{max(now, v.At), v.Hash, name})
	}
}

// seeOneOrder wants every version's decisions to come after those of the version before it.
func seeOneOrder(t *testing.T, log []decision, published []uint64) {
	t.Helper()
	slices.SortStableFunc(log, func(a, b decision) int { return cmp.Compare(a.at, b.at) })
	newest := -1
	for i, d := range log {
		n := slices.Index(published, d.hash)
		if n < newest {
			t.Fatalf("at %d ms %s decides by version %d, after others have by %d: %v",
				(d.at-start)/millisecond, d.name, n, newest, log[max(0, i-3):i+1])
		}
		newest = n
	}
}

// TestNobodyDecidesByTheOldAfterTheNew has workers that decide, stall and die wherever they are, while one after the other
// publishes versions of a document: ordered by their times, decisions go from one version to the next and never back.
func TestNobodyDecidesByTheOldAfterTheNew(t *testing.T) {
	switched := 0
	seeds.Try(t, 300, func(t *testing.T, seed uint64) {
		sim := memhost.NewSim(seed, start)
		defer sim.Close()
		var log []decision
		r := &run{sim: sim, published: []uint64{0}}
		const workers = 5
		for n := range workers {
			sim.Go(func(task *memhost.Task) { r.live(t, task, n, &log) })
		}
		for sim.Now() < start+20e9 && sim.Step() {
			r.disturb()
		}
		seeOneOrder(t, log, r.published)
		for _, d := range log {
			if d.hash != 0 {
				switched++
				break
			}
		}
	})
	if seeds.Complete() && switched < 200 {
		t.Errorf("in %d of 300 runs something was published: the test does not see what it is about", switched)
	}
}

// run is a run of the simulation: the hashes of what may have been published, in their order, and who is publishing.
type run struct {
	sim        *memhost.Sim
	published  []uint64
	publishing *memhost.Task
}

// live is a worker's life: it decides, and publishes where it owns the source.
func (r *run) live(t *testing.T, task *memhost.Task, n int, log *[]decision) {
	b := newBoard(task.Worker)
	for {
		now := task.Now()
		decide(t, b, fmt.Sprint("worker ", n), now, log)
		mine, err := b.Claim(id, identity(n), now)
		if err != nil {
			t.Error(err)
			return
		}
		if mine && r.sim.Rand.IntN(10) == 0 {
			text := []byte(fmt.Sprintf(`[{"id": "%d of %d"}]`, len(r.published), n))
			r.published = append(r.published, publication.Hash(text)) // before anybody can decide by it
			r.publishing = task
			if _, err := b.Publish(id, identity(n), text, "mark", task.Now()); err != nil {
				t.Error(err)
				return
			}
			r.publishing = nil
		}
		task.Sleep(task.Now() + r.sim.Rand.Int64N(150*millisecond))
	}
}

// disturb stalls, seldom, a worker for longer than anything lasts here, more often the one that publishes, and kills one now
// and then.
func (r *run) disturb() {
	live := r.sim.Live()
	switch n := r.sim.Rand.IntN(4000); {
	case n < 20:
		r.sim.Stall(live[r.sim.Rand.IntN(len(live))], r.sim.Rand.Int64N(1200*millisecond))
	case n < 200 && r.publishing != nil:
		r.sim.Stall(r.publishing, r.sim.Rand.Int64N(1200*millisecond))
	case n == 200 && len(live) > 2:
		r.sim.Kill(live[r.sim.Rand.IntN(len(live))])
	}
}

// TestHeldUpWhilePublishing holds the worker that publishes up at each of its calls of the host, for each of some times, where
// another has just looked and trusts what it has seen for as long as it may.
func TestHeldUpWhilePublishing(t *testing.T) {
	text := []byte("rules")
	came := map[bool]int{}
	for step := 1; ; step++ {
		calls := 0
		for held := 25 * millisecond; held < 1000*millisecond; held += 25 * millisecond {
			p := memhost.NewProcess(start)
			other := newBoard(p.Worker(nil))
			calls = -1 // not counting yet
			var log []decision
			owner := newBoard(p.Worker(func() {
				if calls < 0 {
					return
				}
				if calls++; calls == step {
					p.Advance(held - millisecond)
					decide(t, other, "the other", p.Now(), &log)
					p.Advance(millisecond)
				}
			}))
			if mine, err := owner.Claim(id, identity(1), p.Now()); !mine || err != nil {
				t.Fatal(mine, err)
			}
			calls = 0
			v, err := owner.Publish(id, identity(1), text, "", p.Now())
			if err != nil {
				t.Fatal(err)
			}
			came[v.At != 0]++
			for range 100 {
				p.Advance(10 * millisecond)
				decide(t, owner, "the owner", p.Now(), &log)
				decide(t, other, "the other", p.Now(), &log)
			}
			seeOneOrder(t, log, []uint64{0, publication.Hash(text)})
		}
		if calls < step {
			break
		}
	}
	if came[true] < 100 || came[false] < 100 {
		t.Errorf("published or not: %v", came)
	}
}

// published returns two workers' boards, after the first has published a text.
func published(t *testing.T, text []byte) (p *memhost.Process, owner, other *publication.Board, v publication.Version) {
	t.Helper()
	p = memhost.NewProcess(start)
	owner, other = newBoard(p.Worker(nil)), newBoard(p.Worker(nil))
	if mine, err := owner.Claim(id, identity(1), p.Now()); !mine || err != nil {
		t.Fatal(mine, err)
	}
	v, err := owner.Publish(id, identity(1), text, "mark", p.Now())
	if err != nil || v.At == 0 {
		t.Fatal(v, err)
	}
	return p, owner, other, v
}

func TestTextsOfAnyLength(t *testing.T) {
	for _, n := range []int{0, 1, 16<<10 - 1, 16 << 10, 16<<10 + 1, source.MaxText} {
		text := bytes.Repeat([]byte("x"), n)
		p, _, other, v := published(t, text)
		if err := other.Look(p.Now()); err != nil {
			t.Fatal(err)
		}
		got, err := other.Text(id, v, p.Now())
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
		e := other.Entry(id)
		if now := v.At - 1; e.InForce(now).At != 0 {
			t.Error("in force too early")
		}
		if e.InForce(v.At) != v {
			t.Error("not in force at its time")
		}
	}
}

// What is lost of shared data, or overwritten by others, is no text, and nobody decides by it.
func TestDamagedTexts(t *testing.T) {
	text := bytes.Repeat([]byte("rules "), 10_000)
	p, owner, other, v := published(t, text)
	p.Corrupt(func(key string, value []byte) ([]byte, bool) {
		return value[:len(value)/2], key == record.Version+"document/1" || key == record.Version+"document/257"
	})
	_ = other.Look(p.Now())
	if _, err := other.Text(id, v, p.Now()); err == nil {
		t.Error("a text that was overwritten is one")
	}
	if err := other.AskAnew(id, p.Now()); err != nil {
		t.Fatal(err)
	}
	p.Advance(publication.Lease)
	if err := owner.Look(p.Now()); err != nil || owner.Entry(id).Mark != "" {
		t.Errorf("the server is asked by the mark %q: %v", owner.Entry(id).Mark, err)
	}
	p.Corrupt(func(key string, value []byte) ([]byte, bool) {
		return []byte("nonsense"), key == record.Version+"sources/0"
	})
	p.Advance(publication.Lease)
	if err := owner.Look(p.Now()); err != nil || owner.Entry(id) != nil {
		t.Errorf("a record that was overwritten has the entry %+v: %v", owner.Entry(id), err)
	}
	if mine, err := other.Claim(id, identity(2), p.Now()); !mine || err != nil {
		t.Errorf("the source has no owner again: %v", err)
	}
}

// There is room for 16 sources; one that nobody owns any more makes room for another. Texts overwrite each other's places.
func TestBounded(t *testing.T) {
	p := memhost.NewProcess(start)
	b := newBoard(p.Worker(nil))
	nth := func(n int) record.ID { return record.IDOf(fmt.Sprint("source ", n)) }
	claim := func(n int) error {
		_, err := b.Claim(nth(n), identity(1), p.Now())
		return err
	}
	for n := range publication.MaxSources {
		if err := claim(n); err != nil {
			t.Fatal(err)
		}
	}
	if claim(99) == nil {
		t.Error("a seventeenth source has found room")
	}
	p.Advance(61e9)
	var keys, size int
	for n := range 3 * publication.MaxSources {
		if err := claim(100 + n); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			text := bytes.Repeat([]byte{'a' + byte(n%20)}, 40_000+n)
			if v, err := b.Publish(nth(100+n), identity(1), text, "", p.Now()); err != nil || v.At == 0 {
				t.Fatal(v, err)
			}
			p.Advance(1e9)
			_ = b.Look(p.Now())
		}
		p.Advance(61e9)
		if n == publication.MaxSources-1 {
			keys, size = p.Keys()
		}
	}
	if k, s := p.Keys(); k > keys || s > size+size/100 {
		t.Errorf("%d keys of %d bytes have become %d of %d", keys, size, k, s)
	}
}
