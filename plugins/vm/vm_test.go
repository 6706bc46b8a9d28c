package vm

import (
	"testing"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

// listed is a filter whose streams write down how they end.
type listed struct{ ends map[uint32]int }

func (f *listed) NewStream(context uint32) Stream { return &listedStream{filter: f, id: context} }
func (f *listed) OnTick(int64)                    {}

type listedStream struct {
	NoStream
	filter *listed
	id     uint32
}

func (s *listedStream) OnEnd() { s.filter.ends[s.id]++ }

// TestContexts: a stream belongs to the plugin that it was made for, ends once whatever Envoy calls how often, and outlives
// its plugin.
func TestContexts(t *testing.T) {
	v := &vmContext{plugins: map[uint32]*plugin{}}
	first, second := &listed{map[uint32]int{}}, &listed{map[uint32]int{}}
	for id, f := range map[uint32]*listed{1: first, 2: second, 3: nil} {
		p := v.NewPluginContext(id).(*plugin)
		if f != nil {
			p.filter = f
		}
	}
	v.create(10, 1)
	v.create(11, 2)
	v.create(12, 1)
	v.create(13, 3) // a plugin that has not started
	v.create(14, 9) // none
	for _, id := range []uint32{1, 13, 14} {
		if s := v.streams.get(id); s != nil {
			t.Errorf("context %d has a stream", id)
		}
		if v.end(id) {
			t.Errorf("context %d had a stream", id)
		}
	}
	if s := v.streams.get(10); s == nil || s.OnRequestHeaders() != types.ActionContinue {
		t.Error("context 10 has no stream")
	}
	v.forget(1) // it drains
	if v.isPlugin(1) || !v.isPlugin(2) {
		t.Error("the wrong plugin was forgotten")
	}
	v.create(15, 1)
	for _, id := range []uint32{10, 10, 11, 12, 12, 15} {
		if there := v.end(id); there != (id != 15) {
			t.Errorf("end(%d) = %v", id, there)
		}
	}
	if len(first.ends) != 2 || first.ends[10] != 1 || first.ends[12] != 1 || len(second.ends) != 1 || second.ends[11] != 1 {
		t.Errorf("ended: %v and %v", first.ends, second.ends)
	}
}
