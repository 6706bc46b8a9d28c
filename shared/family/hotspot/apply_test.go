package hotspot

import (
	"bytes"
	"testing"

	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rule"
	"sentinel-envoy/shared/worker"
)

// Whatever is in a record, a transition does not fail: it takes it for one of its own, or says that it is not, and then
// gets by without.
func FuzzApply(f *testing.F) {
	f.Add([]byte{}, uint64(0), int64(1))
	f.Add(make([]byte, pageHeader+2*valueSize), uint64(0), int64(5))
	f.Add(bytes.Repeat([]byte{0xff}, pageHeader+valueSize), uint64(1<<64-1), int64(5))
	f.Add(bytes.Repeat([]byte{0x01}, 8+partHeader+257*countSize), uint64(0x0101010101010101), int64(5))
	const now = 1000e9
	f.Fuzz(func(t *testing.T, payload []byte, hash uint64, threshold int64) {
		p := memhost.NewProcess(now)
		w := p.Worker(nil)
		values := NewValues(record.NewTable(w), record.IDOf("r"))
		for _, paced := range []bool{false, true} {
			limit := Limit{Threshold: 1 + threshold&0xffff, DurationMs: 1000, Paced: paced, MaxWaitMs: 100}
			if limit.BanAfter = int64(hash % 3); paced {
				limit.BanAfter = 0
			}
			limit.BanMs = limit.BanAfter * 5000
			op := &taking{values: values, hash: hash, limit: limit, n: 1, maxWait: 1e8, now: now}
			next, o := op.Apply(nil, record.State{Payload: payload, Now: now})
			if o == record.Unreadable {
				if next, o = op.Apply(nil, record.State{Lost: true, Now: now}); o == record.Unreadable {
					t.Fatal("a lost record is none")
				}
			}
			if !page(next).intact() {
				t.Fatalf("%x makes %x of it", payload, next)
			}
			if i := page(next).find(hash); !paced && i >= 0 && page(next).value(i).left > limit.most() {
				t.Fatalf("%x leaves a value %d of %d permits", payload, page(next).value(i).left, limit.most())
			}
		}
		crowd := NewConcurrency(record.NewTable(w), &worker.Watch{})
		op := &counting{
			of: crowd, page: crowd.page(hash), holder: worker.Identity{Slot: 1, Epoch: 1}, hash: hash, key: hash, threshold: 3,
			enters: true, now: now,
		}
		next, o := op.Apply(nil, record.State{Payload: payload, Now: now})
		if o == record.Unreadable {
			if next, o = op.Apply(nil, record.State{Lost: true, Now: now}); o == record.Unreadable {
				t.Fatal("a lost record is none")
			}
		}
		if _, _, ok := op.read(next); o == record.Store && !ok {
			t.Fatalf("%x makes %x of it", payload, next)
		}
	})
}

// A bucket of a time that has not come was written by nobody of us: it would never be filled again.
func TestBucketsOfTheFuture(t *testing.T) {
	const now = 1000e9
	p := memhost.NewProcess(now)
	w := p.Worker(nil)
	values := NewValues(record.NewTable(w), record.IDOf("r"))
	for paced, ahead := range map[bool]int64{false: 1, true: rule.FarthestTurn + 1} {
		payload := page(make([]byte, pageHeader+valueSize))
		limit := Limit{Threshold: 1, DurationMs: 1000, Paced: paced}
		op := taking{values: values, hash: 7, limit: limit, n: 1, now: now}
		payload.put(0, limit.seen(7, 1, bucket{at: now + ahead}))
		if _, o := op.Apply(nil, record.State{Payload: payload, Now: now}); o != record.Unreadable {
			t.Errorf("paced %t: taken for one of ours", paced)
		}
		payload.put(0, limit.seen(7, 1, bucket{at: now + ahead - 1}))
		if _, o := op.Apply(nil, record.State{Payload: payload, Now: now}); o == record.Unreadable {
			t.Errorf("paced %t: not taken for one of ours", paced)
		}
	}
}

// A bucket of a time that has not come makes room before any other, and counts down from no less than we write.
func TestRubbishInAPageOfValues(t *testing.T) {
	const now = 1000e9
	w := memhost.NewProcess(now).Worker(nil)
	values := NewValues(record.NewTable(w), record.IDOf("r"))
	limit := Limit{Threshold: 5, DurationMs: 1000}
	payload := page(make([]byte, pageHeader+room*valueSize))
	for i := range room {
		payload.put(i, limit.seen(uint64(100+i), values.rule, bucket{at: now}))
	}
	payload.put(9, limit.seen(109, 5, bucket{at: now + 1, left: coolest}))
	op := &taking{values: values, hash: 7, limit: limit, n: 1, now: now}
	found := record.State{Payload: payload, Now: now}
	next, o := op.Apply(nil, found)
	if o == record.Unreadable || page(next).find(7) != 9 {
		t.Errorf("the value of a time to come keeps its place: %v", o)
	}
	payload.put(3, limit.seen(7, values.rule, bucket{at: now, left: -1 << 63}))
	if op.Apply(nil, found); op.verdict.OK {
		t.Error("refusals without number became permits")
	}
	if next, _ = op.Apply(nil, found); page(next).value(3).left != coolest {
		t.Errorf("%d are left", page(next).value(3).left)
	}
}
