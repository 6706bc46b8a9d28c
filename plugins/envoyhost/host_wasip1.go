package envoyhost

import (
	"errors"
	"unsafe"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"sentinel-envoy/shared/host"
)

// Host is Envoy as the core needs it. It is ready for use in any callback of a plugin.
type Host struct {
	vmID string
}

var _ host.Host = (*Host)(nil)

// NewHost returns the host.
func NewHost() *Host { return &Host{} }

// Get implements host.SharedData.
func (*Host) Get(key string) ([]byte, uint32, error) {
	value, cas, st := sharedData(key)
	return value, cas, st.err()
}

// Set implements host.SharedData.
func (*Host) Set(key string, value []byte, cas uint32) error {
	return setSharedData(key, value, cas).err()
}

// Open implements host.Queue.
func (*Host) Open(name string) (uint32, error) {
	id, err := proxywasm.RegisterSharedQueue(name)
	return id, translate(err)
}

// Resolve implements host.Queue.
func (h *Host) Resolve(name string) (uint32, error) {
	if h.vmID == "" {
		vmID, st := property([]byte("plugin_vm_id"))
		if st != ok {
			return 0, st.err()
		}
		h.vmID = string(vmID)
	}
	id, err := proxywasm.ResolveSharedQueue(h.vmID, name)
	return id, translate(err)
}

// Now implements host.Clock.
func (*Host) Now() int64 { return monotonic() }

// Wall implements host.Clock.
func (*Host) Wall() int64 { return wall() }

// Define implements host.Metrics. The SDK's calls for metrics know no way to fail but a panic.
func (*Host) Define(kind host.MetricKind, name string) (id uint32, err error) {
	const counter, gauge = 0, 1
	of := uint32(gauge)
	if kind == host.Counter {
		of = counter
	}
	st := proxyDefineMetric(of, unsafe.StringData(name), uint32(len(name)), &id)
	return id, status(st).err()
}

// Add implements host.Metrics.
func (*Host) Add(id uint32, delta int64) error { return status(proxyIncrementMetric(id, delta)).err() }

// Record implements host.Metrics.
func (*Host) Record(id uint32, value uint64) error { return status(proxyRecordMetric(id, value)).err() }

// Log implements host.Log.
func (*Host) Log(level host.Level, message string) { logAt(level, message) }

func logAt(level host.Level, message string) {
	switch level {
	case host.Trace:
		proxywasm.LogTrace(message)
	case host.Debug:
		proxywasm.LogDebug(message)
	case host.Info:
		proxywasm.LogInfo(message)
	case host.Warn:
		proxywasm.LogWarn(message)
	default:
		proxywasm.LogError(message)
	}
}

// Enabled implements host.Log. The SDK has no call for it.
func (*Host) Enabled(level host.Level) bool { return level >= logLevel() }

// translate gives the SDK's errors the names that the core knows.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, types.ErrorStatusNotFound):
		return host.ErrNotFound
	case errors.Is(err, types.ErrorStatusCasMismatch):
		return host.ErrCASMismatch
	case errors.Is(err, types.ErrorStatusEmpty):
		return host.ErrEmpty
	}
	return err
}
