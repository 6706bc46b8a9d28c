package stat

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/internal/seeds"

	"sentinel-envoy/shared/outcome"
)

const (
	millisecond = int64(time.Millisecond)
	second      = int64(time.Second)
	start       = 1000 * second
)

// trace is a random history of some workers, with everything that happened in it kept for a naive recount.
type trace struct {
	rng     *rand.Rand
	now     int64
	workers []*traced
	names   []string
	events  []event
}

type traced struct {
	nodes    *Nodes
	origin   Origin
	inFlight map[string]int
	mailbox  [][]byte
}

// event is one count.
type event struct {
	name   string
	bucket int64
	kind   byte // p, b, c
	rt     uint32
	failed bool
}

func newTrace(seed uint64) *trace {
	rng := rand.New(rand.NewPCG(seed, 1))
	tr := &trace{rng: rng, now: start + rng.Int64N(second)}
	for i := range 1 + rng.IntN(6) {
		tr.workers = append(tr.workers, &traced{
			nodes: NewNodes(), origin: Origin{Slot: uint16(i), Epoch: uint64(i + 1)}, inFlight: map[string]int{},
		})
	}
	for i := range 1 + rng.IntN(4) {
		tr.names = append(tr.names, fmt.Sprint("resource ", i))
		for _, w := range tr.workers {
			w.nodes.Acquire(tr.names[i])
		}
	}
	return tr
}

func (tr *trace) step() {
	w, name := tr.workers[tr.rng.IntN(len(tr.workers))], tr.names[tr.rng.IntN(len(tr.names))]
	n := w.nodes.byName[name]
	e := event{name: name, bucket: BucketOf(tr.now)}
	switch k := tr.rng.IntN(5); {
	case k < 2:
		e.kind = 'p'
		w.inFlight[name]++
		n.Pass(tr.now)
	case k == 2:
		e.kind = 'b'
		n.Block(tr.now)
	case w.inFlight[name] > 0:
		e.kind, e.rt, e.failed = 'c', uint32(tr.rng.IntN(300)), tr.rng.IntN(3) == 0
		w.inFlight[name]--
		end := outcome.End{Outcome: outcome.Well, ResponseMs: int64(e.rt)}
		if e.failed {
			end.Outcome = outcome.Badly
		}
		n.Complete(tr.now, end)
	default:
		return
	}
	tr.events = append(tr.events, e)
	tr.now += tr.rng.Int64N(40) * millisecond
	if tr.rng.IntN(100) == 0 {
		tr.now += tr.rng.Int64N(4) * second
	}
}

// report puts what a worker has to say into its mailbox.
func (w *traced) report() {
	for {
		message, any := w.nodes.Report(nil, w.origin)
		if !any {
			return
		}
		w.mailbox = append(w.mailbox, message)
	}
}

// recount is what the snapshot should say of a resource now.
func (tr *trace) recount(name string) Rates {
	r, completed := Rates{MinRT: 60000}, map[int64]uint64{}
	for _, w := range tr.workers {
		r.InFlight += uint32(w.inFlight[name])
	}
	for _, e := range tr.events {
		if e.name != name || e.bucket <= BucketOf(tr.now)-RateBuckets {
			continue
		}
		switch e.kind {
		case 'p':
			r.Pass++
		case 'b':
			r.Block++
		case 'c':
			r.Complete++
			completed[e.bucket]++
			r.MaxComplete = max(r.MaxComplete, completed[e.bucket])
			r.RT += uint64(e.rt)
			r.MinRT = min(r.MinRT, max(e.rt, 1))
		}
	}
	return r
}

// snapshot is what an aggregator publishes now, by resource.
func snapshot(t *testing.T, a *Aggregator, now int64) map[uint64]Rates {
	t.Helper()
	all := map[uint64]Rates{}
	a.Publish(PageHeader{Term: 1, At: now}, func(uint64, string, Rates) {}, func(_ int, content []byte) bool {
		if _, err := DecodePage(content, func(hash uint64, r Rates) { all[hash] = r }); err != nil {
			t.Error(err)
		}
		return true
	})
	return all
}

func (tr *trace) compare(t *testing.T, a *Aggregator) {
	t.Helper()
	var failed, counted uint64
	for _, e := range tr.events {
		if e.failed {
			failed++
		}
	}
	for _, w := range tr.workers {
		w.nodes.All(func(n *Node) { counted += n.Failed })
	}
	if counted != failed {
		t.Errorf("%d failed, counted %d", failed, counted)
	}
	got := snapshot(t, a, tr.now)
	for _, name := range tr.names {
		want := tr.recount(name)
		have, ok := got[HashOf(name)]
		if !ok {
			have = Rates{MinRT: 60000}
		}
		if have != want {
			t.Errorf("%s: snapshot %+v, recount %+v", name, have, want)
		}
	}
}

func TestSnapshotEqualsRecount(t *testing.T) {
	seeds.Try(t, 150, func(t *testing.T, seed uint64) {
		tr, a := newTrace(seed), NewAggregator()
		for range 300 {
			tr.step()
			if tr.rng.IntN(5) == 0 {
				w := tr.workers[tr.rng.IntN(len(tr.workers))]
				w.report()
				deliver(t, a, w, tr.now)
			}
			if tr.rng.IntN(40) == 0 {
				for _, w := range tr.workers {
					w.nodes.ReportRecent(tr.now) // else those with entries in flight would be taken for dead
					w.report()
					deliver(t, a, w, tr.now)
				}
				a.Expire(tr.now)
				tr.compare(t, a)
			}
		}
	})
}

func deliver(t *testing.T, a *Aggregator, w *traced, now int64) {
	t.Helper()
	for _, m := range w.mailbox {
		if err := a.Receive(m, now); err != nil {
			t.Error(err)
		}
	}
	w.mailbox = nil
}

// Messages of one worker come late, twice, in any order or not at all: when every worker has reported once more what is
// recent, nothing is missing and nothing is counted twice. No time passes in which a lost count could leave the window.
func TestRepeatedReorderedAndLostReportsDoNoHarm(t *testing.T) {
	seeds.Try(t, 300, func(t *testing.T, seed uint64) {
		tr, a := newTrace(seed), NewAggregator()
		tr.now = BucketOf(tr.now) * BucketMs * millisecond // the trace's steps stay within two buckets
		for range 40 {
			tr.step()
			tr.now = min(tr.now, (BucketOf(start)+3)*BucketMs*millisecond)
			w := tr.workers[tr.rng.IntN(len(tr.workers))]
			w.report()
			if n := len(w.mailbox); n > 0 && tr.rng.IntN(2) == 0 {
				m := w.mailbox[tr.rng.IntN(n)] // an old one, perhaps again
				if err := a.Receive(m, tr.now); err != nil {
					t.Error(err)
				}
			}
			checkNotOver(t, tr, a)
		}
		for _, w := range tr.workers {
			w.nodes.ReportRecent(tr.now)
			w.mailbox = nil
			w.report()
			deliver(t, a, w, tr.now)
		}
		checkNotOver(t, tr, a)
		tr.compare(t, a)
	})
}

func checkNotOver(t *testing.T, tr *trace, a *Aggregator) {
	t.Helper()
	for hash, r := range snapshot(t, a, tr.now) {
		for _, name := range tr.names {
			if want := tr.recount(name); HashOf(name) == hash && (r.Pass > want.Pass || r.Block > want.Block ||
				r.Complete > want.Complete || r.RT > want.RT) {
				t.Errorf("%s: snapshot %+v is over the recount %+v", name, r, want)
			}
		}
	}
}

// The last entry ends, and exactly the report of it is lost: it comes again.
func TestLostReportOfTheLastExitIsRepeated(t *testing.T) {
	ns, a := NewNodes(), NewAggregator()
	n := ns.Acquire("r")
	send := func(now int64, lost bool) {
		ns.ReportRecent(now)
		if m, any := ns.Report(nil, Origin{Slot: 1, Epoch: 1}); any && !lost {
			if err := a.Receive(m, now); err != nil {
				t.Error(err)
			}
		}
	}
	n.Pass(start)
	send(start, false)
	if got := snapshot(t, a, start)[n.Hash].InFlight; got != 1 {
		t.Fatalf("%d in flight", got)
	}
	n.Complete(start+50*millisecond, outcome.End{Outcome: outcome.Well, ResponseMs: 50})
	send(start+60*millisecond, true)
	send(start+60*millisecond+ReportEvery, false)
	if got := snapshot(t, a, start+second)[n.Hash].InFlight; got != 0 {
		t.Errorf("%d in flight after all have ended", got)
	}
}

func TestReportsAreSplitAndNoneIsLost(t *testing.T) {
	ns, a := NewNodes(), NewAggregator()
	const resources = 3*nodesPerReport + 17
	for i := range resources {
		ns.Acquire(fmt.Sprint(i)).Pass(start)
	}
	for i := range nodesPerReport {
		if m, any := ns.Report(nil, Origin{Slot: 1, Epoch: 1}); any {
			if len(m) > 32<<10 {
				t.Errorf("a message of %d bytes", len(m))
			}
			if err := a.Receive(m, start); err != nil {
				t.Error(err)
			}
			continue
		}
		if i != 4 {
			t.Errorf("%d messages for %d nodes", i, resources)
		}
		break
	}
	all := map[uint64]Rates{}
	for range Pages { // pages take turns
		for hash, r := range snapshot(t, a, start) {
			all[hash] = r
		}
	}
	for i := range resources {
		if got := all[HashOf(fmt.Sprint(i))]; got.Pass != 1 || got.InFlight != 1 {
			t.Errorf("resource %d: %+v", i, got)
		}
	}
}

func TestSilentWorkerIsForgottenAndComesBack(t *testing.T) {
	ns, a := NewNodes(), NewAggregator()
	n := ns.Acquire("r")
	for range 3 {
		n.Pass(start)
	}
	receive := func(now int64, epoch uint64) {
		t.Helper()
		ns.ReportAll()
		m, _ := ns.Report(nil, Origin{Slot: 5, Epoch: epoch})
		if err := a.Receive(m, now); err != nil {
			t.Error(err)
		}
	}
	inFlight := func(now int64, want uint32) {
		t.Helper()
		if got := snapshot(t, a, now)[n.Hash].InFlight; got != want {
			t.Errorf("%d in flight, want %d", got, want)
		}
	}
	receive(start, 7)
	a.Expire(start + second)
	inFlight(start+second, 3)
	a.Expire(start + 2*second)
	inFlight(start+2*second, 0)
	receive(start+3*second, 7) // only slow
	inFlight(start+3*second, 3)
	receive(start+3*second, 8) // registered again
	inFlight(start+3*second, 3)
	n.Pass(start + 3*second)
	receive(start+3*second, 7) // from before that
	inFlight(start+3*second, 3)
}

func TestGuarantee6WindowsAndWorkersAreBounded(t *testing.T) {
	a := NewAggregator()
	names := 0
	fill := func(now int64) {
		for slot := range uint16(200) {
			ns := NewNodes()
			for range 3 {
				names++
				ns.Acquire(fmt.Sprint(names)).Block(now)
			}
			m, _ := ns.Report(nil, Origin{Slot: slot, Epoch: uint64(now)})
			if err := a.Receive(m, now); err != nil {
				t.Fatal(err)
			}
		}
	}
	now := start
	for range 60 {
		fill(now)
		for range 10 {
			now += second
			a.Expire(now)
			snapshot(t, a, now)
		}
		var listed int
		for _, page := range a.byPage {
			listed += len(page)
		}
		if len(a.windows) > 8*600 || listed != len(a.windows) || len(a.workers) > 200 {
			t.Fatalf("%d windows, %d listed, %d workers", len(a.windows), listed, len(a.workers))
		}
	}
	for range 20 {
		now += 10 * second
		a.Expire(now)
		snapshot(t, a, now)
	}
	if len(a.windows) != 0 || len(a.workers) != 0 {
		t.Errorf("long after, %d windows and %d workers", len(a.windows), len(a.workers))
	}
}

func TestGuarantee6MessagesCannotGrowAnAggregator(t *testing.T) {
	a := NewAggregator()
	report := func(i int, from Origin) error {
		ns := NewNodes()
		for n := range nodesPerReport {
			if len(a.windows) == maxWindows && n > 1 {
				break
			}
			ns.Acquire(fmt.Sprint(i, " ", n)).Block(start)
		}
		m, _ := ns.Report(nil, from)
		return a.Receive(m, start)
	}
	for i := range 2 * maxWorkers {
		if err := report(i, Origin{Slot: uint16(i % maxWorkers), Epoch: uint64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, slot := range []uint16{maxWorkers, math.MaxUint16} { // a metric is named after each slot
		if err := report(0, Origin{Slot: slot, Epoch: 1}); err != ErrMalformed {
			t.Errorf("a report of slot %d: %v", slot, err)
		}
	}
	if len(a.windows) > maxWindows || len(a.workers) > maxWorkers || a.Dropped == 0 {
		t.Errorf("%d windows, %d workers, %d dropped", len(a.windows), len(a.workers), a.Dropped)
	}
}

// A new aggregator takes over what the last one said: also of resources that only the dead one had, so that nothing
// stays published for ever.
func TestAdoptedPageIsClearedWhenNobodyReportsIt(t *testing.T) {
	ns, old := NewNodes(), NewAggregator()
	n := ns.Acquire("r")
	n.Pass(start)
	m, _ := ns.Report(nil, Origin{Slot: 1, Epoch: 1})
	if err := old.Receive(m, start); err != nil {
		t.Fatal(err)
	}
	var page []byte
	old.Publish(PageHeader{Term: 1, At: start}, func(uint64, string, Rates) {}, func(_ int, content []byte) bool {
		page = bytes.Clone(content)
		return true
	})
	next := NewAggregator()
	next.Adopt(page, start+second)
	told := false
	next.Publish(PageHeader{Term: 2, At: start + second}, func(hash uint64, _ string, r Rates) {
		told = hash == n.Hash && r.InFlight == 0 && r.Pass == 0
	}, func(int, []byte) bool { return true })
	if !told {
		t.Error("the new aggregator says nothing of what the old one had published")
	}
}

// An aggregator is told the name of each resource with the first report, since it may know none itself, and a new one again;
// what is no resource has none. A name that is longer than any is none of ours.
func TestAggregatorIsToldNames(t *testing.T) {
	ns := NewNodes()
	for _, name := range []string{"a", "b", Hidden + "inbound", strings.Repeat("x", maxName+1)} {
		ns.Acquire(name).Pass(start)
	}
	names := func(a *Aggregator) (told []string) {
		m, _ := ns.Report(nil, Origin{Slot: 1, Epoch: 1})
		if err := a.Receive(m, start); err != nil {
			t.Error(err)
		}
		for range Pages {
			a.Publish(PageHeader{Term: 1, At: start}, func(_ uint64, name string, _ Rates) {
				if name != "" && !slices.Contains(told, name) {
					told = append(told, name)
				}
			}, func(int, []byte) bool { return true })
		}
		slices.Sort(told)
		return told
	}
	if got := names(NewAggregator()); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("told %q", got)
	}
	ns.ReportRecent(start)
	if m, _ := ns.Report(nil, Origin{}); bytes.Contains(m, []byte("a")) && len(m) > 150 {
		t.Errorf("told again in %d bytes", len(m))
	}
	ns.ReportAll()
	if got := names(NewAggregator()); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("a new aggregator is told %q", got)
	}
}

// An aggregator that has received nothing has nothing to say, and takes nothing back that others have published.
func TestAggregatorThatHasReceivedNothing(t *testing.T) {
	a := NewAggregator()
	a.Publish(PageHeader{Term: 1, At: start}, func(hash uint64, _ string, r Rates) { t.Errorf("%d: %+v", hash, r) },
		func(page int, _ []byte) bool { t.Errorf("page %d", page); return true })
	a.Expire(start)
	if len(a.windows)+len(a.workers) > 0 {
		t.Errorf("%d windows and %d workers of nobody", len(a.windows), len(a.workers))
	}
}
