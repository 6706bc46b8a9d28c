// Package guest runs a build of the plugins within a test's process, in a Wasm runtime that is written in Go, to see what
// goes on inside the module: which of its functions are called, and by whom. Envoy's part is played by a host in memory with
// a clock that stands until it is told the time, for one worker.
package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// TickMs is the period of a filter's ticks, in milliseconds.
const TickMs = 20

// root is the context of the one filter in a guest.
const root = 1

// Guest is a VM with one filter.
type Guest struct {
	// Now is the monotonic time in nanoseconds. Tick moves it on.
	Now int64
	// Stream is what the host knows of the stream whose callbacks run.
	Stream Stream
	// Called hears of each call of a function that was watched for, and of the callers on its way, nearest first.
	Called func(function string, callers []string)

	ctx      context.Context
	runtime  wazero.Runtime
	module   api.Module
	allocate api.Function
	calls    map[string]api.Function
	host
	last uint32
}

// Stream is a request as the host tells of it.
type Stream struct {
	Request, Response map[string]string
	Properties        map[string]string
	// Answered is the status of the filter's answer, 0 for none.
	Answered uint32
}

// Start compiles a module and starts its filter of that root_id with a configuration. watch tells the functions that Called
// hears of by their names, which the module must have. Close the guest in the end.
func Start(ctx context.Context, file, rootID, configuration string, watch func(function string) bool) (*Guest, error) {
	code, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	g := &Guest{Now: int64(time.Hour), calls: map[string]api.Function{}, host: newHost(rootID, configuration)}
	g.ctx = experimental.WithFunctionListenerFactory(ctx, listeners{g, watch})
	g.runtime = wazero.NewRuntime(g.ctx)
	if err := g.start(code); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file, err), g.Close())
	}
	return g, nil
}

func (g *Guest) start(code []byte) error {
	wasi_snapshot_preview1.MustInstantiate(g.ctx, g.runtime)
	if err := g.provide(); err != nil {
		return err
	}
	compiled, err := g.runtime.CompileModule(g.ctx, code)
	if err != nil {
		return err
	}
	clock := func() int64 { return g.Now }
	wall := func() (int64, int32) { return 1_800_000_000 + g.Now/1e9, int32(g.Now % 1e9) }
	g.module, err = g.runtime.InstantiateModule(g.ctx, compiled, wazero.NewModuleConfig().WithStartFunctions("_initialize").
		WithStderr(os.Stderr).WithNanotime(clock, sys.ClockResolution(1)).WithWalltime(wall, sys.ClockResolution(1)))
	if err != nil {
		return err
	}
	g.allocate = g.module.ExportedFunction("proxy_on_memory_allocate")
	if err := g.Call("proxy_on_context_create", root, 0); err != nil {
		return err
	}
	for _, name := range []string{"proxy_on_vm_start", "proxy_on_configure"} {
		if err := g.Call(name, root, uint64(len(g.configurationOf(name)))); err != nil {
			return err
		}
		if g.returned != 1 {
			return fmt.Errorf("%s: the filter does not start: %s", name, strings.Join(g.logged, "; "))
		}
	}
	g.last = root
	return nil
}

// Close gives back what the guest takes.
func (g *Guest) Close() error { return g.runtime.Close(g.ctx) }

// Call calls a function that the module exports. An error is a trap, or that there is no such function.
func (g *Guest) Call(name string, arguments ...uint64) error {
	f := g.calls[name]
	if f == nil {
		if f = g.module.ExportedFunction(name); f == nil {
			return fmt.Errorf("the module exports no %s", name)
		}
		g.calls[name] = f
	}
	results, err := f.Call(g.ctx, arguments...)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if g.returned = 0; len(results) > 0 {
		g.returned = results[0]
	}
	return nil
}

// Tick lets time pass until the next tick, and ticks.
func (g *Guest) Tick() error {
	g.Now += TickMs * int64(time.Millisecond)
	return g.Call("proxy_on_tick", root)
}

// Begin begins Stream's request, which has no body, and leaves in Answered whether the filter has answered it. The result is
// for End.
func (g *Guest) Begin() (request uint64, err error) {
	g.last++
	g.Stream.Answered = 0
	request = uint64(g.last)
	if err := g.Call("proxy_on_context_create", request, root); err != nil {
		return 0, err
	}
	return request, g.Call("proxy_on_request_headers", request, uint64(len(g.Stream.Request)), 1)
}

// End gives a request Stream's response, also where that is the filter's own, and ends it.
func (g *Guest) End(request uint64) error {
	if err := g.Call("proxy_on_response_headers", request, uint64(len(g.Stream.Response)), 1); err != nil {
		return err
	}
	if err := g.Call("proxy_on_log", request); err != nil {
		return err
	}
	return g.Call("proxy_on_done", request)
}

// Connection begins and ends a connection of which the filter is one of TCP.
func (g *Guest) Connection() error {
	g.last++
	if err := g.Call("proxy_on_context_create", uint64(g.last), root); err != nil {
		return err
	}
	if err := g.Call("proxy_on_new_connection", uint64(g.last)); err != nil {
		return err
	}
	if err := g.Call("proxy_on_done", uint64(g.last)); err != nil {
		return err
	}
	return g.Call("proxy_on_log", uint64(g.last))
}

// listeners hear of calls of functions within the module.
type listeners struct {
	guest *Guest
	watch func(function string) bool
}

// NewFunctionListener implements experimental.FunctionListenerFactory.
func (l listeners) NewFunctionListener(f api.FunctionDefinition) experimental.FunctionListener {
	if !l.watch(f.Name()) {
		return nil
	}
	return experimental.FunctionListenerFunc(
		func(_ context.Context, _ api.Module, def api.FunctionDefinition, _ []uint64, stack experimental.StackIterator) {
			if l.guest.Called == nil {
				return
			}
			var callers []string
			for stack.Next() {
				callers = append(callers, stack.Function().Definition().Name())
			}
			l.guest.Called(def.Name(), callers[1:])
		})
}
