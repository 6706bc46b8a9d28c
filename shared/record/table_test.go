package record_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/record"
)

const start = int64(1000e9)

// increment counts calls, and lets somebody else write before each of the first `lose` compare-and-sets.
type increment struct {
	interfere func()
	seen      uint64
	// state is the record as it was found last.
	state record.State
}

func (i *increment) Apply(dst []byte, s record.State) ([]byte, record.Outcome) {
	i.state = s
	if len(s.Payload) == 8 {
		i.seen = binary.LittleEndian.Uint64(s.Payload)
	}
	if i.interfere != nil {
		i.interfere()
	}
	return binary.LittleEndian.AppendUint64(dst, i.seen+1), record.Store
}

func TestUpdateGivesUpWhereCompareAndSetIsLostForEver(t *testing.T) {
	p := memhost.NewProcess(start)
	mine, other := record.NewTable(p.Worker(nil)), record.NewTable(p.Worker(nil))
	a, b := record.Cell{ID: record.IDOf("r")}, record.Cell{ID: record.IDOf("r")}
	rivals := 0
	err := mine.Update(&a, p.Now(), &increment{interfere: func() {
		rivals++
		if err := other.Update(&b, p.Now(), &increment{}); err != nil {
			t.Fatal(err)
		}
	}})
	if !errors.Is(err, record.ErrContended) || mine.Counts().Contended != 1 {
		t.Errorf("got %v, counted %+v", err, mine.Counts())
	}
	if rivals == 0 || rivals > 1000 {
		t.Errorf("tried %d times", rivals)
	}
	last := &increment{}
	if err := mine.Update(&a, p.Now(), last); err != nil || last.seen != uint64(rivals) {
		t.Errorf("%v: the record counts %d, the rival wrote %d times", err, last.seen, rivals)
	}
}

// lateClock is a host whose clock stands still at what it is set to.
type lateClock struct {
	*memhost.Worker
	now   int64
	reads int
}

func (c *lateClock) Now() int64 {
	c.reads++
	return c.now
}

// A change happens at its caller's time; where another worker has written since, at a later reading of the clock; and a
// record that is ahead of that reading is nobody's.
func TestTimeNeverRunsBackwardsForARecord(t *testing.T) {
	for _, c := range []struct {
		name            string
		caller, reading int64 // the caller's time, and what the clock says when it is read again
		want            int64
		reads           int
		lost            bool
	}{
		{"after the record", start + 70, start + 99, start + 70, 0, false},
		{"at the record's time", start + 60, start + 99, start + 60, 0, false},
		{"before the record", start + 10, start + 80, start + 80, 1, false},
		{"before a record that is ahead of the clock", start + 10, start + 20, start + 20, 1, true},
	} {
		p := memhost.NewProcess(start)
		clock := &lateClock{Worker: p.Worker(nil), now: c.reading}
		table, mine, others := record.NewTable(clock), record.Cell{ID: record.IDOf("r")}, record.Cell{ID: record.IDOf("r")}
		update := func(table *record.Table, cell *record.Cell, now int64, op *increment) {
			t.Helper()
			if err := table.Update(cell, now, op); err != nil {
				t.Fatal(err)
			}
		}
		update(table, &mine, start+50, &increment{})
		update(record.NewTable(p.Worker(nil)), &others, start+60, &increment{})
		clock.reads = 0 // it has cost some to find the record's place
		op := &increment{}
		update(table, &mine, c.caller, op)
		if op.state.Now != c.want || op.state.Lost != c.lost || clock.reads != c.reads {
			t.Errorf("%s: changed at %d after %d readings, lost %t; want %d after %d, lost %t", c.name,
				op.state.Now-start, clock.reads, op.state.Lost, c.want-start, c.reads, c.lost)
		}
		if lost := table.Counts().Corrupt == 1; lost != c.lost {
			t.Errorf("%s: counted as lost: %t", c.name, lost)
		}
	}
}

// picky is a transition that reads nothing but what it writes.
type picky struct{ asked []record.State }

func (p *picky) Apply(dst []byte, s record.State) ([]byte, record.Outcome) {
	p.asked = append(p.asked, s)
	if s.Payload != nil && string(s.Payload) != "mine" {
		return dst, record.Unreadable
	}
	return append(dst, "mine"...), record.StoreIf(s.Lost || s.Payload == nil)
}

func TestUnreadableRecordsCountAsLost(t *testing.T) {
	p := memhost.NewProcess(start)
	table := record.NewTable(p.Worker(nil))
	cell := record.Cell{ID: record.IDOf("r")}
	var op picky
	for _, damage := range []func(value []byte) []byte{
		func(value []byte) []byte { return value },
		func(value []byte) []byte { return value[:len(value)-1] },
		func(value []byte) []byte { return slices.Concat(value, []byte{0}) },
		func([]byte) []byte { return nil },
	} {
		if err := table.Update(&cell, p.Now(), &op); err != nil {
			t.Fatal(err)
		}
		p.Corrupt(func(key string, value []byte) ([]byte, bool) { return damage(value), strings.Contains(key, "/rec/") })
	}
	if err := table.Update(&cell, p.Now(), &increment{}); err != nil { // of the right form, and not picky's
		t.Fatal(err)
	}
	op.asked = nil
	if err := table.Update(&cell, p.Now(), &op); err != nil {
		t.Fatal(err)
	}
	if len(op.asked) != 2 || op.asked[0].Lost || !op.asked[1].Lost || op.asked[1].Payload != nil {
		t.Errorf("asked about %+v", op.asked)
	}
	if got := table.Counts().Corrupt; got != 3+1 {
		t.Errorf("%d records were replaced, want 4", got)
	}
}
