package flow_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/family/flow"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/record"
)

const start = 1000 * second

func take(t *testing.T, b *flow.Budget, threshold float64, now int64) bool {
	t.Helper()
	v, err := b.Take(threshold, 1, now)
	if err != nil {
		t.Fatal(err)
	}
	return v.OK
}

func TestGuarantee6LedgerSlotsAreReusedAfterIdle(t *testing.T) {
	p := memhost.NewProcess(start)
	table := record.NewTable(p.Worker(nil))
	w := flow.WindowOf(1000)
	n := 0
	for round := range 8 { // in the fifth all slots have been used
		for range record.MaxRecords {
			n++
			b := flow.NewBudget(table, record.IDOf("flow", fmt.Sprint(n)), w)
			if v, err := b.Take(1, 1, p.Now()); err != nil {
				t.Fatalf("id %d of round %d: %v", n, round, err)
			} else if !v.OK {
				t.Fatalf("a new id was refused in round %d: it has the count of another", round)
			}
		}
		p.Advance(241 * second)
	}
	keys, bytes := p.Keys()
	if keys > record.MaxKeys || bytes > 16<<20 {
		t.Errorf("%d keys of %d bytes", keys, bytes)
	}
}

func TestSlotInUseIsNotTaken(t *testing.T) {
	p := memhost.NewProcess(start)
	table := record.NewTable(p.Worker(nil))
	w := flow.WindowOf(3600000)
	p.Advance(3600*second - start%(3600*second)) // the whole test in one bucket
	mine := flow.NewBudget(table, record.IDOf("mine"), w)
	for range 2 {
		take(t, mine, 2, p.Now())
	}
	n := 0
	for range 12 { // 12 minutes, in each enough new ids that every page is full of those of the last four
		for range record.MaxRecords {
			n++
			other := flow.NewBudget(table, record.IDOf("other", fmt.Sprint(n)), w)
			if _, err := other.Take(1, 1, p.Now()); err != nil && !errors.Is(err, record.ErrFull) {
				t.Fatal(err)
			}
		}
		p.Advance(60 * second)
		if err := mine.Touch(p.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if take(t, mine, 2, p.Now()) {
		t.Error("a budget in use lost its count to a new id")
	}
}

// A worker that has slept through the reuse of its slot does not charge the new owner, and gets another slot.
func TestSlotLostWhileIdleIsNotWritten(t *testing.T) {
	p := memhost.NewProcess(start)
	w := flow.WindowOf(1000)
	sleeper := flow.NewBudget(record.NewTable(p.Worker(nil)), record.IDOf("sleeper"), w)
	if !take(t, sleeper, 100, p.Now()) {
		t.Fatal("refused")
	}
	p.Advance(300 * second)
	table := record.NewTable(p.Worker(nil))
	var others []*flow.Budget
	for n := range 6 * record.MaxRecords { // one and a half times the slots there are: every old one is taken
		other := flow.NewBudget(table, record.IDOf("other", fmt.Sprint(n)), w)
		if v, err := other.Take(3, 1, p.Now()); err == nil && v.OK {
			others = append(others, other)
		}
	}
	p.Advance(1 * second)
	before := p.Now()
	if _, err := sleeper.Take(100, 1, before); !errors.Is(err, record.ErrFull) {
		t.Fatalf("a sleeper on a full page: %v", err)
	}
	for i, other := range others {
		for n := range 3 {
			if !take(t, other, 3, before) {
				t.Fatalf("other %d was refused permit %d of 3: somebody else has charged it", i, n+1)
			}
		}
	}
}

func TestReservationGoesBackWithSettle(t *testing.T) {
	p := memhost.NewProcess(start)
	w := flow.WindowOf(1000)
	id := record.IDOf("r")
	fast := flow.NewBudget(record.NewTable(p.Worker(nil)), id, w)
	slow := flow.NewBudget(record.NewTable(p.Worker(nil)), id, w)
	admitted := 0
	for !fast.Holding() || admitted < 200 { // fast enough for reservations
		if take(t, fast, 1000, p.Now()) {
			admitted++
		}
		p.Advance(10_000)
	}
	if err := fast.Settle(p.Now()); err != nil || fast.Holding() {
		t.Fatalf("after Settle the budget holds: %t, %v", fast.Holding(), err)
	}
	for admitted < 1000 {
		if !take(t, slow, 1000, p.Now()) {
			t.Fatalf("refused after %d of 1000: permits were not returned", admitted)
		}
		admitted++
	}
	if take(t, slow, 1000, p.Now()) {
		t.Error("the 1001st was admitted")
	}
}

func TestGiveBackIsInItsOwnBucket(t *testing.T) {
	p := memhost.NewProcess(start)
	w := flow.WindowOf(1000)
	id := record.IDOf("r")
	b := flow.NewBudget(record.NewTable(p.Worker(nil)), id, w)
	v, err := b.Take(2, 1, p.Now())
	if err != nil || !v.OK {
		t.Fatal(v, err)
	}
	p.Advance(500 * millisecond)
	if !take(t, b, 2, p.Now()) || take(t, b, 2, p.Now()) {
		t.Fatal("not 2 of 2")
	}
	if err := b.GiveBack(v.At, 1, p.Now()); err != nil { // the one of the first bucket
		t.Fatal(err)
	}
	p.Advance(3 * millisecond)
	if !take(t, b, 2, p.Now()) || take(t, b, 2, p.Now()) {
		t.Fatal("a permit that was given back is not free")
	}
	p.Advance(500 * millisecond) // the first bucket has left, and with it nothing that counts
	if take(t, b, 2, p.Now()) {
		t.Error("3 in one window: what was given back was counted out of the wrong bucket")
	}
}

// TestGuarantee1NeverOverOnRealThreads is for the race detector as well.
func TestGuarantee1NeverOverOnRealThreads(t *testing.T) {
	const workers, threshold = 8, 500
	p := memhost.NewProcess(start)
	w := flow.WindowOf(1000)
	admitted := make([]int, workers)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			table := record.NewTable(p.Worker(nil))
			b := flow.NewBudget(table, record.IDOf("r"), w)
			for range 2000 {
				now := p.Now()
				v, err := b.Take(threshold, 1, now)
				if err != nil {
					t.Error(err)
				}
				if v.OK {
					admitted[i]++
				}
				p.Advance(1000) // all of it takes 16 ms
			}
			if err := b.Settle(p.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range admitted {
		sum += n
	}
	if sum > threshold {
		t.Errorf("admitted %d of %d in one bucket", sum, threshold)
	}
	b := flow.NewBudget(record.NewTable(p.Worker(nil)), record.IDOf("r"), w)
	for now := p.Now() + 3*millisecond; take(t, b, threshold, now); {
		sum++
	}
	if sum < threshold*9/10 {
		t.Errorf("only %d of %d could be had", sum, threshold)
	}
}

func TestGuarantee7CorruptedRecordsAdmitNothingTwice(t *testing.T) {
	seeds.Try(t, 1, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		const threshold = 40
		w := flow.WindowOf(1000)
		p := memhost.NewProcess(start)
		var tables []*record.Table
		var budgets []*flow.Budget
		for range 3 {
			table := record.NewTable(p.Worker(nil))
			tables = append(tables, table)
			budgets = append(budgets, flow.NewBudget(table, record.IDOf("r"), w))
		}
		admitted := map[int64]int{}
		for step := range 20000 {
			if rng.IntN(100) == 0 && step < 15000 {
				p.Corrupt(func(key string, value []byte) ([]byte, bool) {
					return memhost.Rubbish(rng, value), strings.Contains(key, "/rec/")
				})
			}
			v, err := budgets[rng.IntN(3)].Take(threshold, 1, p.Now())
			if err != nil {
				t.Fatal(err)
			}
			if v.OK {
				admitted[w.Bucket(v.At)]++
			}
			p.Advance(rng.Int64N(millisecond))
			if step%100 == 0 {
				for _, b := range budgets {
					if err := b.Settle(p.Now()); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		last := w.Bucket(p.Now())
		for b := w.Bucket(start); b <= last; b++ {
			if sum := admitted[b] + admitted[b-1]; sum > threshold {
				t.Errorf("seed %d: a window admitted %d of %d", seed, sum, threshold)
			}
		}
		if sum := admitted[last-1] + admitted[last-2]; sum < threshold {
			t.Errorf("seed %d: long after the last corruption a window admitted %d of %d", seed, sum, threshold)
		}
		var corrupt uint64
		for _, table := range tables {
			corrupt += table.Counts().Corrupt
		}
		if corrupt == 0 {
			t.Error("no corrupted record was counted")
		}
	})
}

// Where the directory is lost, ids of one page may get each other's slots: no count begins anew by that.
func TestGuarantee7CorruptedDirectoryAdmitsNothingTwice(t *testing.T) {
	seeds.Try(t, 1, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		const threshold, ids = 3, 300 // so many share pages that some change places
		w := flow.WindowOf(3600000)
		p := memhost.NewProcess(start) // the whole test is in one bucket
		var budgets []*flow.Budget
		for range 2 {
			table := record.NewTable(p.Worker(nil))
			for i := range ids {
				b := flow.NewBudget(table, record.IDOf(fmt.Sprint(i)), w)
				for range threshold {
					take(t, b, threshold, p.Now())
				}
				budgets = append(budgets, b)
			}
		}
		p.Corrupt(func(key string, value []byte) ([]byte, bool) {
			return memhost.Rubbish(rng, value[:len(value)-1]), strings.Contains(key, "/dir/")
		})
		p.Advance(61 * second) // so that slots are due to be marked as in use
		for range 10 * len(budgets) {
			b := budgets[rng.IntN(len(budgets))]
			if err := b.Touch(p.Now()); err != nil {
				t.Fatal(err)
			}
			if take(t, b, threshold, p.Now()) {
				t.Fatalf("seed %d: admitted more than %d", seed, threshold)
			}
			p.Advance(millisecond)
		}
	})
}

// A record of the right form from no time of ours is replaced, not believed.
func TestRecordFromTheFutureIsReplaced(t *testing.T) {
	p := memhost.NewProcess(start)
	w := flow.WindowOf(1000)
	worker := p.Worker(nil)
	table := record.NewTable(worker)
	b := flow.NewBudget(table, record.IDOf("r"), w)
	take(t, b, 1, p.Now())
	cell := record.Cell{ID: record.IDOf("r")}
	var s flow.State
	s.Advance(w, w.Bucket(p.Now())+1000)
	if err := table.Update(&cell, p.Now(), store(s.Encode(nil, w))); err != nil {
		t.Fatal(err)
	}
	p.Advance(10 * second)
	if take(t, b, 5, p.Now()) {
		t.Error("a lost record gave a permit")
	}
	if table.Counts().Corrupt == 0 {
		t.Error("it was not counted")
	}
	p.Advance(1 * second)
	if !take(t, b, 5, p.Now()) {
		t.Error("the limit did not come back after a window")
	}
}

// store is the transition that stores itself.
type store []byte

func (s store) Apply(dst []byte, _ record.State) ([]byte, record.Outcome) {
	return append(dst, s...), record.Store
}

func TestFaultsOfTheHostAreReturned(t *testing.T) {
	p := memhost.NewProcess(start)
	worker := p.Worker(nil)
	b := flow.NewBudget(record.NewTable(worker), record.IDOf("r"), flow.WindowOf(1000))
	fault := errors.New("fault")
	worker.Fail(fault)
	if v, err := b.Take(10, 1, p.Now()); !errors.Is(err, fault) || v.OK {
		t.Errorf("got %+v, %v", v, err)
	}
	worker.Fail(nil)
	for n := range 10 {
		if !take(t, b, 10, p.Now()) {
			t.Errorf("refused permit %d of 10 after the fault", n+1)
		}
	}
	if take(t, b, 10, p.Now()) {
		t.Error("the 11th was admitted")
	}
}

// A permit that is reserved in a bucket is not spent at the moment in which the next begins: nobody would have counted it
// there.
func TestReservationEndsWithItsBucket(t *testing.T) {
	const threshold = 10_000
	p := memhost.NewProcess(start)
	w := flow.WindowOf(700) // one bucket
	var budgets [2]*flow.Budget
	for i := range budgets {
		budgets[i] = flow.NewBudget(record.NewTable(p.Worker(nil)), record.IDOf("r"), w)
	}
	for !budgets[0].Holding() {
		take(t, budgets[0], threshold, p.Now())
		p.Advance(1000)
	}
	ends := (w.Bucket(p.Now()) + 1) * w.BucketMs * millisecond
	p.Advance(ends - p.Now())
	admitted := 0
	for _, b := range budgets {
		for take(t, b, threshold, p.Now()) {
			admitted++
		}
	}
	if admitted != threshold {
		t.Errorf("the bucket after that of a reservation admits %d, want %d", admitted, threshold)
	}
}
