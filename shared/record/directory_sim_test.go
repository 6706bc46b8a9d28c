package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/host/memhost"
)

const (
	second = int64(time.Second)
	start  = 1000 * second
)

// small returns a table of one page: every id is next to every other.
func small(h Host) *Table {
	tb := NewTable(h)
	tb.dir.pages = 1
	return tb
}

// serial numbers what is stored: no two updates of an id get one number, unless it has two records. Where a record was lost
// it goes on from a number that nobody has had.
type serial struct {
	fresh  func() uint64
	number uint64
	lost   bool
}

func (s *serial) Apply(dst []byte, r State) ([]byte, Outcome) {
	if s.lost = r.Lost; r.Lost {
		s.number = s.fresh() << 32
	} else if s.number = 1; len(r.Payload) == 8 {
		s.number = binary.LittleEndian.Uint64(r.Payload) + 1
	}
	return binary.LittleEndian.AppendUint64(dst, s.number), Store
}

// village is a random simulation of workers whose ids come and go within one page of a directory.
type village struct {
	*memhost.Sim
	t *testing.T
	// damage is how often a page, and how often a record, is lost: one in so many steps, 0 for never.
	pages, records int
	// used are the numbers that the updates of each id got, lost how often a record was.
	used            map[string]map[uint64]bool
	lost, full, ids int
	fresh           uint64
	end             int64
}

// living are the ids in use at a time: 20, one of which is replaced by a new one every 15 s. One that is gone stays so.
func (v *village) living(now int64) (oldest int) { return int((now - start) / (15 * second)) }

// worker uses some id every few seconds, and each of them once a minute: who dies is not the only one that knows an id.
func (v *village) worker(task *memhost.Task) {
	tb := small(task)
	rng := rand.New(rand.NewPCG(v.Rand.Uint64(), 1))
	cells := map[int]*Cell{}
	round := start
	for now := task.Now(); now < v.end; now = task.Now() {
		oldest := v.living(now)
		v.update(tb, cells, oldest+rng.IntN(20), now)
		if now >= round {
			round = now + 60*second
			for n := oldest; n < oldest+20; n++ {
				v.update(tb, cells, n, task.Now())
			}
			for n := oldest; n < oldest+20; n++ {
				if err := tb.Touch(cells[n], now); err != nil && !errors.Is(err, ErrFull) && !errors.Is(err, ErrContended) {
					v.t.Error(err)
				}
			}
			maps.DeleteFunc(cells, func(n int, _ *Cell) bool { return n < oldest })
		}
		task.Sleep(now + rng.Int64N(4*second))
	}
}

func (v *village) update(tb *Table, cells map[int]*Cell, n int, now int64) {
	name := fmt.Sprint(n)
	c := cells[n]
	if c == nil {
		c = &Cell{ID: IDOf(name)}
		cells[n] = c
	}
	op := &serial{fresh: func() uint64 { v.fresh++; return v.fresh }}
	switch err := tb.Update(c, now, op); {
	case errors.Is(err, ErrFull):
		v.full++
	case errors.Is(err, ErrContended) && v.pages > 0: // page after page is lost under its eyes
	case err != nil:
		v.t.Error(err)
	case v.used[name][op.number]:
		v.t.Errorf("id %s has two records: number %d was had twice", name, op.number)
	default:
		if v.used[name] == nil {
			v.used[name] = map[uint64]bool{}
			v.ids++
		}
		v.used[name][op.number] = true
	}
	if op.lost {
		v.lost++
	}
}

func (v *village) run(seed uint64) {
	defer v.Close()
	for range 2 + v.Rand.IntN(5) {
		v.Go(v.worker)
	}
	for v.Step() {
		live := v.Live()
		switch {
		case len(live) > 0 && v.Rand.IntN(3000) == 0: // held up, but not for so long that its ids seem to be gone
			v.Stall(live[v.Rand.IntN(len(live))], v.Rand.Int64N(90*second))
		case len(live) > 1 && v.Rand.IntN(5000) == 0:
			v.Kill(live[v.Rand.IntN(len(live))])
		}
		v.lose("/dir/", v.pages)
		v.lose("/rec/", v.records)
	}
	if v.t.Failed() {
		v.t.Fatalf("seed %d", seed)
	}
}

// lose damages a value whose key has that part, in one step of so many.
func (v *village) lose(part string, oneIn int) {
	if oneIn == 0 || v.Rand.IntN(oneIn) > 0 {
		return
	}
	salt := v.Rand.Uint64()
	v.Corrupt(func(key string, value []byte) ([]byte, bool) { // in any order
		rng := rand.New(rand.NewPCG(salt, uint64(IDOf(key).page(1<<30))))
		return value[:rng.IntN(len(value)+1)/2], strings.Contains(key, part) && rng.IntN(4) == 0
	})
}

// Whatever is lost, whoever is late or dies: an id never has two records that workers go by. Where nothing is lost, no record
// is taken for lost.
func TestNoIDHasTwoRecords(t *testing.T) {
	for name, c := range map[string]struct{ pages, records int }{
		"nothing is lost": {0, 0}, "pages are lost": {2000, 0}, "records are lost": {0, 200}, "both are lost": {500, 200},
	} {
		t.Run(name, func(t *testing.T) {
			const runs = 100
			ids, lost, full := 0, 0, 0
			seeds.Try(t, runs, func(t *testing.T, seed uint64) {
				v := &village{
					Sim: memhost.NewSim(seed, start), t: t, pages: c.pages, records: c.records,
					used: map[string]map[uint64]bool{}, end: start + 1200*second,
				}
				v.run(seed)
				ids, lost, full = ids+v.ids, lost+v.lost, full+v.full
			})
			t.Logf("%d ids, %d lost records, %d times full", ids, lost, full)
			if seeds.Complete() && ids < runs*40 { // by chance there are 60 to 67 a run
				t.Errorf("%d ids: the test tries too little", ids)
			}
			if damaged := c.pages+c.records > 0; damaged != (lost > 0) {
				t.Errorf("%d records were lost", lost)
			}
		})
	}
}
