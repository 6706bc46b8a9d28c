// Package memhost is the host in memory: one process with any number of workers, virtual time, and the semantics of
// Envoy's shared data and queues, for tests that must control every interleaving.
package memhost

import (
	"math/rand/v2"
	"sync"

	"sentinel-envoy/shared/host"
)

// Process is what the workers of one proxy process share.
type Process struct {
	mu      sync.Mutex
	now     int64
	wall    int64 // by how much the wall clock is ahead
	token   uint32
	data    map[string]entry
	queues  map[string]uint32
	queued  [][][]byte
	metrics map[string]uint32
	kinds   []host.MetricKind
	values  []uint64
}

type entry struct {
	value []byte
	cas   uint32
}

// NewProcess returns a process whose monotonic clock stands at now nanoseconds.
func NewProcess(now int64) *Process {
	return &Process{now: now, data: map[string]entry{}, queues: map[string]uint32{}, metrics: map[string]uint32{}}
}

// Advance moves the clock forward by d ≥ 0 nanoseconds.
func (p *Process) Advance(d int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now += max(d, 0)
}

// Now is the process's monotonic time in nanoseconds.
func (p *Process) Now() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// Keys is the number of keys in shared data and the bytes that their values take.
func (p *Process) Keys() (keys, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.data {
		bytes += len(e.value)
	}
	return len(p.data), bytes
}

// Rubbish is what another writer may leave in place of a value: nothing, a part of it, it with one byte changed, or noise.
func Rubbish(rng *rand.Rand, value []byte) []byte {
	switch rng.IntN(4) {
	case 0:
		return nil
	case 1:
		return value[:rng.IntN(len(value)+1)]
	case 2:
		flipped := append([]byte(nil), value...)
		if len(flipped) > 0 {
			flipped[rng.IntN(len(flipped))] ^= byte(1 + rng.IntN(255))
		}
		return flipped
	}
	noise := make([]byte, rng.IntN(100))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	return noise
}

// Corrupt overwrites the value of every key for which pick returns a replacement, as another plugin with our vm_id could.
func (p *Process) Corrupt(pick func(key string, value []byte) ([]byte, bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, e := range p.data {
		if v, ok := pick(key, e.value); ok {
			p.data[key] = entry{value: append([]byte(nil), v...), cas: p.nextToken()}
		}
	}
}

// QueueLength is the number of messages in the named queue.
func (p *Process) QueueLength(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, ok := p.queues[name]
	if !ok {
		return 0
	}
	return len(p.queued[id-1])
}

// Metric is the value of the named metric, and whether it was defined.
func (p *Process) Metric(name string) (uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, ok := p.metrics[name]
	if !ok {
		return 0, false
	}
	return p.values[id-1], true
}

// MetricNames is the number of metrics ever defined.
func (p *Process) MetricNames() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.metrics)
}

func (p *Process) nextToken() uint32 {
	p.token++
	if p.token == 0 {
		p.token++
	}
	return p.token
}

// Worker is one worker's view of the process.
type Worker struct {
	process *Process
	yield   func()
	lines   []string
	level   host.Level
	fault   error
	// got is what Get returned last: it is overwritten, so that a test fails where somebody keeps it.
	got      []byte
	services RPC
}

// RPC is what takes the calls of a worker, as host.RPC has them.
type RPC func(
	cluster, service, method string, message []byte, timeoutMs uint32, answered func(answer []byte, err error),
) error

// Worker returns a new worker. yield, where not nil, is called before and after every host call: a scheduler runs other
// workers there, or never returns, which is the worker's death.
func (p *Process) Worker(yield func()) *Worker {
	if yield == nil {
		yield = func() {}
	}
	return &Worker{process: p, yield: yield, level: host.Info}
}

var _ host.Host = (*Worker)(nil)

// SetLevel sets the least severe level that is logged.
func (w *Worker) SetLevel(level host.Level) { w.level = level }

// Fail makes every shared-data and queue call of this worker fail with err until it is called with nil.
func (w *Worker) Fail(err error) { w.fault = err }

// Serve makes rpc take this worker's calls. Before, there is no service.
func (w *Worker) Serve(rpc RPC) { w.services = rpc }

// Call implements host.RPC.
func (w *Worker) Call(
	cluster, service, method string, message []byte, timeoutMs uint32, answered func(answer []byte, err error),
) error {
	defer w.enter()()
	if w.services == nil {
		return host.ErrNotFound
	}
	return w.services(cluster, service, method, message, timeoutMs, answered)
}

// Lines are the messages this worker has logged.
func (w *Worker) Lines() []string { return w.lines }

// enter yields, takes the process's lock and returns what releases it and yields again.
func (w *Worker) enter() func() {
	w.yield()
	w.process.mu.Lock()
	return func() {
		w.process.mu.Unlock()
		w.yield()
	}
}

// Get implements host.SharedData.
func (w *Worker) Get(key string) ([]byte, uint32, error) {
	defer w.enter()()
	if w.fault != nil {
		return nil, 0, w.fault
	}
	e, ok := w.process.data[key]
	if !ok {
		return nil, 0, host.ErrNotFound
	}
	for i := range w.got {
		w.got[i] = 0xff
	}
	w.got = append(w.got[:0], e.value...)
	return w.got, e.cas, nil
}

// Set implements host.SharedData. As in Envoy, an absent key is created whatever cas is, and a zero cas writes blindly.
func (w *Worker) Set(key string, value []byte, cas uint32) error {
	defer w.enter()()
	if w.fault != nil {
		return w.fault
	}
	if e, ok := w.process.data[key]; ok && cas != 0 && cas != e.cas {
		return host.ErrCASMismatch
	}
	w.process.data[key] = entry{value: append([]byte(nil), value...), cas: w.process.nextToken()}
	return nil
}

// Open implements host.Queue.
func (w *Worker) Open(name string) (uint32, error) {
	defer w.enter()()
	p := w.process
	if w.fault != nil {
		return 0, w.fault
	}
	if id, ok := p.queues[name]; ok {
		return id, nil
	}
	p.queued = append(p.queued, nil)
	p.queues[name] = uint32(len(p.queued))
	return p.queues[name], nil
}

// Resolve implements host.Queue.
func (w *Worker) Resolve(name string) (uint32, error) {
	defer w.enter()()
	if w.fault != nil {
		return 0, w.fault
	}
	if id, ok := w.process.queues[name]; ok {
		return id, nil
	}
	return 0, host.ErrNotFound
}

// Enqueue implements host.Queue.
func (w *Worker) Enqueue(id uint32, message []byte) error {
	defer w.enter()()
	p := w.process
	if w.fault != nil {
		return w.fault
	}
	if id == 0 || int(id) > len(p.queued) {
		return host.ErrNotFound
	}
	p.queued[id-1] = append(p.queued[id-1], append([]byte(nil), message...))
	return nil
}

// Dequeue implements host.Queue.
func (w *Worker) Dequeue(id uint32) ([]byte, error) {
	defer w.enter()()
	p := w.process
	if w.fault != nil {
		return nil, w.fault
	}
	if id == 0 || int(id) > len(p.queued) {
		return nil, host.ErrNotFound
	}
	if len(p.queued[id-1]) == 0 {
		return nil, host.ErrEmpty
	}
	m := p.queued[id-1][0]
	p.queued[id-1] = p.queued[id-1][1:]
	return m, nil
}

// SetWall sets the wall clock, in nanoseconds since 1970. It then goes on with the monotonic one.
func (p *Process) SetWall(at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wall = at - p.now
}

// Wall implements host.Clock.
func (w *Worker) Wall() int64 {
	defer w.enter()()
	return w.process.now + w.process.wall
}

// Now implements host.Clock.
func (w *Worker) Now() int64 {
	defer w.enter()()
	return w.process.now
}

// Define implements host.Metrics.
func (w *Worker) Define(kind host.MetricKind, name string) (uint32, error) {
	p := w.process
	p.mu.Lock()
	defer p.mu.Unlock()
	if id, ok := p.metrics[name]; ok {
		return id, nil
	}
	p.values, p.kinds = append(p.values, 0), append(p.kinds, kind)
	p.metrics[name] = uint32(len(p.values))
	return p.metrics[name], nil
}

// Add implements host.Metrics.
func (w *Worker) Add(id uint32, delta int64) error {
	p := w.process
	p.mu.Lock()
	defer p.mu.Unlock()
	if id == 0 || int(id) > len(p.values) || p.kinds[id-1] != host.Counter || delta <= 0 {
		return host.ErrNotFound
	}
	p.values[id-1] += uint64(delta)
	return nil
}

// Record implements host.Metrics.
func (w *Worker) Record(id uint32, value uint64) error {
	p := w.process
	p.mu.Lock()
	defer p.mu.Unlock()
	if id == 0 || int(id) > len(p.values) || p.kinds[id-1] != host.Gauge {
		return host.ErrNotFound
	}
	p.values[id-1] = value
	return nil
}

// Log implements host.Log.
func (w *Worker) Log(level host.Level, message string) {
	if level >= w.level {
		w.lines = append(w.lines, message)
	}
}

// Enabled implements host.Log.
func (w *Worker) Enabled(level host.Level) bool { return level >= w.level }
