package stat

import "slices"

const (
	// WorkerTTL is how long after its last report a worker's entries in flight are counted, in nanoseconds. A worker that
	// has any reports at least every ReportEvery. What a report and the snapshot wait for ticks makes it two seconds.
	WorkerTTL = 1900e6
	// ReportEvery is the longest time between two reports of a worker that has entries in flight, in nanoseconds.
	ReportEvery = 500e6
	// maxWindows bounds what messages can make an aggregator keep; it is more than a configuration can name.
	maxWindows = 1 << 16
	// maxName is the longest name of a resource, in bytes.
	maxName = 256
	// maxWorkers is more than there are slots for workers.
	maxWorkers = 1 << 10
	// windowsPerTick bounds the work of one publication: reading a window costs some microseconds. Where more resources
	// are active their pages take turns.
	windowsPerTick = 64
	// showEvery is how often one resource's rates are shown, in nanoseconds.
	showEvery = 200e6
	// idleBuckets is how long a window without traffic is kept.
	idleBuckets = 120
)

// Aggregator merges the reports of all workers into process-wide windows. It is not safe for concurrent use.
type Aggregator struct {
	windows map[uint64]*window
	byPage  [Pages][]*window
	workers map[uint16]*worker
	turn    int
	buf     []byte
	// expired is the bucket in which windows were last looked through for what nobody uses.
	expired int64
	// Dropped counts resources that were beyond the bounds.
	Dropped uint64
}

type worker struct {
	epoch uint64
	seen  int64
	parts map[uint64]*part
}

// part is what one worker has reported of one resource.
type part struct {
	window            *window
	inFlight          int64
	current, previous Bucket
}

// NewAggregator returns an aggregator that has heard of nothing.
func NewAggregator() *Aggregator {
	return &Aggregator{windows: map[uint64]*window{}, workers: map[uint16]*worker{}}
}

// Receive merges one report at the time now, in nanoseconds. It fails with ErrMalformed, having merged what came before
// the fault. A report that was merged before, or of an earlier epoch of its slot, changes nothing.
func (a *Aggregator) Receive(message []byte, now int64) error {
	r, err := open(message, reportVersion)
	if err != nil {
		return err
	}
	slot, epoch, n := r.uvarint(), r.uint64(), r.uvarint()
	if r.bad || slot >= maxWorkers {
		return ErrMalformed
	}
	w := a.worker(uint16(slot), epoch, now)
	for range min(n, maxPerReport) {
		hash, name, inFlight := r.uint64(), r.bytes(r.uvarint()), r.uvarint()
		current, previous := r.bucket(), r.bucket()
		if r.bad {
			return ErrMalformed
		}
		if w != nil {
			a.merge(w, hash, int64(min(inFlight, 1<<31)), &current, &previous, now)
		}
		if win := a.windows[hash]; win != nil && win.name == "" && len(name) <= maxName {
			win.name = string(name)
		}
	}
	return nil
}

// worker returns the worker of a slot in an epoch, or nil for one that has been succeeded.
func (a *Aggregator) worker(slot uint16, epoch uint64, now int64) *worker {
	w := a.workers[slot]
	switch {
	case w != nil && epoch < w.epoch:
		return nil
	case w == nil || epoch > w.epoch:
		a.forget(w)
		w = &worker{epoch: epoch, parts: map[uint64]*part{}}
		a.workers[slot] = w
	}
	w.seen = now
	return w
}

// forget takes a worker's entries in flight out of the windows.
func (a *Aggregator) forget(w *worker) {
	if w == nil {
		return
	}
	for _, p := range w.parts {
		p.window.inFlight -= p.inFlight
	}
}

func (a *Aggregator) merge(w *worker, hash uint64, inFlight int64, current, previous *Bucket, now int64) {
	p := w.parts[hash]
	if p == nil {
		win := a.window(hash, now)
		if win == nil {
			return
		}
		p = &part{window: win, current: Bucket{MinRT: NoRT}, previous: Bucket{MinRT: NoRT}}
		w.parts[hash] = p
	}
	if current.Number > BucketOf(now)+1 || previous.Number > current.Number {
		return // from no clock of this process
	}
	if current.Number < p.current.Number || current.Number == p.current.Number && current.events() < p.current.events() {
		return // older than what is known
	}
	p.window.inFlight += inFlight - p.inFlight
	p.inFlight = inFlight
	p.window.add(previous, p.known(previous.Number))
	p.window.add(current, p.known(current.Number))
	p.current, p.previous = *current, *previous
}

// window returns the window of a resource, or nil where there are too many.
func (a *Aggregator) window(hash uint64, now int64) *window {
	win := a.windows[hash]
	if win != nil {
		return win
	}
	if len(a.windows) >= maxWindows {
		a.Dropped++
		return nil
	}
	win = newWindow(hash, BucketOf(now))
	a.windows[hash] = win
	a.byPage[PageOf(hash)] = append(a.byPage[PageOf(hash)], win)
	return win
}

// Adopt takes over a page that an earlier aggregator has published: what no worker reports any more must be published
// once more, as nothing. A page that cannot be read is passed over.
func (a *Aggregator) Adopt(page []byte, now int64) {
	_, _ = DecodePage(page, func(hash uint64, _ Rates) {
		if win := a.window(hash, now); win != nil {
			win.published = true
		}
	})
}

var nothing = Bucket{MinRT: NoRT}

// known is what the worker has reported of a bucket before.
func (p *part) known(number int64) *Bucket {
	switch number {
	case p.current.Number:
		return &p.current
	case p.previous.Number:
		return &p.previous
	}
	return &nothing
}

// Expire forgets workers that have been silent for WorkerTTL, and windows that nobody uses any more. A worker is silent also
// when it has nothing to report.
func (a *Aggregator) Expire(now int64) {
	for slot, w := range a.workers {
		if now-w.seen > WorkerTTL {
			a.forget(w)
			delete(a.workers, slot)
		}
	}
	if a.expired == BucketOf(now) {
		return
	}
	a.expired = BucketOf(now)
	oldest := a.expired - idleBuckets
	for hash, w := range a.windows {
		if w.newest >= oldest || w.inFlight != 0 || w.published {
			continue
		}
		delete(a.windows, hash)
		for _, other := range a.workers {
			delete(other.parts, hash)
		}
		a.byPage[PageOf(hash)] = slices.DeleteFunc(a.byPage[PageOf(hash)], func(x *window) bool { return x == w })
	}
}

// Publish calls put with each page of the snapshot that has something to say, or just ceased to, and each with every
// resource of it, that with one resource at most every 200 ms; its name is empty as long as no worker has told it. Pages
// take turns where the resources are many. page is valid only during the call; where put reports that it failed, the page
// comes again.
func (a *Aggregator) Publish(h PageHeader, each func(hash uint64, name string, r Rates), put func(page int, content []byte) bool) {
	budget := windowsPerTick
	for range Pages {
		if budget <= 0 {
			return
		}
		a.turn = (a.turn + 1) % Pages
		budget -= len(a.byPage[a.turn])
		a.publishPage(a.turn, h, each, put)
	}
}

func (a *Aggregator) publishPage(page int, h PageHeader, each func(uint64, string, Rates), put func(int, []byte) bool) {
	a.buf = appendPageHeader(a.buf[:0], h)
	due := false
	for _, w := range a.byPage[page] {
		if w.silent(h.At) {
			continue
		}
		r := w.read(h.At)
		if r.Idle() && !w.published {
			continue
		}
		due = true
		w.published = !r.Idle()
		a.buf = appendRates(a.buf, w.hash, r)
		if h.At-w.shown >= showEvery || r.Idle() {
			w.shown = h.At
			each(w.hash, w.name, r)
		}
	}
	if !due {
		return
	}
	sealPage(a.buf)
	if !put(page, a.buf) {
		for _, w := range a.byPage[page] {
			w.published = true
		}
	}
}
