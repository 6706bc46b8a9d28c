package engine_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"sentinel-envoy/shared/checksum"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/stat"
)

// everyFamily has a rule of each kind on a resource of its own.
const everyFamily = `{
	"system_source": {"cluster": "node"},
	"systemRules": [
		{"id": "s1", "metricType": "inboundQPS", "triggerCount": 100000},
		{"id": "s2", "metricType": "avgRT", "triggerCount": 100000},
		{"id": "s3", "metricType": "concurrency", "triggerCount": 1000},
		{"id": "s4", "metricType": "load", "triggerCount": 100}],
	"flowRules": [
		{"id": "f1", "resource": "reject", "threshold": 10},
		{"id": "f2", "resource": "warm", "threshold": 20, "tokenCalculateStrategy": "WarmUp", "warmUpPeriodSec": 2},
		{"id": "f3", "resource": "pace", "threshold": 10, "controlBehavior": "Throttling", "maxQueueingTimeMs": 500},
		{"id": "f4", "resource": "related", "threshold": 10, "relationStrategy": "AssociatedResource", "refResource": "reject",
			"tokenCalculateStrategy": "WarmUp", "warmUpPeriodSec": 2}],
	"isolationRules": [{"id": "i1", "resource": "gate", "threshold": 4}],
	"hotspotRules": [
		{"id": "h1", "resource": "value", "metricType": "QPS", "threshold": 3, "durationInSec": 1, "paramSource": "Header",
			"paramKey": "x", "paramsMaxCapacity": 16},
		{"id": "h2", "resource": "crowd", "threshold": 2, "paramSource": "Header", "paramKey": "x", "paramsMaxCapacity": 16}],
	"circuitBreakerRules": [{"id": "c1", "resource": "breaker", "strategy": "ErrorCount", "threshold": 3, "retryTimeoutMs": 1000,
		"statIntervalMs": 1000}],
	"resources": [{"name": "reject", "match": {"path": {"exact": "/reject"}}}, {"name": "warm", "match": {"path": {"exact": "/warm"}}},
		{"name": "pace", "match": {"path": {"exact": "/pace"}}}, {"name": "related", "match": {"path": {"exact": "/related"}}},
		{"name": "gate", "match": {"path": {"exact": "/gate"}}}, {"name": "value", "match": {"path": {"exact": "/value"}}},
		{"name": "crowd", "match": {"path": {"exact": "/crowd"}}}, {"name": "breaker", "match": {"path": {"exact": "/breaker"}}}]}`

// caller is what hotspot rules read of every entry.
type caller string

// Header implements request.Host.
func (c caller) Header(string) (string, bool) { return string(c), true }

// Lines implements request.Host.
func (c caller) Lines(dst []string, _ string) []string { return append(dst, string(c)) }

// Property implements request.Host.
func (c caller) Property([]string) (string, bool) { return string(c), true }

// siege is a process under traffic in all families, with what its rules let in.
type siege struct {
	*process
	t       *testing.T
	cfg     *config.Config
	open    map[string][]engine.Entry
	rejects *tally
	turns   []int64
	values  []int64
	forged  bool
}

func newSiege(t *testing.T) *siege {
	c, err := config.Parse([]byte(everyFamily), config.KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	s := &siege{process: newProcess(0, nil), t: t, cfg: c, open: map[string][]engine.Entry{}, rejects: newTally(1000)}
	s.enlist()
	s.enlist()
	return s
}

// enlist adds a worker.
func (s *siege) enlist() { s.join(s.cfg).http.Stream.Of(caller("v")) }

// pass lets d nanoseconds pass in steps, after each of which everybody ticks.
func (s *siege) pass(d, step int64) {
	for end := s.Now() + d; s.Now() < end; {
		s.Advance(step)
		for _, wk := range s.workers {
			wk.Tick(s.Now())
			if _, due := wk.http.AskSource(s.Now()); due {
				wk.http.Answered([]byte("node_load1 1\n"), nil, s.Now())
			}
		}
	}
}

// demand asks n times on each worker for a resource, and returns how many were let in. They stay until end is called.
func (s *siege) demand(resource string, n int) (admitted int) {
	for _, wk := range s.workers {
		for range n {
			var e engine.Entry
			if wk.http.Enter(resource, s.Now(), &e) != nil {
				continue
			}
			admitted++
			s.note(resource, &e)
			s.open[resource] = append(s.open[resource], e)
		}
	}
	return admitted
}

// note keeps what the properties are about.
func (s *siege) note(resource string, e *engine.Entry) {
	switch resource {
	case "reject":
		s.rejects.add(s.Now())
	case "pace":
		turn, waits := e.Waiting()
		if !waits {
			turn = s.Now()
		}
		s.turns = append(s.turns, turn)
	case "value":
		s.values = append(s.values, s.Now())
	}
}

// end ends what is in flight.
func (s *siege) end(failed bool) {
	for resource, entries := range s.open {
		for i := range entries {
			entries[i].Finish(s.Now(), failed)
		}
		delete(s.open, resource)
	}
}

var families = []string{"reject", "warm", "pace", "related", "gate", "value", "crowd", "breaker"}

// traffic is demand in all families for some ticks. Where strict, no rule may let in more than its threshold.
func (s *siege) traffic(ticks int, strict bool) {
	s.t.Helper()
	for range ticks {
		for _, resource := range families {
			s.demand(resource, 3)
		}
		if gate, crowd := len(s.open["gate"]), len(s.open["crowd"]); strict && (gate > 4 || crowd > 2) {
			s.t.Errorf("%d of 4 are in flight, and %d of 2 of a value", gate, crowd)
		}
		s.end(false)
		s.pass(4*tick, 4*tick)
	}
	if strict {
		s.checkWindows()
	}
}

// keys are those that a stranger may write to, without the directory of metrics' names, which is read once a name.
func (s *siege) keys() (keys []string) {
	s.Corrupt(func(key string, _ []byte) ([]byte, bool) {
		if !strings.Contains(key, "/metrics/") {
			keys = append(keys, key)
		}
		return nil, false
	})
	slices.Sort(keys)
	return keys
}

// write puts noise into a key, in one of the ways that a stranger might. It reports whether its checksum is wrong,
// whether it was a record of what a rule has let in, and whether it was a page that leads to some.
func (s *siege) write(key string, how uint8, noise []byte) (broken, counts, leads bool) {
	s.Corrupt(func(k string, old []byte) ([]byte, bool) {
		if k != key {
			return nil, false
		}
		value := forge(old, how, noise)
		broken = !bytes.Equal(value, old) && (len(value) < 4 || binary.LittleEndian.Uint32(value) != checksum.Sum(value[4:]))
		const key = 4 + 16 + 8 + 16 // the hash of values has one; a threshold that warms up takes as much and has let nothing in
		counts = len(old) != key && (strings.Contains(k, "/rec/") || strings.Contains(k, "/values/") || strings.Contains(k, "/counts/"))
		leads = strings.Contains(k, "/dir/")
		return value, true
	})
	return broken, counts, leads
}

// forge makes rubbish of a value and noise: noise alone, noise with a right checksum, or with a right owner too, and what
// noise makes of the value by exclusive or, of all of it, of what the checksum is for, or of what the owner owns.
func forge(old []byte, how uint8, noise []byte) []byte {
	const sum, owner = 4, 4 + 16
	mixed := func(from int) []byte {
		value := bytes.Clone(old)
		for i := range noise {
			if from+i < len(value) {
				value[from+i] ^= noise[i]
			}
		}
		return value
	}
	var value []byte
	switch how % 6 {
	case 0:
		return noise
	case 1:
		value = append(make([]byte, sum), noise...)
	case 2:
		value = append(append(make([]byte, sum), old[min(sum, len(old)):min(owner, len(old))]...), noise...)
	case 3:
		return mixed(0)
	case 4:
		value = mixed(sum)
	case 5:
		value = mixed(owner)
	}
	if len(value) >= sum {
		binary.LittleEndian.PutUint32(value, checksum.Sum(value[sum:]))
	}
	return value
}

// checkWindows tells whether a rule let in more than its threshold.
func (s *siege) checkWindows() {
	s.t.Helper()
	if worst, at := s.rejects.worst(); worst > 10 {
		s.t.Errorf("the window up to bucket %d admitted %d of 10", at, worst)
	}
	slices.Sort(s.turns)
	for i := 1; i < len(s.turns); i++ {
		if gap := s.turns[i] - s.turns[i-1]; gap < 100*millisecond {
			s.t.Errorf("two turns are %d µs apart", gap/1000)
		}
	}
	const most = 2 * 3 // in a second, within which a bucket is filled once
	for i := most; i < len(s.values); i++ {
		if s.values[i]-s.values[i-most] <= second {
			s.t.Errorf("a value had more than %d permits in a second", most)
		}
	}
}

// FuzzSharedData writes rubbish to any of our keys, or the queue, of a process under traffic. The workers go on. Rubbish
// that can be known for it is counted, and never lets more in than the thresholds. Whatever it is, two minutes later,
// when every record in use has been looked up anew, each rule holds, and lets in what it should.
func FuzzSharedData(f *testing.F) {
	for which := range uint16(60) {
		f.Add(which, uint8(which), bytes.Repeat([]byte{0xff}, int(which)%40))
	}
	f.Fuzz(func(t *testing.T, which uint16, how uint8, noise []byte) {
		if len(noise) > 4096 {
			t.Skip("values of any length are treated alike")
		}
		s := newSiege(t)
		s.traffic(8, true)
		keys := s.keys()
		name, broken, counts, leads := engine.QueueName, false, false, false
		if i := int(which) % (len(keys) + 1); i < len(keys) {
			name = keys[i]
			broken, counts, leads = s.write(name, how, noise)
		} else {
			enqueue(t, s.process, forge(nil, how, noise))
		}
		t.Logf("how %d, noise %x in %s", how%6, noise, name)
		s.enlist() // who knows nothing from before
		// A forgery may give permits. The key of the hash of values may leave two budgets of a value where there was one, until
		// the next look.
		s.traffic(12, broken && (counts || leads))
		s.pass(130*second, 35*tick)
		if got, _ := s.Metric("sentinel_records_replaced"); broken && got == 0 {
			t.Error("it was not counted")
		}
		s.recovers(!broken && counts)
	})
}

// recovers checks, after some quiet, that each rule lets in what it should, no more and no less. A rule whose record was
// forged may let in less: the record may have a time in it that another rule could have given out.
func (s *siege) recovers(forged bool) {
	s.t.Helper()
	s.forged = forged
	s.rejects, s.turns, s.values = newTally(1000), nil, nil
	for range 2 { // the first is when the probe of a dead worker is missed, the second the one that takes its place
		s.demand("breaker", 1)
		s.end(false)
		s.pass(3*second, 4*tick)
	}
	s.expect("related", 1, 3, 3)
	s.expect("reject", 20, 10, 10)
	s.expect("warm", 30, 6, 20)
	s.expect("pace", 20, 6, 6)
	s.expect("gate", 10, 4, 4)
	s.expect("value", 10, 3, 3)
	s.expect("crowd", 10, 2, 2)
	s.pass(second, 4*tick)
	s.checkWindows()
	r, ok := s.workers[0].Rates("gate", s.Now())
	if want := len(s.open["gate"]); !ok || int(r.InFlight) != want {
		s.t.Errorf("the snapshot has %d of %d in flight, %t", r.InFlight, want, ok)
	}
	aggregators := 0
	for _, wk := range s.workers {
		if wk.Aggregates() {
			aggregators++
		}
	}
	if aggregators != 1 {
		s.t.Errorf("%d workers aggregate", aggregators)
	}
	s.end(false)
	s.breaks()
	if n := s.QueueLength(engine.QueueName); n > 10 {
		s.t.Errorf("%d messages wait", n)
	}
}

// breaks checks that the circuit breaker opens on failures, lets one probe in and closes on its success.
func (s *siege) breaks() {
	s.t.Helper()
	s.expect("breaker", 3, 9, 9)
	s.end(true)
	s.pass(2*tick, tick)
	if !s.forged {
		s.expect("breaker", 3, 0, 0)
	}
	s.pass(2*second, 4*tick)
	s.expect("breaker", 3, 1, 1)
	s.end(false)
	s.pass(2*tick, tick)
	s.expect("breaker", 3, 9, 9)
	s.end(false)
}

// expect asks n times on each worker for a resource, of which from least to most should be let in.
func (s *siege) expect(resource string, n, least, most int) {
	s.t.Helper()
	if s.forged {
		least = 0
	}
	if got := s.demand(resource, n); got < least || got > most {
		s.t.Errorf("%s: %d of %d were let in, want %d to %d", resource, got, len(s.workers)*n, least, most)
	}
}

func enqueue(t *testing.T, w *process, message []byte) {
	t.Helper()
	stranger := w.Worker(nil)
	queue, err := stranger.Resolve(engine.QueueName)
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Enqueue(queue, message); err != nil {
		t.Fatal(err)
	}
}

// halfOpen is a record of a breaker, half open since when it closed, with one probe that was renewed last at a time.
func halfOpen(closed []byte, renewed uint64) []byte {
	state := append(append(bytes.Clone(closed[4:28]), 1), closed[29:28+17]...)
	const seen, granted, first, successes, places, mark, doubted = 0, 1, 1, 0, 1, 1, 0
	for _, v := range [...]uint64{seen, granted, first, successes, places, mark, renewed, doubted} {
		state = binary.LittleEndian.AppendUint64(state, v)
	}
	return state
}

// TestForgeries writes what is rubbish, though its checksum is right, to every key of a kind.
func TestForgeries(t *testing.T) {
	never := uint64(start + 1000*3600*second)
	u64 := binary.LittleEndian.AppendUint64
	lease := func(slot uint16, term, beat uint64) []byte {
		return u64(u64(u64(u64(binary.LittleEndian.AppendUint16(nil, slot), never), term), beat), 0)
	}
	for name, c := range map[string]struct {
		prefix string
		length int // of the values meant, 0 for all
		value  func(old []byte) []byte
	}{
		"directory emptied": {record.Version + "dir/", 0, func([]byte) []byte { return nil }},
		"directory full for ever": {record.Version + "dir/", 0, func([]byte) (page []byte) {
			page = binary.LittleEndian.AppendUint32(page, uint32(never/1e9))
			for i := range byte(32) {
				page = append(page, bytes.Repeat([]byte{1 + i}, 16)...)
				page = binary.LittleEndian.AppendUint32(page, uint32(never/1e9))
			}
			return page
		}},
		"aggregator for ever":            {"sentinel/2/aggregator", 0, func([]byte) []byte { return lease(3, 7, never) }},
		"the last aggregator":            {"sentinel/2/aggregator", 0, func([]byte) []byte { return lease(3, 1<<64-1, never) }},
		"a worker's slot taken for ever": {"sentinel/2/worker/", 0, func([]byte) []byte { return lease(0, 0, never) }},
		"a worker in another's slot": {"sentinel/2/worker/", 0, func(old []byte) []byte {
			return append([]byte{9, 9}, old[6:]...)
		}},
		"snapshot for ever": {"sentinel/2/rates/", 0, func([]byte) []byte {
			return binary.AppendUvarint(binary.AppendUvarint([]byte{3}, 1<<63), never)
		}},
		"load for ever": {record.Version + "rec/", 4 + 16 + 8 + 8 + 7*8, func(old []byte) []byte {
			asked := bytes.Clone(old[4:36])
			return append(u64(u64(u64(asked, never), 1e9), 0x7fe0000000000000), old[60:]...)
		}},
		"breaker with probes for ever": {record.Version + "rec/", 4 + 16 + 8 + 65 + 8 + 2*16, func(old []byte) []byte {
			return halfOpen(old, never)
		}},
		"breaker with a probe of nobody": {record.Version + "rec/", 4 + 16 + 8 + 65 + 8 + 2*16, func(old []byte) []byte {
			return halfOpen(old, binary.LittleEndian.Uint64(old[29:]))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSiege(t)
			s.traffic(8, true)
			found := false
			s.Corrupt(func(key string, old []byte) ([]byte, bool) {
				if !strings.HasPrefix(key, c.prefix) || c.length != 0 && len(old) != c.length {
					return nil, false
				}
				found = true
				return forge(nil, 1, c.value(old)), true
			})
			if !found {
				t.Fatal("there is no such key")
			}
			s.enlist()
			s.traffic(12, false)
			s.pass(130*second, 35*tick)
			s.recovers(false)
		})
	}
}

// Figures that are said to be of a time to come would be believed for ever.
func TestRatesOfATimeToComeAreNotBelieved(t *testing.T) {
	for name, c := range map[string]struct {
		at   int64
		want bool
	}{"now": {0, true}, "another worker's clock": {second, true}, "to come": {10 * second, false}, "long ago": {-10 * second, false}} {
		s := newSiege(t)
		s.traffic(8, true)
		page := binary.AppendUvarint(binary.AppendUvarint([]byte{3}, 1), uint64(s.Now()+c.at))
		page = binary.LittleEndian.AppendUint64(page, stat.HashOf("gate"))
		page = forge(nil, 1, append(page, make([]byte, 7)...))
		s.Corrupt(func(key string, _ []byte) ([]byte, bool) { return page, key == engine.PageKey("gate") })
		s.enlist()
		if _, ok := s.workers[2].Rates("gate", s.Now()); ok != c.want {
			t.Errorf("%s: believed %t", name, ok)
		}
	}
}
