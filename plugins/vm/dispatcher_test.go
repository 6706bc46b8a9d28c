//go:build !wasip1

package vm

import (
	"testing"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/engine"
)

// listed is a handler whose streams write down how often they end.
type listed struct{ ends map[uint32]int }

func (h *listed) NewStream(context uint32) *Base {
	s := &listedStream{handler: h}
	s.Init(&Plugin{}, s, context)
	return &s.Base
}

func (h *listed) OnTick(int64) {}

func (h *listed) Reload() error { return nil }

func (h *listed) Idle() bool { return true }

type listedStream struct {
	Base
	handler *listed
}

func (s *listedStream) OnEnd() { s.handler.ends[s.Context()]++ }

func (s *listedStream) Refuse(*engine.Block, int64) envoyhost.Action { return envoyhost.Pause }

func (s *listedStream) Resume() error { return nil }

// TestContexts: a stream belongs to the plugin that it was made for, ends once whatever Envoy calls how often, and outlives
// its plugin.
func TestContexts(t *testing.T) {
	envoyhost.Record()
	d := Register(nil)
	first, second := &listed{map[uint32]int{}}, &listed{map[uint32]int{}}
	for id, h := range map[uint32]*listed{1: first, 2: second, 3: nil} {
		d.OnContextCreate(id, 0)
		if h != nil {
			d.plugins[id].handler, d.plugins[id].number = h, 1
		}
	}
	d.OnContextCreate(10, 1)
	d.OnContextCreate(11, 2)
	d.OnContextCreate(12, 1)
	d.OnContextCreate(13, 3) // a plugin that has not started
	d.OnContextCreate(14, 9) // none
	for _, id := range []uint32{1, 13, 14} {
		if s := d.streams.get(id); s != nil {
			t.Errorf("context %d has a stream", id)
		}
		if d.end(id) {
			t.Errorf("context %d had a stream", id)
		}
	}
	if s := d.streams.get(10); s == nil || d.OnRequestHeaders(10, true) != envoyhost.Continue {
		t.Error("context 10 has no stream")
	}
	if !d.OnDone(1) || d.plugins[1] != nil || d.plugins[2] == nil { // it drains
		t.Error("the wrong plugin has ended")
	}
	d.OnContextCreate(15, 1)
	for _, id := range []uint32{10, 10, 11, 12, 12, 15} {
		if there := d.end(id); there != (id != 15) {
			t.Errorf("end(%d) = %v", id, there)
		}
	}
	if len(first.ends) != 2 || first.ends[10] != 1 || first.ends[12] != 1 || len(second.ends) != 1 || second.ends[11] != 1 {
		t.Errorf("ended: %v and %v", first.ends, second.ends)
	}
}
