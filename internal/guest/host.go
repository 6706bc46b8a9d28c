package guest

import (
	"context"
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero/api"
)

// status is what a call of the host returns.
type status = uint32

// Statuses of Proxy-Wasm's.
const (
	ok          status = 0
	notFound    status = 1
	empty       status = 7
	casMismatch status = 8
)

// Kinds of buffers and of header maps.
const (
	pluginConfiguration = 7
	requestHeaders      = 0
	responseHeaders     = 2
)

// host is what Envoy keeps for its VMs.
type host struct {
	rootID, configuration string

	shared   map[string]value
	cas      uint32
	queues   [][]string
	queueIDs map[string]uint32
	metrics  uint32
	logged   []string
	// returned is what the last callback returned.
	returned uint64
}

// value is one in the table of shared data.
type value struct {
	bytes string
	cas   uint32
}

func newHost(rootID, configuration string) host {
	return host{rootID: rootID, configuration: configuration, shared: map[string]value{}, queueIDs: map[string]uint32{}}
}

// configurationOf is what a callback is told the size of.
func (h *host) configurationOf(callback string) string {
	if callback == "proxy_on_configure" {
		return h.configuration
	}
	return ""
}

// Logged are the lines that the module has logged.
func (h *host) Logged() []string { return h.logged }

// provide makes the host's functions known to modules. What no test needs does nothing and says so.
func (g *Guest) provide() error {
	b := g.runtime.NewHostModuleBuilder("env")
	for name, f := range map[string]any{
		"set_effective_context":        func(uint32) status { return ok },
		"set_tick_period_milliseconds": func(uint32) status { return ok },
		"continue_stream":              func(uint32) status { return ok },
		"close_stream":                 func(uint32) status { return ok },
		"get_log_level":                func(p uint32) status { return g.number(p, 2) },
		"increment_metric":             func(uint32, uint64) status { return ok },
		"record_metric":                func(uint32, uint64) status { return ok },
		"set_property":                 func(_, _, _, _ uint32) status { return ok },
		"replace_header_map_value":     func(_, _, _, _, _ uint32) status { return ok },
		"remove_header_map_value":      func(_, _, _ uint32) status { return ok },
		"get_header_map_pairs":         func(_, _, _ uint32) status { return notFound },
		"set_buffer_bytes":             func(_, _, _, _, _ uint32) status { return ok },
		"http_call":                    func(_, _, _, _, _, _, _, _, _, _ uint32) status { return notFound },
		"grpc_call":                    func(_, _, _, _, _, _, _, _, _, _, _, _ uint32) status { return notFound },
		"log": func(_, p, n uint32) status {
			g.logged = append(g.logged, g.text(p, n))
			return ok
		},
		"define_metric": func(_, _, _, id uint32) status {
			g.metrics++
			return g.number(id, g.metrics)
		},
		"send_local_response": func(code, _, _, _, _, _, _, _ uint32) status {
			g.Stream.Answered = code
			return ok
		},
		"get_buffer_bytes":     g.buffer,
		"get_property":         g.property,
		"get_header_map_value": g.header,
		"get_shared_data":      g.sharedData,
		"set_shared_data":      g.setSharedData,
		"register_shared_queue": func(name, n, id uint32) status {
			return g.number(id, g.queue(g.text(name, n)))
		},
		"resolve_shared_queue": func(_, _, name, n, id uint32) status {
			known := g.queueIDs[g.text(name, n)]
			if known == 0 {
				return notFound
			}
			return g.number(id, known)
		},
		"enqueue_shared_queue": g.enqueue,
		"dequeue_shared_queue": g.dequeue,
	} {
		b.NewFunctionBuilder().WithFunc(f).WithName("proxy_" + name).Export("proxy_" + name)
	}
	_, err := b.Instantiate(g.ctx)
	return err
}

func (g *Guest) text(p, n uint32) string {
	b, in := g.module.Memory().Read(p, n)
	if !in {
		panic(fmt.Sprintf("the module names %d bytes at %d, which are not in its memory", n, p))
	}
	return string(b)
}

// number puts one where the module wants it.
func (g *Guest) number(p, n uint32) status {
	if !g.module.Memory().WriteUint32Le(p, n) {
		panic(fmt.Sprintf("the module wants a number at %d, which is not in its memory", p))
	}
	return ok
}

// give gives the module a text in memory that it is asked for, as Envoy does.
func (g *Guest) give(ctx context.Context, text string, data, size uint32) status {
	results, err := g.allocate.Call(ctx, api.EncodeU32(uint32(len(text))))
	if err != nil {
		panic(err)
	}
	p := api.DecodeU32(results[0])
	if !g.module.Memory().WriteString(p, text) {
		panic(fmt.Sprintf("the module gives %d bytes at %d, which are not in its memory", len(text), p))
	}
	g.number(data, p)
	return g.number(size, uint32(len(text)))
}

func (g *Guest) buffer(ctx context.Context, kind, _, _, data, size uint32) status {
	if kind != pluginConfiguration {
		return notFound
	}
	return g.give(ctx, g.configuration, data, size)
}

func (g *Guest) property(ctx context.Context, path, n, data, size uint32) status {
	name := strings.ReplaceAll(strings.TrimRight(g.text(path, n), "\x00"), "\x00", ".")
	switch name {
	case "plugin_root_id":
		return g.give(ctx, g.rootID, data, size)
	case "plugin_vm_id", "plugin_name":
		return g.give(ctx, "guest", data, size)
	}
	return g.giveIn(ctx, g.Stream.Properties, name, data, size)
}

func (g *Guest) header(ctx context.Context, kind, name, n, data, size uint32) status {
	switch kind {
	case requestHeaders:
		return g.giveIn(ctx, g.Stream.Request, g.text(name, n), data, size)
	case responseHeaders:
		return g.giveIn(ctx, g.Stream.Response, g.text(name, n), data, size)
	}
	return notFound
}

func (g *Guest) giveIn(ctx context.Context, in map[string]string, name string, data, size uint32) status {
	text, found := in[name]
	if !found {
		return notFound
	}
	return g.give(ctx, text, data, size)
}

func (g *Guest) sharedData(ctx context.Context, key, n, data, size, cas uint32) status {
	v, found := g.shared[g.text(key, n)]
	if !found {
		return notFound
	}
	g.number(cas, v.cas)
	return g.give(ctx, v.bytes, data, size)
}

func (g *Guest) setSharedData(key, n, p, size, cas uint32) status {
	name := g.text(key, n)
	if old, found := g.shared[name]; found && cas != 0 && cas != old.cas {
		return casMismatch
	}
	g.cas++
	g.shared[name] = value{g.text(p, size), g.cas}
	return ok
}

// queue is the number of the queue of a name, which it makes where there is none.
func (g *Guest) queue(name string) uint32 {
	if g.queueIDs[name] == 0 {
		g.queues = append(g.queues, nil)
		g.queueIDs[name] = uint32(len(g.queues))
	}
	return g.queueIDs[name]
}

func (g *Guest) enqueue(id, p, n uint32) status {
	if id == 0 || id > uint32(len(g.queues)) {
		return notFound
	}
	g.queues[id-1] = append(g.queues[id-1], g.text(p, n))
	return ok
}

func (g *Guest) dequeue(ctx context.Context, id, data, size uint32) status {
	if id == 0 || id > uint32(len(g.queues)) {
		return notFound
	}
	q := g.queues[id-1]
	if len(q) == 0 {
		return empty
	}
	g.queues[id-1] = q[1:]
	return g.give(ctx, q[0], data, size)
}
