package envoyhost

import (
	"unsafe"

	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/rls"
)

// These are the calls that requests are made of, without the SDK between: it takes a copy of each argument and two
// allocations for each result, which for some calls is more than the host's own part.

//go:wasmimport wasi_snapshot_preview1 clock_time_get
//go:noescape
func clockTimeGet(id uint32, precision uint64, time *int64) uint32

//go:wasmimport env proxy_get_log_level
//go:noescape
func proxyGetLogLevel(level *uint32) uint32

//go:wasmimport env proxy_get_header_map_value
//go:noescape
func proxyGetHeaderMapValue(kind uint32, name *byte, size uint32, value, valueSize *uint32) uint32

//go:wasmimport env proxy_get_header_map_pairs
//go:noescape
func proxyGetHeaderMapPairs(kind uint32, pairs, size *uint32) uint32

//go:wasmimport env proxy_replace_header_map_value
//go:noescape
func proxyReplaceHeaderMapValue(kind uint32, name *byte, size uint32, value *byte, valueSize uint32) uint32

//go:wasmimport env proxy_remove_header_map_value
//go:noescape
func proxyRemoveHeaderMapValue(kind uint32, name *byte, size uint32) uint32

//go:wasmimport env proxy_get_property
//go:noescape
func proxyGetProperty(path *byte, size uint32, value, valueSize *uint32) uint32

//go:wasmimport env proxy_set_property
//go:noescape
func proxySetProperty(path *byte, size uint32, value *byte, valueSize uint32) uint32

//go:wasmimport env proxy_send_local_response
//go:noescape
func proxySendLocalResponse(
	status uint32, details *byte, detailsSize uint32, body *byte, bodySize uint32, headers *byte, headersSize uint32, grpc int32,
) uint32

//go:wasmimport env proxy_get_shared_data
//go:noescape
func proxyGetSharedData(key *byte, size uint32, value, valueSize, cas *uint32) uint32

//go:wasmimport env proxy_set_shared_data
//go:noescape
func proxySetSharedData(key *byte, size uint32, value *byte, valueSize, cas uint32) uint32

//go:wasmimport env proxy_enqueue_shared_queue
//go:noescape
func proxyEnqueueSharedQueue(id uint32, message *byte, size uint32) uint32

//go:wasmimport env proxy_dequeue_shared_queue
//go:noescape
func proxyDequeueSharedQueue(id uint32, message, size *uint32) uint32

//go:wasmimport env proxy_grpc_call
//go:noescape
func proxyGrpcCall(
	target *byte, targetSize uint32, service *byte, serviceSize uint32, method *byte, methodSize uint32,
	metadata *byte, metadataSize uint32, message *byte, messageSize, timeoutMs uint32, token *uint32,
) uint32

//go:wasmimport env proxy_get_buffer_bytes
//go:noescape
func proxyGetBufferBytes(kind, start, most uint32, data, size *uint32) uint32

//go:wasmimport env proxy_define_metric
//go:noescape
func proxyDefineMetric(kind uint32, name *byte, size uint32, id *uint32) uint32

//go:wasmimport env proxy_increment_metric
func proxyIncrementMetric(id uint32, delta int64) uint32

//go:wasmimport env proxy_record_metric
func proxyRecordMetric(id uint32, value uint64) uint32

// The SDK says that the module speaks ABI 0.2.0; proxy_get_log_level came with 0.2.1, and is all that this adds.
//
//go:wasmexport proxy_abi_version_0_2_1
func proxyABIVersion() {}

// lent is memory for what the host returns to the callback that is running. Used bytes of it are taken; Begin makes it free
// again. shared is memory for one shared value, and room what there is for the next thing that the host returns.
var (
	lent   [4096]byte
	used   uint32
	shared [2048]byte
	room   []byte
)

// Begin is called at the beginning of each callback about a stream: what Header and Text returned before is void.
func Begin() { used = 0 }

// The host asks for memory whenever it returns bytes.
//
//go:wasmexport override_proxy_on_memory_allocate
func allocate(size uint32) *byte {
	if size <= uint32(len(room)) {
		returned = unsafe.SliceData(room)
	} else {
		returned = unsafe.SliceData(make([]byte, max(size, 1)))
	}
	return returned
}

// returned is the memory that the host was given last, and result where it puts its address again, the size of what is in
// it, and the token of a shared value.
var (
	returned *byte
	result   struct{ data, size, cas uint32 }
)

// bytes are what the host has returned.
func bytes() []byte { return unsafe.Slice(returned, result.size) }

// taken is what the host has returned with a status, where it was lent memory for it.
func taken(st uint32) ([]byte, status) {
	lending := room
	if room = nil; st != 0 {
		return nil, status(st)
	}
	if result.size <= uint32(len(lending)) {
		used = min(used+(result.size+7)&^7, uint32(len(lent)))
	}
	return bytes(), ok
}

// header is a header's value, in lent memory.
func header(kind headers, name string) ([]byte, status) {
	room = lent[used:]
	return taken(proxyGetHeaderMapValue(
		uint32(kind), unsafe.StringData(name), uint32(len(name)), &result.data, &result.size))
}

// setHeader makes a header have one line.
func setHeader(kind headers, name string, value []byte) error {
	st := proxyReplaceHeaderMapValue(uint32(kind), unsafe.StringData(name), uint32(len(name)), unsafe.SliceData(value), uint32(len(value)))
	return status(st).err()
}

// removeHeader makes it have none.
func removeHeader(kind headers, name string) error {
	return status(proxyRemoveHeaderMapValue(uint32(kind), unsafe.StringData(name), uint32(len(name)))).err()
}

// headerPairs are all headers as the host encodes them, in lent memory.
func headerPairs(kind headers) ([]byte, status) {
	room = lent[used:]
	return taken(proxyGetHeaderMapPairs(uint32(kind), &result.data, &result.size))
}

// property is that of a path whose parts are apart by zero bytes, in lent memory.
func property(path []byte) ([]byte, status) {
	room = lent[used:]
	return taken(proxyGetProperty(unsafe.SliceData(path), uint32(len(path)), &result.data, &result.size))
}

// setProperty sets a property of the effective stream that has one part.
func setProperty(name string, value []byte) error {
	st := proxySetProperty(unsafe.StringData(name), uint32(len(name)), unsafe.SliceData(value), uint32(len(value)))
	return status(st).err()
}

// sendResponse gives the host the headers as it encodes them, and what its access log calls details.
func sendResponse(code uint32, details, headers, body []byte, grpcStatus int32) error {
	st := proxySendLocalResponse(code, unsafe.SliceData(details), uint32(len(details)), unsafe.SliceData(body), uint32(len(body)),
		unsafe.SliceData(headers), uint32(len(headers)), grpcStatus)
	return status(st).err()
}

// sharedData is a copy of a shared value, void with the next one.
func sharedData(key string) (value []byte, cas uint32, st status) {
	room = shared[:]
	st = status(proxyGetSharedData(unsafe.StringData(key), uint32(len(key)), &result.data, &result.size, &result.cas))
	room = nil
	if st != ok {
		return nil, 0, st
	}
	return bytes(), result.cas, ok
}

func setSharedData(key string, value []byte, cas uint32) status {
	return status(proxySetSharedData(unsafe.StringData(key), uint32(len(key)), unsafe.SliceData(value), uint32(len(value)), cas))
}

// Enqueue implements host.Queue.
func (*Host) Enqueue(id uint32, message []byte) error {
	return status(proxyEnqueueSharedQueue(id, unsafe.SliceData(message), uint32(len(message)))).err()
}

// Dequeue implements host.Queue.
func (*Host) Dequeue(id uint32) ([]byte, error) {
	room = shared[:]
	st := status(proxyDequeueSharedQueue(id, &result.data, &result.size))
	room = nil
	if st != ok {
		return nil, st.err()
	}
	return bytes(), nil
}

// noMetadata is an empty list of them, as the host encodes one: the number of its elements.
var noMetadata [4]byte

// Call implements host.RPC. The cluster is given as a message, since a name might be taken for one.
func (*Host) Call(
	cluster, service, method string, message []byte, timeoutMs uint32, answered func(answer []byte, err error),
) error {
	target := rls.AppendCluster(nil, cluster)
	var token uint32
	st := proxyGrpcCall(unsafe.SliceData(target), uint32(len(target)), unsafe.StringData(service), uint32(len(service)),
		unsafe.StringData(method), uint32(len(method)), &noMetadata[0], uint32(len(noMetadata)),
		unsafe.SliceData(message), uint32(len(message)), timeoutMs, &token)
	if status(st) != ok {
		return ErrNoRPC
	}
	rpcs[token] = answered
	return nil
}

// rpcAnswer is the answer that the callback is about, of size bytes.
func rpcAnswer(size int) ([]byte, error) {
	const grpcReceiveBuffer = 5
	if size == 0 {
		return nil, nil // Envoy has no buffer then
	}
	st := status(proxyGetBufferBytes(grpcReceiveBuffer, 0, uint32(size), &result.data, &result.size))
	if st != ok {
		return nil, st.err()
	}
	return bytes(), nil
}

// monotonic is one call to the host; time.Now would be two.
func monotonic() int64 {
	const clockMonotonic = 1
	var t int64
	clockTimeGet(clockMonotonic, 0, &t)
	return t
}

// wall is the time of the wall clock.
func wall() int64 {
	const clockRealtime = 0
	var t int64
	clockTimeGet(clockRealtime, 0, &t)
	return t
}

// logLevel is the level of Envoy's wasm logger. An error of the host counts as Info.
func logLevel() host.Level {
	var level uint32
	if proxyGetLogLevel(&level) != 0 {
		return host.Info
	}
	return host.Level(min(level, 5))
}
