package tcp

import (
	"fmt"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/shared/engine"
)

const (
	// messageWaitMs is how long a blocked connection waits for the upstream to speak, so that the block message can take
	// the place of its first data, in milliseconds.
	messageWaitMs = 1000
	// maxWaiting bounds the blocked connections that wait; beyond it they are closed without a message.
	maxWaiting = 1024
)

// connection is one client's connection.
type connection struct {
	vm.NoStream
	filter *filter
	id     uint32
	entry  engine.Entry
	// answered is whether the upstream has sent something.
	answered bool
	place    vm.Place
	// spoken is whether the client has sent something while it waited.
	spoken bool
	// blocked is whether nothing of the client's may reach the upstream; message is what the client is to get, before the
	// deadline in nanoseconds.
	blocked  bool
	message  string
	deadline int64
}

// OnNewConnection implements vm.Stream: the connection enters its resource, or is closed.
func (c *connection) OnNewConnection() (action types.Action) {
	defer func() {
		if r := recover(); r != nil {
			action = c.refuse(c.filter.Unavailable(fmt.Errorf("panic: %v", r)), 0)
		}
	}()
	c.filter.Stream.Begin()
	name := c.filter.resolver.Resolve()
	if name == "" {
		return types.ActionContinue
	}
	now := c.filter.Now()
	return c.proceed(c.filter.Enter(name, now, &c.entry), now)
}

// proceed closes, forwards or holds back a connection by what its entry says.
func (c *connection) proceed(b *engine.Block, now int64) types.Action {
	until, waits := c.entry.Waiting()
	if b != nil || !waits {
		return c.refuse(b, now)
	}
	if err := c.filter.queue.Add(&c.place, c, c.id, until); err != nil {
		c.filter.Fault("waiting", err) // the next ordinary tick lets it go on
	}
	return types.ActionPause
}

// Turn implements vm.Waiter: the connection has waited. What its client has sent meanwhile goes on with it.
func (c *connection) Turn(now int64) {
	action := types.ActionPause
	defer func() {
		if r := recover(); r != nil {
			action = c.refuse(c.filter.Unavailable(fmt.Errorf("panic: %v", r)), 0)
		}
		if action == types.ActionContinue {
			if err := proxywasm.ContinueTcpStream(); err != nil {
				c.filter.Fault("resuming a connection", err)
			}
		}
	}()
	action = c.proceed(c.entry.Resume(now), now)
}

// refuse closes a blocked connection, at once or after its message.
func (c *connection) refuse(b *engine.Block, now int64) types.Action {
	if b == nil {
		return types.ActionContinue
	}
	c.blocked = true
	envoyhost.NameBlock(b)
	cfg := &c.filter.Config().Block
	if !cfg.TCPMessage || b.Reason == engine.Unavailable || c.spoken || len(c.filter.waiting) >= maxWaiting {
		c.close()
		return types.ActionPause
	}
	// Only bytes that come from the upstream can be changed on their way to the client: it must be let connect.
	if c.message = cfg.Body; c.message == "" {
		c.message = c.filter.Explain(b, now)
	}
	c.deadline = now + messageWaitMs*1e6
	c.filter.waiting[c.id] = c
	return types.ActionContinue
}

// OnDownstreamData implements vm.Stream: nothing of a blocked client's is forwarded. A client that speaks first
// waits for an answer that will not come.
func (c *connection) OnDownstreamData(int) types.Action {
	if c.place.Waits() {
		c.spoken = true
		return types.ActionPause
	}
	if !c.blocked {
		return types.ActionContinue
	}
	if c.message != "" {
		c.close()
	}
	return types.ActionPause
}

// OnUpstreamData implements vm.Stream: a blocked client gets the message in place of the first data.
func (c *connection) OnUpstreamData(size int) types.Action {
	if !c.blocked {
		c.hear(size)
		return types.ActionContinue
	}
	message := c.message
	c.message = ""
	if message == "" {
		return types.ActionPause
	}
	if err := proxywasm.ReplaceUpstreamData([]byte(message)); err != nil {
		c.filter.Fault("writing a block message", err)
	}
	c.deadline = 0 // the next tick closes: now it would be before the message is on its way
	return types.ActionContinue
}

// hear takes note, once, that the upstream speaks.
func (c *connection) hear(size int) {
	if c.answered || size == 0 || !c.entry.InFlight() {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			c.filter.Fault("hearing from the upstream", fmt.Errorf("panic: %v", r))
		}
	}()
	c.answered = true
	if c.entry.AwaitsAnswer() {
		c.entry.Answers(c.filter.Now())
	}
}

// close closes the client's connection, after what is on its way.
func (c *connection) close() {
	delete(c.filter.waiting, c.id)
	if err := proxywasm.CloseDownstream(); err != nil {
		c.filter.Fault("closing a connection", err)
	}
}

// failed is whether the connection that is ending failed: by default where the upstream could not be reached or reset it.
// An end from either side is no failure.
func (f *filter) failed() bool {
	flags, failures := envoyhost.ResponseFlags(), &f.Config().Failures
	return failures.Connect && flags.Unreached() || failures.Resets && flags.BrokeOff()
}

// OnEnd implements vm.Stream: the connection leaves its resource.
func (c *connection) OnEnd() {
	defer func() {
		if r := recover(); r != nil {
			c.filter.Fault("ending a connection", fmt.Errorf("panic: %v", r))
		}
	}()
	delete(c.filter.waiting, c.id)
	c.filter.queue.Remove(&c.place)
	if c.entry.InFlight() {
		c.entry.Exit(c.filter.Now(), c.filter.failed())
	}
}
