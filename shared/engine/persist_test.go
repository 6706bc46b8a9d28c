package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/persist"
	"sentinel-envoy/shared/request/requesttest"
	"sentinel-envoy/shared/source"
)

// keptRules has a rule of each kind whose counts outlive the process, each on a resource with its name.
const keptRules = `{"resource_name": "none", "persist": {"cluster": "store", "path": "/counts", "interval_ms": %d},
	"flowRules": [
		{"id": "fixed", "resource": "/fixed", "threshold": 40, "statIntervalInMs": 70000},
		{"id": "exact", "resource": "/exact", "threshold": 30, "statIntervalInMs": 65000, "window": "exact"},
		{"id": "tokens", "resource": "/tokens", "threshold": 20, "statIntervalInMs": 60000, "burst": 30},
		{"id": "hour", "resource": "/hour", "threshold": 60, "unit": "HOUR"}],
	"hotspotRules": [{"id": "user", "resource": "/user", "metricType": "QPS", "threshold": 15, "durationInSec": 3600,
		"paramSource": "Header", "paramKey": "x-user"}]}`

func keptConfig(t *testing.T, intervalMs int) *config.Config {
	t.Helper()
	c, err := config.Parse(fmt.Appendf(nil, keptRules, intervalMs), config.KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// keptBy is a resource's value, "" where it has none.
var keptResources = []struct{ resource, user string }{
	{"fixed", ""}, {"exact", ""}, {"tokens", ""}, {"hour", ""}, {"user", "alice"}, {"user", "bob"},
}

// keptCall is a call under way to the store.
type keptCall struct {
	of          *engine.VM
	ask         *engine.StoreAsk
	arrives     int64 // by the true clock
	answered    bool
	status      int
	body        string
	failed      error
	begunBefore int64
}

// keptStore is a server that keeps a document, with latency and faults. Times are the true clock's.
type keptStore struct {
	text  string
	there bool
	// kept is when the snapshot was begun that is there.
	kept  int64
	calls []*keptCall
	puts  int
	fault func(a *engine.StoreAsk) (status int, body string, err error)
	delay func() int64
	// got are the answers to GET that were given.
	got int
}

func (s *keptStore) send(vm *engine.VM, a *engine.StoreAsk, now, begun int64) {
	s.calls = append(s.calls, &keptCall{of: vm, ask: a, arrives: now + s.delay(), begunBefore: begun})
}

// pass lets calls arrive that have by now.
func (s *keptStore) pass(now int64) {
	for _, c := range s.calls {
		if c.answered || c.arrives > now {
			continue
		}
		c.answered = true
		if c.status, c.body, c.failed = s.fault(c.ask); c.status != 0 || c.failed != nil {
			continue
		}
		switch {
		case c.ask.Method == "PUT":
			s.text, s.there, s.kept, c.status = c.ask.Body, true, c.begunBefore, 201
			s.puts++
		case !s.there:
			c.status = 404
		default:
			c.status, c.body = 200, s.text
			s.got++
		}
	}
}

// deliver gives a worker its answers.
func (s *keptStore) deliver(vm *engine.VM, now int64) {
	for _, c := range s.calls {
		if c.of == vm && c.answered {
			vm.StoreAnswered(c.ask, source.Response{Status: c.status, Body: []byte(c.body)}, c.failed, now)
		}
	}
	s.calls = slices.DeleteFunc(s.calls, func(c *keptCall) bool { return c.of == vm && c.answered })
}

func newKeptStore() *keptStore {
	return &keptStore{
		fault: func(*engine.StoreAsk) (int, string, error) { return 0, "", nil }, delay: func() int64 { return 0 },
	}
}

// keptLife is a process with some workers in lock-step, at a store.
type keptLife struct {
	*process
	store *keptStore
	cfg   *config.Config
}

// live starts a process whose monotonic clock stands at base when the wall clock stands at wall.
func live(store *keptStore, n int, base, wall int64, c *config.Config) *keptLife {
	l := &keptLife{process: &process{Process: memhost.NewProcess(base)}, store: store, cfg: c}
	l.SetWall(wall)
	for range n {
		l.join(c)
	}
	return l
}

// run lets d nanoseconds pass.
func (l *keptLife) run(d int64) {
	for end := l.Now() + d; l.Now() < end; {
		l.Advance(min(tick, end-l.Now()))
		for _, wk := range l.workers {
			if wk.gone {
				continue
			}
			l.store.pass(l.Now())
			l.store.deliver(wk.VM, l.Now())
			l.tickOf(wk)
		}
	}
}

func (l *keptLife) tickOf(wk *worker) {
	wk.Tick(l.Now())
	wk.AskStore(l.Now(), func(a *engine.StoreAsk) error {
		l.store.send(wk.VM, a, l.Now(), wk.SnapshotBegun())
		return nil
	})
}

// admits is how many of n requests a worker lets in.
func (l *keptLife) admits(worker int, resource, user string, n int) (admitted int) {
	wk := l.workers[worker]
	wk.http.Stream.Of(&requesttest.Client{Headers: map[string]string{"x-user": user}, Asked: map[string]int{}})
	for range n {
		var e engine.Entry
		if wk.http.Enter("/"+resource, l.Now(), &e) == nil {
			admitted++
			e.Finish(l.Now(), false)
		}
	}
	return admitted
}

// logged is whether a worker has logged a text.
func (l *keptLife) logged(text string) bool {
	for _, wk := range l.workers {
		if slices.ContainsFunc(wk.host.Lines(), func(line string) bool { return strings.Contains(line, text) }) {
			return true
		}
	}
	return false
}

const wallStart = 1_800_000_000 * second // at a full hour

// What was counted by the last snapshot is spent still, in a process whose monotonic clock goes on or begins anew, on any
// worker; and it comes back when it would have.
func TestCountsOutliveTheProcess(t *testing.T) {
	for _, base := range []int64{start + 12*second, 3 * second, 500_000 * second} {
		store := newKeptStore()
		c := keptConfig(t, 1000)
		l := live(store, 2, start, wallStart+10*second, c)
		l.run(2 * second)
		for _, r := range keptResources {
			if l.admits(0, r.resource, r.user, 10) != 10 || l.admits(1, r.resource, r.user, 200) == 0 {
				t.Fatalf("%s admits nothing", r.resource)
			}
		}
		l.run(100 * millisecond)
		for _, r := range keptResources { // what a worker had reserved
			l.admits(0, r.resource, r.user, 200)
		}
		l.run(10 * second)
		down := l.Now()
		l = live(store, 3, base, wallStart+down-start+13*second, c)
		l.run(second)
		if !l.logged("took over 7 counts of ") {
			t.Error("it is not said what was taken over")
		}
		for _, r := range keptResources {
			want := 0
			if r.resource == "tokens" {
				want = 5 // of 20 in a minute, in 14 s to 16 s
			}
			if got := l.admits(2, r.resource, r.user, 100); got < want-2 || got > want {
				t.Errorf("%s admits %d after a restart at %d, want %d", r.resource, got, base, want)
			}
		}
		l.run(75 * second)
		for resource, want := range map[string]int{"fixed": 40, "exact": 30, "hour": 0, "tokens": 25} {
			if got := l.admits(1, resource, "", 100); got != want && resource != "tokens" || got < want-3 {
				t.Errorf("%s admits %d after its window, want %d", resource, got, want)
			}
		}
		if n := l.workers[0].Faults() + l.workers[1].Faults() + l.workers[2].Faults(); n > 0 {
			t.Errorf("%d faults", n)
		}
	}
}

// A document that comes late adds to what was counted meanwhile, and nothing is written before.
func TestLateDocument(t *testing.T) {
	store := newKeptStore()
	c := keptConfig(t, 1000)
	l := live(store, 2, start, wallStart, c)
	l.run(2 * second)
	l.admits(0, "fixed", "", 30)
	l.admits(0, "exact", "", 25)
	l.admits(0, "user", "alice", 12)
	l.run(5 * second)
	before, puts := store.text, store.puts
	down := 0
	store.fault = func(*engine.StoreAsk) (int, string, error) {
		down++
		switch down % 4 {
		case 0:
			return 503, "", nil
		case 1:
			return 0, "", errors.New("no answer")
		case 2:
			return 200, "<html><body>Welcome!</body></html>", nil
		}
		return 302, "", nil
	}
	l = live(store, 2, start, wallStart+9*second, c)
	l.run(20 * second)
	if got := l.admits(1, "fixed", "", 5) + l.admits(1, "exact", "", 2) + l.admits(1, "user", "alice", 2); got != 9 {
		t.Errorf("%d of 9 are admitted before the document has come", got)
	}
	l.run(second)
	if store.text != before || store.puts != puts {
		t.Error("a document was written before the one before was read")
	}
	if down < 5 || down > 20 || !l.logged("persist store/counts: error 1 on end: ") {
		t.Errorf("the server was asked %d times", down)
	}
	store.fault = func(*engine.StoreAsk) (int, string, error) { return 0, "", nil }
	l.run(31 * second)
	for resource, want := range map[string]int{"fixed": 5, "exact": 3} {
		if got := l.admits(0, resource, "", 100); resource == "exact" && got != want || resource == "fixed" && got > want+35 {
			t.Errorf("%s admits %d after the document has come, want %d", resource, got, want)
		}
	}
	if got := l.admits(0, "user", "alice", 100); got != 3 {
		t.Errorf("alice gets %d after the document has come, want 3: what she had before that is forgotten", got)
	}
}

// Tokens that were taken before a document has come are missing beside those that it says.
func TestLateTokens(t *testing.T) {
	store := newKeptStore()
	c := keptConfig(t, 1000)
	l := live(store, 1, start, wallStart, c)
	l.run(2 * second)
	l.admits(0, "tokens", "", 28)
	l.run(3 * second)
	fails := 2
	store.fault = func(*engine.StoreAsk) (int, string, error) {
		if fails--; fails >= 0 {
			return 500, "", nil
		}
		return 0, "", nil
	}
	l = live(store, 1, start, wallStart+6*second, c)
	l.run(second / 2)
	if got := l.admits(0, "tokens", "", 6); got != 6 {
		t.Errorf("%d of 6 are admitted before the document has come", got)
	}
	l.run(4 * second)
	if got := l.admits(0, "tokens", "", 30); !l.workers[0].Restored() || got > 1 { // three have come back, of 34
		t.Errorf("%d more are admitted", got)
	}
}

// A worker that has asked for the document and was held up hears of it when another has taken it over and is gone.
func TestOwnerIsHeldUp(t *testing.T) {
	store := newKeptStore()
	c := keptConfig(t, 1000)
	l := live(store, 1, start, wallStart, c)
	l.run(2 * second)
	l.admits(0, "exact", "", 10)
	l.admits(0, "tokens", "", 10)
	l.run(3 * second)
	l = live(store, 2, start, wallStart+5*second, c)
	for len(store.calls) == 0 {
		l.run(tick)
	}
	asker := slices.IndexFunc(l.workers, func(wk *worker) bool { return wk.VM == store.calls[0].of })
	held, other := l.workers[asker], l.workers[1-asker]
	held.gone = true
	l.run(10 * second)
	if !other.Restored() || store.got != 2 {
		t.Fatalf("the other has not taken over; %d answers", store.got)
	}
	held.gone, other.gone = false, true
	l.run(10 * second)
	if got := l.admits(asker, "exact", "", 100); got != 20 || store.got != 2 {
		t.Errorf("%d are admitted, want 20; %d answers", got, store.got)
	}
	if got := l.admits(asker, "tokens", "", 100); got < 25 {
		t.Errorf("%d tokens are there, want 25 at least", got)
	}
}

// What cannot be used is never used in part: a document of ours that is broken counts as none, and is written over; what is
// not ours stays.
func TestUnusableDocuments(t *testing.T) {
	store := newKeptStore()
	c := keptConfig(t, 1000)
	l := live(store, 1, start, wallStart, c)
	l.run(2 * second)
	for _, r := range keptResources {
		l.admits(0, r.resource, r.user, 10)
	}
	l.run(5 * second)
	good := store.text
	flipped := []byte(good)
	flipped[len(flipped)-3] ^= 1
	forged := &persist.Snapshot{}
	forged.Add(persist.FixedWindow, persist.Always, make([]byte, 40))
	for name, text := range map[string]string{
		"truncated": good[:len(good)/2], "short": good[:20], "flipped": string(flipped), "longer": good + "x",
		"another version": good[:16] + "\x07" + good[17:], "forged": string(forged.Encode(start, wallStart)),
		"huge": good + strings.Repeat("x", persist.MaxSize),
	} {
		store.text, store.there = text, true
		l := live(store, 2, start, wallStart+8*second, c)
		l.run(3 * second)
		if !l.logged("persist store/counts: begins anew: ") || l.admits(0, "fixed", "", 100) != 40 {
			t.Errorf("%s: it is used", name)
		}
		if l.run(5 * second); store.text == text {
			t.Errorf("%s: it is not written over", name)
		}
	}
	for _, text := range []string{"<html>", "{}", "sentinel", strings.Repeat("x", 5<<20)} {
		store.text = text
		l := live(store, 2, start, wallStart+8*second, c)
		l.run(10 * second)
		if !l.logged("somebody else's") || store.text != text {
			t.Errorf("%.10s: it is written over", text)
		}
	}
	store.text = ""
	l = live(store, 2, start, wallStart+8*second, c)
	l.run(3 * second)
	if l.admits(0, "fixed", "", 5); !l.logged("nothing is kept yet") {
		t.Error("an empty document is something")
	}
	if l.run(5 * second); store.text == "" {
		t.Error("nothing is written after an empty document")
	}
}

// A wall clock that was set gives one fresh budget at most, and takes none for longer than a window.
func TestWallClockIsSet(t *testing.T) {
	for _, jump := range []int64{-365 * 86400, -7200, -100, 100, 7200, 365 * 86400} {
		store := newKeptStore()
		c := keptConfig(t, 1000)
		l := live(store, 1, start, wallStart+10*second, c)
		l.run(2 * second)
		for _, r := range keptResources {
			l.admits(0, r.resource, r.user, 200)
		}
		l.run(5 * second)
		l = live(store, 2, start+10*second, wallStart+20*second+jump*second, c)
		l.run(2 * second)
		for _, r := range keptResources {
			got := l.admits(0, r.resource, r.user, 1000)
			if most := map[string]int{"fixed": 40, "exact": 30, "tokens": 30, "hour": 60, "user": 15}[r.resource]; got > most {
				t.Errorf("%s admits %d after a jump by %d s", r.resource, got, jump)
			} else if jump < 0 && got > 1 && r.resource != "hour" && r.resource != "tokens" {
				t.Errorf("%s admits %d though no time has passed, by a jump of %d s", r.resource, got, jump)
			}
		}
		l.run(71 * second)
		for resource, want := range map[string]int{"fixed": 40, "exact": 30} {
			if got := l.admits(1, resource, "", 100); got != want {
				t.Errorf("%s admits %d a window after a jump by %d s, want %d", resource, got, jump, want)
			}
		}
	}
}

// Rules that come when the document was taken over, as from a data source, find their counts.
func TestRulesComeLaterThanTheirCounts(t *testing.T) {
	store := newKeptStore()
	c := keptConfig(t, 1000)
	l := live(store, 1, start, wallStart+10*second, c)
	l.run(2 * second)
	for _, r := range keptResources {
		l.admits(0, r.resource, r.user, 200)
	}
	l.run(5 * second)
	without := *c
	without.Rules = nil
	l = live(store, 2, start+8*second, wallStart+18*second, &without)
	l.run(5 * second)
	for _, wk := range l.workers {
		wk.update(c)
	}
	for _, r := range keptResources {
		if got := l.admits(0, r.resource, r.user, 200); got > 0 && r.resource != "tokens" || got > 5 {
			t.Errorf("%s admits %d", r.resource, got)
		}
	}
}

// A process keeps its counts in one place, also where its filters name several.
func TestTwoPlaces(t *testing.T) {
	store := newKeptStore()
	c, other := keptConfig(t, 1000), keptConfig(t, 1000)
	other.Persist.Path = "/elsewhere"
	l := live(store, 2, start, wallStart, c)
	paths := map[string]bool{}
	store.fault = func(a *engine.StoreAsk) (int, string, error) {
		paths[a.Path] = true
		return 0, "", nil
	}
	for _, wk := range l.workers {
		wk.NewFilter("sentinel_http", other, nil)
	}
	l.run(2 * second)
	l.admits(0, "exact", "", 10)
	l.run(5 * second)
	if len(paths) != 1 || !paths["/counts"] || store.puts == 0 {
		t.Errorf("asked for %v", paths)
	}
	if !l.logged("persist: store/counts holds for the process, and not also store/elsewhere of sentinel_http") {
		t.Error("it is not said which holds")
	}
}

// Envoy keeps the filters that an update has replaced until their listener has drained: what the new ones say holds at once.
func TestPlaceChangesBeforeListenersDrain(t *testing.T) {
	store := newKeptStore()
	l := live(store, 2, start, wallStart, keptConfig(t, 1000))
	l.run(2 * second)
	l.admits(0, "exact", "", 10)
	l.run(2 * second)
	puts := map[string]int{}
	store.fault = func(a *engine.StoreAsk) (int, string, error) {
		if a.Method != "PUT" {
			return 404, "", nil
		}
		puts[a.Path]++
		return 0, "", nil
	}
	other, none := keptConfig(t, 1000), keptConfig(t, 1000)
	other.Persist.Path, none.Persist = "/elsewhere", nil
	for _, c := range []*config.Config{other, none} {
		for _, wk := range l.workers {
			wk.NewFilter("sentinel_http", c, nil)
			wk.NewFilter("sentinel_tcp", c, nil)
		}
		l.run(5 * second)
		l.admits(0, "exact", "", 1)
		l.run(5 * second)
	}
	if puts["/counts"] != 0 || puts["/elsewhere"] != 2 {
		t.Errorf("put %v times", puts)
	}
	if l.logged("and not also") || !l.logged("persist: store/elsewhere holds from now on") {
		t.Errorf("%q", l.workers[0].host.Lines())
	}
}

// Where filters differ in something else than the place, it is said in what.
func TestTwoIntervals(t *testing.T) {
	for what, set := range map[string]func(p *config.Persist){
		"interval_ms 2000": func(p *config.Persist) { p.IntervalMs = 2000 },
		"timeout_ms 500":   func(p *config.Persist) { p.TimeoutMs = 500 },
		`authority "b"`:    func(p *config.Persist) { p.Authority = "b" },
	} {
		other := keptConfig(t, 1000)
		set(other.Persist)
		l := live(newKeptStore(), 1, start, wallStart, keptConfig(t, 1000))
		l.workers[0].NewFilter("sentinel_http", other, nil)
		if l.run(second); !l.logged("persist: store/counts holds for the process, and not also " + what + " of sentinel_http") {
			t.Errorf("%s: %q", what, l.workers[0].host.Lines())
		}
	}
}

// Where an update has it written elsewhere, nothing is taken over there, nor is what is not ours written over.
func TestDocumentMoves(t *testing.T) {
	store := newKeptStore()
	c := keptConfig(t, 1000)
	l := live(store, 2, start, wallStart+10*second, c)
	l.run(2 * second)
	l.admits(0, "exact", "", 10)
	l.run(5 * second)
	moved := keptConfig(t, 1000)
	moved.Persist.Path = "/elsewhere"
	ours := store.text
	store.text = "<html>"
	for _, wk := range l.workers {
		wk.update(moved)
	}
	if l.run(5 * second); store.text != "<html>" || !l.logged("persist store/elsewhere: error 1 on end: ") {
		t.Error("what is not ours is written over")
	}
	store.text = ours
	l.run(20 * second)
	if !l.logged("persist store/elsewhere: is written from now on") {
		t.Error("it is not written elsewhere")
	}
	if got := l.admits(1, "exact", "", 100); got != 20 {
		t.Errorf("%d are admitted, want 20: nothing is taken over", got)
	}
	if l.run(3 * second); store.text == ours {
		t.Error("it is not written elsewhere")
	}
}

// A document that says the same twice, as if it were taken over twice: windows of one bucket have it once, and of what is added
// nobody has less than nothing.
func TestDocumentSaysItTwice(t *testing.T) {
	store := newKeptStore()
	c := keptConfig(t, 1000)
	l := live(store, 1, start, wallStart, c)
	l.run(2 * second)
	for resource, user := range map[string]string{"fixed": "", "exact": "", "hour": "", "user": "alice"} {
		l.admits(0, resource, user, 5)
	}
	l.admits(0, "user", "bob", 9)
	l.run(3 * second)
	d, err := persist.Decode([]byte(store.text))
	if err != nil {
		t.Fatal(err)
	}
	var s persist.Snapshot
	for range 2 {
		for _, e := range d.Entries {
			s.Add(e.Kind, persist.Always, e.Data)
		}
	}
	store.text = string(s.Encode(d.Now, d.Wall))
	l = live(store, 1, start, wallStart+5*second, c)
	l.run(2 * second)
	for _, want := range []struct {
		resource, user string
		left           int
	}{{"fixed", "", 35}, {"exact", "", 20}, {"hour", "", 55}, {"user", "alice", 5}, {"user", "bob", 0}} {
		if got := l.admits(0, want.resource, want.user, 100); got != want.left {
			t.Errorf("%s %s: %d are admitted, want %d", want.resource, want.user, got, want.left)
		}
	}
}

// A client is told when what was carried over ends, though the process's own window ends at another time.
func TestWhenCarriedCountsEnd(t *testing.T) {
	for _, base := range []int64{3 * second, 40 * second, 69 * second} { // the window begins at 0 and ends at 70 s
		store := newKeptStore()
		c := keptConfig(t, 1000)
		l := live(store, 1, start, wallStart, c) // whose window ends at 1050 s, in 50 s
		l.run(2 * second)
		l.admits(0, "fixed", "", 40)
		l.admits(0, "hour", "", 60)
		l.run(3 * second)
		l = live(store, 1, base, wallStart+10*second, c)
		l.run(2 * second)
		for resource, ends := range map[string]int64{"fixed": wallStart + 50*second, "hour": wallStart + 3600*second} {
			var e engine.Entry
			b := l.workers[0].http.Enter("/"+resource, l.Now(), &e)
			want := (ends - l.workers[0].host.Wall()) / millisecond
			if b == nil || b.RetryAfterMs < want || b.RetryAfterMs > want+1100 {
				t.Errorf("from %d on %s answers %+v, want again in %d ms", base, resource, b, want)
			}
		}
		left := 50*second - 12*second
		if l.run(left - second); l.admits(0, "fixed", "", 1) != 0 {
			t.Error("it is free before its end")
		}
		if l.run(3 * second); l.admits(0, "fixed", "", 100) != 40 {
			t.Error("it is not free after its end")
		}
	}
}

// An update names another place while the one before is asked, while its document is taken over, or while one is put there:
// what is of the one says nothing of the other. That is asked first, so that nothing foreign is written over, and then has all.
func TestPlaceChangesOnTheWay(t *testing.T) {
	before := newKeptStore()
	c, other := keptConfig(t, 1000), keptConfig(t, 1000)
	other.Persist.Path = "/elsewhere"
	l := live(before, 1, start, wallStart, c)
	l.run(2 * second)
	for n := range 1500 {
		l.admits(0, "user", fmt.Sprint("user ", n), 5)
	}
	l.run(5 * second)
	for name, until := range map[string]func(l *keptLife) bool{
		"asked":      func(l *keptLife) bool { return len(l.store.calls) > 0 },
		"taken over": func(l *keptLife) bool { done, _ := l.workers[0].Restoring(); return done > 300 },
		"put":        func(l *keptLife) bool { return len(l.store.calls) > 0 && l.store.calls[0].ask.Method == "PUT" },
	} {
		for _, foreign := range []bool{true, false} {
			store, puts := newKeptStore(), 0
			store.text, store.there, store.delay = before.text, true, func() int64 { return 300 * millisecond }
			store.fault = func(a *engine.StoreAsk) (int, string, error) {
				switch {
				case a.Path == "/counts":
					return 0, "", nil
				case a.Method == "PUT":
					puts++
					return 201, "", nil
				case foreign:
					return 200, "<html>", nil
				}
				return 404, "", nil
			}
			l := live(store, 1, start+8*second, wallStart+8*second, c)
			for !until(l) {
				l.run(tick)
			}
			l.workers[0].update(other)
			if l.run(10 * second); (puts == 0) != foreign {
				t.Errorf("changed while it is %s: put %d times; foreign: %v", name, puts, foreign)
			}
		}
	}
}

// restFor lets d nanoseconds pass in which each worker ticks as often as it asks for at rest. next is when each is to.
func (l *keptLife) restFor(d int64, next []int64) {
	for end := l.Now() + d; l.Now() < end; {
		l.Advance(10 * millisecond)
		l.store.pass(l.Now())
		for i, wk := range l.workers {
			if l.store.deliver(wk.VM, l.Now()); l.Now() >= next[i] {
				l.tickOf(wk)
				next[i] = l.Now() + int64(wk.Period(true, l.Now()))*millisecond
			}
		}
	}
}

// Where the owner is at rest, as Envoy's main thread is whatever comes in, a document that comes late is taken over as fast as
// else, and a snapshot is no older than else.
func TestOwnerRests(t *testing.T) {
	store := newKeptStore()
	c := keptConfig(t, 5000)
	l := live(store, 1, start, wallStart, c)
	l.run(2 * second)
	for n := range 10_000 {
		l.admits(0, "user", fmt.Sprint("user ", n), 5)
	}
	l.run(10 * second)
	without := *c
	without.Persist = nil
	for shift := int64(0); shift < second; shift += 170 * millisecond {
		store.fault = func(*engine.StoreAsk) (int, string, error) { return 500, "", nil }
		l = live(store, 1, start+12*second+shift, wallStart+12*second, &without) // which aggregates, and so rests less
		l.join(c)
		l.join(c)
		next := make([]int64, 3)
		l.restFor(60*second, next)
		if l.workers[1].Period(true, l.Now()) <= 400 {
			t.Fatal("nobody is at rest")
		}
		store.fault = func(*engine.StoreAsk) (int, string, error) { return 0, "", nil }
		for got := store.got; store.got == got; {
			l.restFor(10*millisecond, next)
		}
		began := l.Now()
		for !l.workers[1].Restored() {
			l.restFor(10*millisecond, next)
		}
		if took := l.Now() - began; took > 6*second { // 256 in each 0.1 s
			t.Errorf("a document of 10,000 values is taken over in %d ms", took/millisecond)
		}
		l.restFor(10*second, next)
		oldest := int64(0)
		for n := range 300 { // something changes all the time
			l.admits(1, "user", fmt.Sprint("another ", n), 1)
			if l.restFor(100*millisecond, next); n > 100 {
				oldest = max(oldest, l.Now()-store.kept)
			}
		}
		if oldest > 6*second+200*millisecond {
			t.Errorf("a process at rest that dies loses what it has admitted in %d ms", oldest/millisecond)
		}
	}
}

// An update of the filters, more workers and the owner's death do not take a document over again.
func TestDocumentIsTakenOverOnce(t *testing.T) {
	store := newKeptStore()
	c := keptConfig(t, 1000)
	l := live(store, 2, start, wallStart+10*second, c)
	l.run(2 * second)
	l.admits(0, "exact", "", 10)
	l.admits(0, "user", "bob", 5)
	l.run(5 * second)
	l = live(store, 2, start+8*second, wallStart+18*second, c)
	l.run(2 * second)
	got := store.got
	for _, wk := range l.workers {
		wk.update(keptConfig(t, 2000))
	}
	l.run(2 * second)
	l.join(c)
	l.workers[0].gone, l.workers[1].gone = true, true
	l.run(10 * second)
	if store.got != got || got != 1 {
		t.Errorf("the document was read %d times", store.got)
	}
	if a, b := l.admits(2, "exact", "", 100), l.admits(2, "user", "bob", 100); a != 20 || b != 10 {
		t.Errorf("%d and %d are admitted, want 20 and 10", a, b)
	}
}

// Whoever takes a document over dies in the middle: another goes on where it was, and nothing is taken over twice.
func TestOwnerDiesInTheMiddle(t *testing.T) {
	store := newKeptStore()
	c := keptConfig(t, 1000)
	l := live(store, 1, start, wallStart, c)
	l.run(2 * second)
	const users = 1500
	for n := range users {
		l.admits(0, "user", fmt.Sprint("user ", n), 5)
	}
	l.run(5 * second)
	l = live(store, 2, start+8*second, wallStart+8*second, c)
	died := false
	for range 1000 {
		l.run(tick)
		for _, wk := range l.workers {
			if done, of := wk.Restoring(); !died && done > 300 && done < of-300 {
				wk.gone, died = true, true
			}
		}
	}
	live := 0
	if l.workers[0].gone {
		live = 1
	}
	got := 0
	for n := range users {
		got += l.admits(live, "user", fmt.Sprint("user ", n), 20)
	}
	if !died || !l.workers[live].Restored() || got != users*10 {
		t.Errorf("%d are admitted, want %d; died %v, restored %v", got, users*10, died, l.workers[live].Restored())
	}
}

// A document has no more than its size: the values that have had most stay, and it is said how many do not.
func TestDocumentIsBounded(t *testing.T) {
	store := newKeptStore()
	l := live(store, 1, start, wallStart, keptConfig(t, 1000))
	l.run(2 * second)
	const users = 40_000
	for n := range users {
		l.admits(0, "user", fmt.Sprint("user ", n), 1+n%2*4)
	}
	l.run(5 * second)
	dropped, _ := l.Metric("sentinel_persist_dropped")
	d, err := persist.Decode([]byte(store.text))
	if err != nil || len(store.text) > persist.MaxSize || len(d.Entries)+int(dropped) < users*9/10 || len(d.Entries) < 25_000 {
		t.Fatalf("%d bytes, %d dropped, %v", len(store.text), dropped, err)
	}
	l = live(store, 1, start, wallStart+8*second, keptConfig(t, 1000))
	l.run(10 * second)
	again := 0
	for n := 1; n < users; n += 2 {
		if l.admits(0, "user", fmt.Sprint("user ", n), 20) > 10 {
			again++
		}
	}
	if again > users/2/50 { // some found their page full
		t.Errorf("of %d values that have had most %d have it again", users/2, again)
	}
}

// A server that does not take documents is asked less and less often, which is said and counted, and then has the newest.
func TestStoreDoesNotTakeDocuments(t *testing.T) {
	store := newKeptStore()
	l := live(store, 2, start, wallStart, keptConfig(t, 1000))
	l.run(3 * second)
	asked := 0
	store.fault = func(*engine.StoreAsk) (int, string, error) { asked++; return 412, "", nil }
	l.admits(0, "exact", "", 7)
	l.run(60 * second)
	if asked < 4 || asked > 12 || !l.logged("error 1 on end: status 412; what is counted meanwhile ends with the process") {
		t.Errorf("asked %d times", asked)
	}
	if n, _ := l.Metric("sentinel_persist_failures"); n != uint64(asked) {
		t.Errorf("%d failures, want %d", n, asked)
	}
	if age, _ := l.Metric("sentinel_persist_age_seconds"); age < 55 {
		t.Errorf("an age of %d s", age)
	}
	store.fault = func(*engine.StoreAsk) (int, string, error) { return 0, "", nil }
	l.run(40 * second)
	if age, _ := l.Metric("sentinel_persist_age_seconds"); age > 2 || !l.logged("writes again, after ") {
		t.Errorf("an age of %d s", age)
	}
}

// What has not changed is not written again and again.
func TestUnchangedIsNotWritten(t *testing.T) {
	store := newKeptStore()
	l := live(store, 2, start, wallStart, keptConfig(t, 1000))
	l.run(5 * second)
	for _, resource := range []string{"hour", "fixed", "exact"} {
		l.admits(0, resource, "", 7)
	}
	l.run(5 * second)
	puts := store.puts
	l.run(30 * second)
	if store.puts > puts+1 || puts > 4 || puts < 2 {
		t.Errorf("written %d times, and then %d times though nothing has changed", puts, store.puts-puts)
	}
	store.text, store.there = "", false // somebody has lost it
	if l.run(65 * second); !store.there {
		t.Error("it is not written anew")
	}
}

// keptEvent is an admission by the true clock.
type keptEvent struct {
	at  int64
	of  int  // keptResources
	out bool // it may be lost, or was before the document had come
}

// keptMachine is a machine whose process is killed and started again and again.
type keptMachine struct {
	t      *testing.T
	store  *keptStore
	now    int64 // the true clock
	events []keptEvent
	lives  []lifetime
}

// lifetime is when a process started, by the true clock, and when the last of its snapshots was begun that is kept or, of the
// last process, when it ended. base is its monotonic clock's time at the true time 0, by which its windows lie.
type lifetime struct{ start, kept, base int64 }

// run lets a process live for d nanoseconds, whose monotonic clock begins at base, and whose wall clock is wrong by drift.
func (m *keptMachine) run(seed uint64, base, drift, d int64) {
	sim := memhost.NewSim(seed, base)
	defer sim.Close()
	sim.SetWall(wallStart + m.now + drift)
	c := keptConfig(m.t, 1000+sim.Rand.IntN(4000))
	began, first := m.now, len(m.events)
	restoredAt := int64(-1)
	truth := func() int64 { return began + sim.Now() - base }
	if m.store.there {
		m.store.fault = func(*engine.StoreAsk) (int, string, error) {
			switch sim.Rand.IntN(12) {
			case 0:
				return 500, "", nil
			case 1:
				return 0, "", errors.New("no answer")
			}
			return 0, "", nil
		}
	}
	m.store.delay = func() int64 { return sim.Rand.Int64N(300 * millisecond) }
	for range 1 + sim.Rand.IntN(3) {
		sim.Go(func(task *memhost.Task) { m.work(sim, task, c, truth, &restoredAt) })
	}
	for sim.Now() < base+d && sim.Step() {
		m.store.pass(truth())
		if live := sim.Live(); len(live) > 1 && sim.Rand.IntN(200_000) == 0 {
			sim.Kill(live[sim.Rand.IntN(len(live))])
		}
	}
	m.now = truth()
	for i := first; i < len(m.events); i++ {
		e := &m.events[i]
		e.out = e.at >= m.store.kept || restoredAt < 0 || e.at < restoredAt+second
	}
	m.lives = append(m.lives, lifetime{began, m.store.kept, base - began})
	m.store.calls = nil
}

// work is one worker.
func (m *keptMachine) work(sim *memhost.Sim, task *memhost.Task, c *config.Config, truth func() int64, restoredAt *int64) {
	vm := engine.New(task.Worker, "test")
	f := vm.NewFilter("sentinel_http", c, nil)
	for {
		now := task.Now()
		vm.Tick(now)
		m.store.deliver(vm, now)
		vm.AskStore(now, func(a *engine.StoreAsk) error {
			m.store.send(vm, a, truth(), truth()-sim.Now()+vm.SnapshotBegun())
			return nil
		})
		if vm.Restored() && *restoredAt < 0 {
			*restoredAt = truth()
		}
		if sim.Rand.IntN(4) == 0 {
			for range sim.Rand.IntN(4) {
				m.enter(sim, task, f, truth)
			}
		}
		task.Sleep(now + 20*millisecond + sim.Rand.Int64N(180*millisecond))
	}
}

func (m *keptMachine) enter(sim *memhost.Sim, task *memhost.Task, f *engine.Filter, truth func() int64) {
	of := sim.Rand.IntN(len(keptResources))
	r := keptResources[of]
	f.Stream.Of(&requesttest.Client{Headers: map[string]string{"x-user": r.user}, Asked: map[string]int{}})
	var e engine.Entry
	at := task.Now()
	if f.Enter("/"+r.resource, at, &e) != nil {
		return
	}
	if r.user == "" {
		at = e.DecidedAt()[0]
	}
	m.events = append(m.events, keptEvent{at: truth() - sim.Now() + at, of: of})
	e.Finish(at, false)
}

// see wants no more of a resource between two times than it may have, and what was lost.
func (m *keptMachine) see(of int, from, to, most int64) {
	m.t.Helper()
	var all, out int64
	for _, e := range m.events {
		if e.of == of && e.at >= from && e.at < to {
			if all++; e.out {
				out++
			}
		}
	}
	if all > most+out {
		m.t.Errorf("%v admits %d in %d ms from %d ms on, of which %d may be lost: the most are %d",
			keptResources[of], all, (to-from)/millisecond, from/millisecond, out, most)
	}
}

// TestCrashes kills processes at random times, starts others whose monotonic clocks go on or begin anew, and judges all rules'
// windows over all of them.
func TestCrashes(t *testing.T) {
	seeds.Try(t, 20, func(t *testing.T, seed uint64) {
		m := &keptMachine{t: t, store: newKeptStore()}
		sim := memhost.NewSim(seed, 1)
		base := start + sim.Rand.Int64N(100*second)
		for life := range 4 {
			d := 5*second + sim.Rand.Int64N(60*second)
			m.run(seed+uint64(life), base, sim.Rand.Int64N(600*millisecond), d)
			down := sim.Rand.Int64N(10 * second)
			m.now += down
			if base += d + down; sim.Rand.IntN(2) == 0 {
				base = second + sim.Rand.Int64N(500_000*second)
			}
		}
		m.judge()
	})
}

func (m *keptMachine) judge() {
	const fixed, exact = 70 * second, 65 * second
	m.lives[len(m.lives)-1].kept = m.now
	for n, life := range m.lives {
		first := (life.start + life.base) / fixed
		if n > 0 {
			first++ // the one in which it has started is the process's before
		}
		for bucket := first; bucket*fixed-life.base < life.kept; bucket++ {
			from, to := bucket*fixed-life.base, (bucket+1)*fixed-life.base
			// One in which the last snapshot has counted nothing ends with its process.
			if slices.ContainsFunc(m.events, func(e keptEvent) bool {
				return e.of == 0 && !e.out && e.at >= max(from, life.start) && e.at < min(to, life.kept)
			}) {
				m.see(0, from, to, 40)
			}
		}
	}
	for _, e := range m.events {
		switch e.of {
		case 1:
			m.see(1, e.at, e.at+exact, 30)
		case 2:
			m.see(2, e.at, e.at+45*second, 30+15)
		}
	}
	m.see(3, 0, m.now+1, 60)
	m.see(4, 0, m.now+1, 15)
	m.see(5, 0, m.now+1, 15)
}

// FuzzKeptCounts restores documents of which each entry is ours in its form, whatever it says: no panic, no fault, and no window
// is full for longer than it lasts.
func FuzzKeptCounts(f *testing.F) {
	store := newKeptStore()
	c, err := config.Parse(fmt.Appendf(nil, keptRules, 1000), config.KindHTTP)
	if err != nil {
		f.Fatal(err)
	}
	l := live(store, 1, start, wallStart, c)
	l.run(2 * second)
	for _, r := range keptResources {
		l.admits(0, r.resource, r.user, 10)
	}
	l.run(3 * second)
	d, err := persist.Decode([]byte(store.text))
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range d.Entries {
		f.Add(byte(e.Kind), e.Data, []byte{}, int64(0), d.Now)
		f.Add(byte(persist.Value), e.Data, d.Entries[0].Data, int64(-1), int64(1)<<60)
	}
	f.Fuzz(func(t *testing.T, kind byte, data, more []byte, age, now int64) {
		var s persist.Snapshot
		s.Add(persist.Kind(kind%7), persist.Always, data)
		s.Add(persist.FixedWindow, persist.Always, more)
		store := newKeptStore()
		store.text, store.there = string(s.Encode(now, wallStart-age)), true
		l := live(store, 1, start, wallStart, c)
		l.run(200 * millisecond)
		l.admits(0, "user", "alice", 1)
		l.Advance(72 * second)
		l.run(100 * millisecond)
		if a, b := l.admits(0, "fixed", "", 100), l.admits(0, "exact", "", 100); a != 40 || b != 30 {
			t.Errorf("%d and %d are admitted a window later, want 40 and 30", a, b)
		}
		if n := l.workers[0].Faults(); n > 0 {
			t.Errorf("%d faults: %q", n, l.workers[0].host.Lines())
		}
	})
}
