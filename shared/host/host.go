// Package host is the narrow interface between flow control and the proxy it runs in: shared data, a queue, a clock,
// metrics, a log and calls. Envoy's implementation is plugins/envoyhost; memhost is one in memory for tests.
//
// The semantics are those of Envoy's Proxy-Wasm host: shared data and queues belong to one vm_id and are seen by every
// worker of the process; nothing in them can be deleted or listed, and nothing expires.
package host

import "errors"

// CreateOnly, given to SharedData.Set as cas, creates an absent key and fails with ErrCASMismatch on a present one: no
// key ever carries this token (the host's token counter would have to stand at 2³²−1 for exactly that key).
const CreateOnly uint32 = 0xffffffff

// Errors of the interfaces below. Any other error is a fault of the host.
var (
	ErrNotFound    = errors.New("host: not found")
	ErrCASMismatch = errors.New("host: compare-and-set lost")
	ErrEmpty       = errors.New("host: queue is empty")
)

// SharedData is the process-wide table of one vm_id.
type SharedData interface {
	// Get returns a copy of key's value and the token to replace exactly this value with, or ErrNotFound. The copy is void
	// with the next call of Get.
	Get(key string) (value []byte, cas uint32, err error)
	// Set stores value. cas is a token from Get, or CreateOnly; a value stored by another worker since then makes it
	// fail with ErrCASMismatch. A zero cas is never passed: it writes blindly.
	Set(key string, value []byte, cas uint32) error
}

// Queue is a process-wide FIFO of messages. It is unbounded: callers bound it.
type Queue interface {
	// Open makes the named queue if it is absent and returns its id. Opening twice keeps what is queued.
	Open(name string) (id uint32, err error)
	// Resolve returns the id of a queue that some worker opened, or ErrNotFound.
	Resolve(name string) (id uint32, err error)
	Enqueue(id uint32, message []byte) error
	// Dequeue removes the oldest message, or fails with ErrEmpty.
	Dequeue(id uint32) ([]byte, error)
}

// Clock tells time.
type Clock interface {
	// Now is the monotonic time in nanoseconds. It is comparable between the workers of one process and never steps.
	// Each call is a call to the host: take one a callback.
	Now() int64
	// Wall is the time in nanoseconds since 1970. Somebody may set it, forward and back.
	Wall() int64
}

// MetricKind is what a metric does with what it is given.
type MetricKind uint8

// The kinds of metrics.
const (
	Counter MetricKind = iota
	Gauge
)

// Metrics are process-wide and cannot be removed.
type Metrics interface {
	// Define returns the id of a metric; the same name gives the same metric in every worker.
	Define(kind MetricKind, name string) (id uint32, err error)
	// Add raises a counter by delta > 0.
	Add(id uint32, delta int64) error
	// Record sets a gauge.
	Record(id uint32, value uint64) error
}

// Level is a log level, least severe first.
type Level uint8

// The levels.
const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
)

// Log writes to the proxy's log.
type Log interface {
	Log(level Level, message string)
	// Enabled reports whether messages of that level are written. It is a call to the host.
	Enabled(level Level) bool
}

// RPC calls services by gRPC.
type RPC interface {
	// Call sends a message to a method of a service on a cluster. Once there is an answer, or there will be none, for instance
	// because timeoutMs milliseconds have passed, answered is called with it, or with why there is none, unless the filter has
	// gone meanwhile whose callback makes the call. It is never called before Call has returned. An error means that nothing
	// was sent. The message is not used after Call, nor the answer after answered.
	Call(cluster, service, method string, message []byte, timeoutMs uint32, answered func(answer []byte, err error)) error
}

// Host is everything flow control asks of the proxy.
type Host interface {
	SharedData
	Queue
	Clock
	Metrics
	Log
	RPC
}

// Death is the panic by which a simulated host ends a worker, as a trap does in Wasm: nobody may recover from it.
type Death struct{}
