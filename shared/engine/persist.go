package engine

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/persist"
	"sentinel-envoy/shared/publication"
	"sentinel-envoy/shared/record"
	protocol "sentinel-envoy/shared/source"
)

const (
	// restoredPerTick is how many entries of a document one tick takes over. Whoever dies in between takes no more with it.
	restoredPerTick = 256
	// readEvery is how often a document is asked for that does not come, in nanoseconds, at first.
	readEvery = 1e9
	// longestRead is how long reading all records for a document takes, in nanoseconds, where the interval leaves time.
	longestRead = 1e9
	// writeAnew is after how long a document is written that has not changed, in nanoseconds: somebody may have lost it.
	writeAnew = 60e9
	// wallMoves is by how much the wall clock must have been set for that, in nanoseconds.
	wallMoves = 1e9
)

// storeID is where all workers see who keeps the process's counts, and how far that has come. Its mark is "" until there
// was an answer, restoring and a place in the document while that is taken over, and from then on restored and where it may
// be written.
var storeID = record.IDOf("persist")

const restored, restoring = "restored ", "restoring "

// store is a worker's part in keeping counts for the next process. Of all workers one, the store's owner, reads the document
// of the process before, once, and then writes its own; see publication.Board.
type store struct {
	vm    *VM
	env   *family.Env
	board *publication.Board
	// config is what holds, nil where no filter has any. warned is whether it was said that another filter has another.
	config *config.Persist
	warned bool
	// restored is whether the document of the process before was taken over, as far as this worker knows.
	restored bool
	// asking is what this worker has asked and has no answer to, deadline when it will have none, in nanoseconds.
	asking   *StoreAsk
	deadline int64
	coming
	writing
	// said is the last error that was written to the log, "" once there was a good answer.
	said     string
	failures metrics.Counter
}

// coming is a document that is taken over.
type coming struct {
	document *persist.Document
	shift    persist.Shift
	next     int // entry
	// mark is what all know of it, and from is the mark with which the place may be written that it is from.
	mark, from string
}

// writing is a document that is written. parts are those of total that are yet to be read since the time begun.
type writing struct {
	snapshot *persist.Snapshot
	parts    []family.Part
	total    int
	begun    int64
	// hash, offset and at are of what the server has, where known: the wall clock's, and when it was written.
	hash       uint64
	offset, at int64
	known      bool
}

// StoreAsk is a request to the server that keeps counts.
type StoreAsk struct {
	*config.Persist
	Method, Body string
	hash         uint64
	offset       int64
}

func newStore(vm *VM) *store {
	return &store{vm: vm, env: vm.env, board: vm.sources.board, failures: metrics.Counter{Name: "sentinel_persist_failures"}}
}

// AskStore does what is due for the counts of the next process, in each tick at the time now in nanoseconds, and calls ask
// with what is to be sent. The answer goes to StoreAnswered.
func (vm *VM) AskStore(now int64, ask func(a *StoreAsk) error) {
	st := vm.store
	if !st.configured() {
		return
	}
	a, err := st.work(now)
	vm.env.Check("keeping counts", err)
	if a == nil {
		return
	}
	st.asking, st.deadline = a, now+int64(a.TimeoutMs)*1e6+spareAnswer
	if err := ask(a); err != nil {
		vm.StoreAnswered(a, protocol.Response{}, err, now)
	}
}

// configured is whether counts are to be kept. Where filters differ in where, the oldest's word counts, but not that of one
// that an update has replaced: it goes on for as long as its listener drains.
func (st *store) configured() bool {
	var found *config.Persist
	for i, f := range st.vm.filters {
		switch p := f.cfg.Persist; {
		case p == nil || f.draining || f.Parked() || replaced(f, st.vm.filters[i+1:]):
		case found == nil:
			found = p
		case *p != *found && !st.warned:
			st.warned = true
			st.env.Host.Log(host.Warn, "persist: "+title(found)+" holds for the process, and not also "+
				differing(p, found)+" of "+f.title())
		}
	}
	if found == nil {
		st.config, st.writing, st.document = nil, writing{}, nil
		return false
	}
	if st.config == nil || *st.config != *found {
		if st.config != nil {
			st.env.Host.Log(host.Info, "persist: "+differing(found, st.config)+" holds from now on")
		}
		st.config, st.writing = found, writing{}
	}
	return true
}

// replaced is whether one of the filters that have started later has the name of f.
func replaced(f *Filter, later []*Filter) bool {
	return slices.ContainsFunc(later, func(g *Filter) bool {
		return g.Name == f.Name && g.called == f.called && !g.draining
	})
}

func title(p *config.Persist) string { return p.Cluster + p.Path }

// differing says of what does not hold where it is another than what does.
func differing(p, holds *config.Persist) string {
	switch {
	case title(p) != title(holds):
		return title(p)
	case p.Authority != holds.Authority:
		return "authority " + strconv.Quote(p.Authority)
	case p.IntervalMs != holds.IntervalMs:
		return "interval_ms " + strconv.Itoa(int(p.IntervalMs))
	}
	return "timeout_ms " + strconv.Itoa(int(p.TimeoutMs))
}

// mayWrite is the mark with which the document may be written where it is now to be.
func (st *store) mayWrite() string {
	return restored + strconv.FormatUint(publication.Hash([]byte(st.config.Authority+"\n"+title(st.config))), 16)
}

func (st *store) interval() int64 { return int64(st.config.IntervalMs) * 1e6 }

// work does what is due, and returns what is to be asked, nil where nothing is.
func (st *store) work(now int64) (*StoreAsk, error) {
	if err := st.look(now); err != nil {
		return nil, err
	}
	e, err := st.own(now)
	if e == nil || err != nil {
		st.snapshot, st.document = nil, nil // another may have it
		return nil, err
	}
	switch {
	case st.asking != nil && now > st.deadline:
		st.asking = nil
		return nil, st.failed(errors.New("no answer"), now)
	case st.asking != nil:
		return nil, nil
	case st.document != nil && !st.restored:
		return nil, st.restore(now)
	case e.Mark != st.mayWrite() && now >= e.Next:
		return &StoreAsk{Persist: st.config, Method: "GET"}, nil
	case e.Mark != st.mayWrite():
		return nil, nil
	}
	return st.write(e, now)
}

// look sees how far the store is, and takes over what must be the same in all workers meanwhile.
func (st *store) look(now int64) error {
	if err := st.board.Tick(now); err != nil || st.restored {
		return err
	}
	e := st.board.Entry(storeID)
	st.restored = e != nil && strings.HasPrefix(e.Mark, restored)
	return st.keepers(func(k family.Keeper) error { return k.Refresh(now) })
}

func (st *store) keepers(f func(k family.Keeper) error) (err error) {
	for _, k := range st.vm.kinds {
		if keeper, ok := k.(family.Keeper); ok {
			err = errors.Join(err, f(keeper))
		}
	}
	return err
}

// own returns what all know of the store, if it is this worker's; nil else.
func (st *store) own(now int64) (*publication.Entry, error) {
	me, held := st.env.Worker.Identity()
	if !held {
		return nil, nil
	}
	e := st.board.Entry(storeID)
	switch {
	case st.board.Owns(storeID, me):
	case e != nil && !e.Free(now):
		return nil, nil
	default:
		if mine, err := st.board.Claim(storeID, me, now); !mine || err != nil {
			return nil, err
		}
		st.writing, st.document = writing{}, nil
		return nil, nil // how far it is, is seen in the next tick
	}
	if lost := st.restored && !strings.HasPrefix(e.Mark, restored); lost || now-e.Beat >= beatEvery {
		mine, err := st.change(now, func(e *publication.Entry, _ int64) {
			if lost { // it must not be taken over again
				e.Mark = restored
			}
		})
		if !mine || err != nil {
			return nil, err
		}
	}
	return st.board.Entry(storeID), nil
}

func (st *store) change(now int64, f func(e *publication.Entry, now int64)) (mine bool, err error) {
	me, held := st.env.Worker.Identity()
	if !held {
		return false, nil
	}
	return st.board.Change(storeID, me, now, f)
}

// StoreAnswered says what the server has answered, or why it has not.
func (vm *VM) StoreAnswered(a *StoreAsk, r protocol.Response, failed error, now int64) {
	st := vm.store
	if st.asking != a {
		return // given up
	}
	if st.asking = nil; st.config == nil || *a.Persist != *st.config {
		return // an update has another place: this says nothing of that
	}
	var err error
	switch {
	case failed != nil:
		err = st.failed(failed, now)
	case a.Method == "GET":
		err = st.read(&r, now)
	case r.Status >= 200 && r.Status < 300:
		st.known, st.hash, st.offset, st.at = true, a.hash, a.offset, now
		err = st.written(now)
	default:
		err = st.failed(errors.New("status "+strconv.Itoa(r.Status)), now)
	}
	vm.env.Check("keeping counts", err)
}

// read takes the answer to the question what the process before has left. A document of ours that cannot be used counts as
// none; what is not ours is never written over.
func (st *store) read(r *protocol.Response, now int64) error {
	switch {
	case r.Status == 404 || r.Status == 204 || r.Status == 200 && len(r.Body) == 0:
		return st.ready("nothing is kept yet", now)
	case r.Status != 200:
		return st.failed(errors.New("status "+strconv.Itoa(r.Status)), now)
	}
	d, err := st.decode(r.Body)
	if errors.Is(err, persist.ErrForeign) {
		return st.failed(err, now)
	}
	if st.restored { // nothing more is taken over, wherever it is from
		return st.ready("is written from now on", now)
	}
	if err != nil {
		st.failures.N++
		return st.ready("begins anew: "+err.Error(), now)
	}
	e := st.board.Entry(storeID)
	if e == nil {
		return nil // lost; the next tick begins anew
	}
	next := 0
	if progress, any := strings.CutPrefix(e.Mark, restoring); any {
		if next = placeIn(progress, d); next < 0 {
			return st.ready("the document has changed while it was taken over", now)
		}
	}
	read := st.env.Host.Now()
	st.coming = coming{
		document: d, shift: persist.ShiftOf(d, read, st.env.Host.Wall()), next: next, mark: e.Mark, from: st.mayWrite(),
	}
	return nil
}

// decode reads a document, each of whose entries makes sense.
func (st *store) decode(text []byte) (*persist.Document, error) {
	d, err := persist.Decode(slices.Clone(text)) // the host's memory
	if err != nil {
		return nil, err
	}
	for _, e := range d.Entries {
		if k, sound := st.keeperOf(e); k == nil || !sound {
			return nil, errors.New("a document of counts that makes no sense")
		}
	}
	return d, nil
}

// keeperOf is whose an entry is, and whether it makes sense.
func (st *store) keeperOf(e persist.Entry) (family.Keeper, bool) {
	for _, k := range st.vm.kinds {
		if keeper, ok := k.(family.Keeper); ok {
			if mine, sound := keeper.Sound(e); mine {
				return keeper, sound
			}
		}
	}
	return nil, false
}

// placeIn is the entry with which another worker would have gone on, −1 where that was in another document.
func placeIn(progress string, d *persist.Document) int {
	hash, place, _ := strings.Cut(progress, " ")
	next, err := strconv.Atoi(place)
	if err != nil || next < 0 || hash != strconv.FormatUint(d.Hash, 16) {
		return -1
	}
	return next
}

// restore takes over some entries. All workers see before that they are: nobody takes them over again.
func (st *store) restore(now int64) error {
	d := st.document
	from, to := min(st.next, len(d.Entries)), min(st.next+restoredPerTick, len(d.Entries))
	if from == to {
		age := (st.shift.Wall - d.Wall) / 1e9
		what := "took over " + strconv.Itoa(len(d.Entries)) + " counts of " + strconv.FormatInt(age, 10) + " s ago"
		return st.readyAt(st.from, what, now)
	}
	progress := restoring + strconv.FormatUint(d.Hash, 16) + " " + strconv.Itoa(to)
	ours := false
	_, err := st.change(now, func(e *publication.Entry, _ int64) {
		if ours = e.Mark == st.mark; ours {
			e.Mark = progress
		}
	})
	if !ours || err != nil {
		st.document = nil // another has gone on meanwhile; or has it
		return err
	}
	st.next, st.mark = to, progress
	for _, e := range d.Entries[from:to] {
		k, _ := st.keeperOf(e)
		err = errors.Join(err, k.Restore(e, &st.shift, now))
	}
	return err
}

// ready says that from now on this process's counts are to be written.
func (st *store) ready(what string, now int64) error { return st.readyAt(st.mayWrite(), what, now) }

// readyAt is ready for the place of that mark. Where an update has another meanwhile, that is asked for next.
func (st *store) readyAt(mark, what string, now int64) error {
	st.document, st.said = nil, ""
	mine, err := st.change(now, func(e *publication.Entry, now int64) {
		if e.Mark, e.Failures, e.Next = mark, 0, now+st.interval(); mark != st.mayWrite() {
			e.Next = now
		}
		e.Answered(now)
	})
	if mine {
		st.restored = true
		st.env.Host.Log(host.Info, "persist "+title(st.config)+": "+what)
	}
	return err
}

// write reads some of the records and, once it has read all, returns what is to be written.
func (st *store) write(e *publication.Entry, now int64) (*StoreAsk, error) {
	if st.snapshot == nil {
		if now < e.Next {
			return nil, nil
		}
		st.snapshot, st.parts, st.begun = &persist.Snapshot{}, nil, now
		err := st.keepers(func(k family.Keeper) error {
			k.Parts(func(p family.Part) { st.parts = append(st.parts, p) })
			return nil
		})
		if st.total = len(st.parts); err != nil {
			return nil, err
		}
	}
	span := min(longestRead, st.interval()/4)
	left := st.total - int(int64(st.total)*min(now-st.begun+max(int64(st.vm.period), TickMs)*1e6, span)/span)
	for ; len(st.parts) > left; st.parts = st.parts[1:] {
		if err := st.parts[0].Keep(st.snapshot, now); err != nil {
			st.snapshot, st.parts = nil, nil // an incomplete document must not take a complete one's place
			return nil, st.failed(err, now)
		}
	}
	if len(st.parts) > 0 {
		return nil, nil
	}
	return st.finish(now)
}

// finish returns the document to be written, nil where the server has it already.
func (st *store) finish(now int64) (*StoreAsk, error) {
	s := st.snapshot
	st.snapshot, st.parts = nil, nil
	a := &StoreAsk{Persist: st.config, Method: "PUT", hash: s.Hash()}
	read, wall := st.env.Host.Now(), st.env.Host.Wall()
	a.offset = wall - read
	st.env.Metrics.Gauge("sentinel_persist_dropped", uint64(s.Dropped()), now)
	moved := a.offset - st.offset
	same := st.known && a.hash == st.hash && moved < wallMoves && moved > -wallMoves
	if same && (s.Empty() || now-st.at < writeAnew) {
		return nil, st.written(now)
	}
	a.Body = string(s.Encode(read, wall))
	return a, nil
}

// written notes that the server has what was counted when this snapshot was begun.
func (st *store) written(now int64) error {
	recovered, begun := 0, st.begun
	mine, err := st.change(now, func(e *publication.Entry, now int64) {
		recovered = e.Failures
		e.Failures, e.Good = 0, begun
		e.Next = begun + st.interval()
	})
	if st.said = ""; mine && recovered > 0 {
		st.env.Host.Log(host.Info, "persist "+title(st.config)+": writes again, after "+strconv.Itoa(recovered)+" errors")
	}
	return err
}

// failed counts what has not come about. It logs an error that is another than before, and else the 8th, 16th, 32nd … on end.
func (st *store) failed(why error, now int64) error {
	st.failures.N++
	failures, wait := 0, st.interval()
	if e := st.board.Entry(storeID); e != nil && e.Mark != st.mayWrite() {
		wait = readEvery
	}
	mine, err := st.change(now, func(e *publication.Entry, now int64) {
		e.Failures++
		failures = e.Failures
		e.Next = e.After(now, wait)
	})
	if mine && isNews(why, st.said, failures) {
		st.said = why.Error()
		st.env.Host.Log(host.Warn, "persist "+title(st.config)+": error "+strconv.Itoa(failures)+" on end: "+why.Error()+
			"; what is counted meanwhile ends with the process")
	}
	return err
}

// export shows how old what is kept is: the age of the last snapshot that the server has or, before it has one, of the store.
func (st *store) export(now int64) {
	if st.config == nil {
		return
	}
	m := st.env.Metrics
	m.Define(&st.failures, now)
	m.Export(&st.failures, now)
	me, held := st.env.Worker.Identity()
	if e := st.board.Entry(storeID); held && st.board.Owns(storeID, me) {
		m.Gauge("sentinel_persist_age_seconds", uint64(max(now-max(e.Good, e.Since), 0)/1e9), now)
		m.Gauge("sentinel_persist_unread", bit(e.Mark != st.mayWrite()), now)
	}
}

// period is when the VM must tick next at rest to keep counts, in milliseconds: only the owner has something to do. A document
// is taken over without a pause, by as many ticks as it needs, and a snapshot begins when it is due.
func (st *store) period(most uint32, now int64) uint32 {
	me, _ := st.env.Worker.Identity()
	if st.config == nil || !st.board.Owns(storeID, me) {
		return most
	}
	if st.document != nil {
		return TickMs
	}
	most = min(most, st.config.IntervalMs/4)
	if e := st.board.Entry(storeID); e.Next > now {
		most = uint32(min(int64(most), (e.Next-now)/1e6+1))
	}
	return max(most, TickMs)
}
