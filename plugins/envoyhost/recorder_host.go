//go:build !wasip1

package envoyhost

import (
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/host/memhost"
)

// Host is the Recorder's worker. It counts the calls.
type Host struct{ *memhost.Worker }

// NewHost returns the host.
func NewHost() *Host { return &Host{recorder.Worker} }

// Get implements host.SharedData.
func (h *Host) Get(key string) ([]byte, uint32, error) {
	recorder.Counts["get"]++
	value, cas, err := h.Worker.Get(key)
	if err == nil {
		recorder.returned("get")
	}
	return value, cas, err
}

// Set implements host.SharedData.
func (h *Host) Set(key string, value []byte, cas uint32) error {
	recorder.Counts["set"]++
	return h.Worker.Set(key, value, cas)
}

// Enqueue implements host.Queue.
func (h *Host) Enqueue(id uint32, message []byte) error {
	recorder.Counts["enqueue"]++
	return h.Worker.Enqueue(id, message)
}

// Dequeue implements host.Queue.
func (h *Host) Dequeue(id uint32) ([]byte, error) {
	recorder.Counts["dequeue"]++
	return h.Worker.Dequeue(id)
}

// Now implements host.Clock.
func (h *Host) Now() int64 {
	recorder.Counts["now"]++
	return h.Worker.Now()
}

// Wall implements host.Clock.
func (h *Host) Wall() int64 {
	recorder.Counts["wall"]++
	return h.Worker.Wall()
}

// Define implements host.Metrics.
func (h *Host) Define(kind host.MetricKind, name string) (uint32, error) {
	recorder.Counts["define"]++
	return h.Worker.Define(kind, name)
}

// Add implements host.Metrics.
func (h *Host) Add(id uint32, delta int64) error {
	recorder.Counts["add"]++
	return h.Worker.Add(id, delta)
}

// Record implements host.Metrics.
func (h *Host) Record(id uint32, value uint64) error {
	recorder.Counts["record"]++
	return h.Worker.Record(id, value)
}

// Log implements host.Log.
func (h *Host) Log(level host.Level, message string) {
	recorder.Counts["log"]++
	h.Worker.Log(level, message)
}

// Enabled implements host.Log.
func (h *Host) Enabled(level host.Level) bool {
	recorder.Counts["enabled"]++
	return h.Worker.Enabled(level)
}
