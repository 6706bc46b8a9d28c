package tcp

import (
	"fmt"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"sentinel-envoy/plugins/envoyhost"
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
	types.DefaultTcpContext
	filter *filter
	id     uint32
	entry  engine.Entry
	// blocked is whether nothing of the client's may reach the upstream; message is what the client is to get.
	blocked  bool
	message  string
	deadline int64
}

// OnNewConnection implements types.TcpContext: the connection enters its resource, or is closed.
func (c *connection) OnNewConnection() (action types.Action) {
	defer func() {
		if r := recover(); r != nil {
			action = c.refuse(c.filter.Unavailable(fmt.Errorf("panic: %v", r)), 0)
		}
	}()
	name := c.filter.resolver.Resolve(peer{})
	if name == "" {
		return types.ActionContinue
	}
	now := c.filter.Now()
	return c.refuse(c.filter.Enter(name, now, &c.entry), now)
}

// refuse closes a blocked connection, at once or after its message.
func (c *connection) refuse(b *engine.Block, now int64) types.Action {
	if b == nil {
		return types.ActionContinue
	}
	c.blocked = true
	envoyhost.NameBlock(b)
	cfg := &c.filter.Config().Block
	if !cfg.TCPMessage || b.Reason == engine.Unavailable || len(c.filter.waiting) >= maxWaiting {
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

// OnDownstreamData implements types.TcpContext: nothing of a blocked client's is forwarded. A client that speaks first
// waits for an answer that will not come.
func (c *connection) OnDownstreamData(int, bool) types.Action {
	if !c.blocked {
		return types.ActionContinue
	}
	if c.message != "" {
		c.close()
	}
	return types.ActionPause
}

// OnUpstreamData implements types.TcpContext: a blocked client gets the message in place of the first data.
func (c *connection) OnUpstreamData(size int, _ bool) types.Action {
	if !c.blocked {
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
	c.close()
	return types.ActionContinue
}

// close closes the client's connection, after what is on its way.
func (c *connection) close() {
	delete(c.filter.waiting, c.id)
	if err := proxywasm.CloseDownstream(); err != nil {
		c.filter.Fault("closing a connection", err)
	}
}

// OnStreamDone implements types.TcpContext: the connection leaves its resource.
func (c *connection) OnStreamDone() {
	defer func() {
		if r := recover(); r != nil {
			c.filter.Fault("ending a connection", fmt.Errorf("panic: %v", r))
		}
	}()
	delete(c.filter.waiting, c.id)
	if c.entry.InFlight() {
		// An upstream that refused or reset the connection is a failure, an end from either side is not.
		c.entry.Exit(c.filter.Now(), envoyhost.ResponseFlags().BrokeOff())
	}
}
