package tcp

import (
	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/shared/engine"
)

const (
	// messageWaitMs is how long a refused connection waits for the upstream to speak, so that the block message can take
	// the place of its first data, in milliseconds.
	messageWaitMs = 1000
	// maxClosing bounds the refused connections that wait; beyond it they are closed without a message.
	maxClosing = 1024
)

// connection is one client's connection.
type connection struct {
	vm.Base
	handler *handler
	// upstreamSpoke is whether the upstream has sent something, clientSpoke whether the client has while it waited.
	upstreamSpoke, clientSpoke bool
	// message is what the client of a refused connection is to get, before the deadline in nanoseconds.
	message  string
	deadline int64
}

// OnNewConnection implements vm.Stream: the connection enters its resource, or is closed.
func (c *connection) OnNewConnection() envoyhost.Action {
	c.Plugin.Stream.Begin()
	name := c.handler.resolver.Resolve()
	c.Plugin.Unnamed.N = c.handler.resolver.Unnamed
	if name == "" {
		return envoyhost.Continue
	}
	return c.Enter(name)
}

// Resume implements vm.Stream.
func (*connection) Resume() error { return envoyhost.ResumeConnection() }

// Refuse implements vm.Stream: the connection is closed, at once or after its message.
func (c *connection) Refuse(b *engine.Block, now int64) envoyhost.Action {
	envoyhost.NameBlock(b)
	cfg := &c.Plugin.Config().Block
	if !cfg.TCPMessage || b.Reason == engine.Unavailable || c.clientSpoke || len(c.handler.closing) >= maxClosing {
		c.close()
		return envoyhost.Pause
	}
	// Only bytes that come from the upstream can be changed on their way to the client: it must be let connect.
	if c.message = cfg.Body; c.message == "" {
		c.message = c.Plugin.Explain(b, now)
	}
	c.deadline = now + messageWaitMs*1e6
	c.handler.closing[c.Context()] = c
	return envoyhost.Continue
}

// OnDownstreamData implements vm.Stream: nothing of a refused client's is forwarded. A client that speaks first
// waits for an answer that will not come.
func (c *connection) OnDownstreamData(int) envoyhost.Action {
	if c.Waits() {
		c.clientSpoke = true
		return envoyhost.Pause
	}
	if !c.Refused() {
		return envoyhost.Continue
	}
	if c.message != "" {
		c.close()
	}
	return envoyhost.Pause
}

// OnUpstreamData implements vm.Stream: a refused client gets the message in place of the first data.
func (c *connection) OnUpstreamData(size int) envoyhost.Action {
	if !c.Refused() {
		c.observeAnswer(size)
		return envoyhost.Continue
	}
	message := c.message
	c.message = ""
	if message == "" {
		return envoyhost.Pause
	}
	if err := envoyhost.ReplaceUpstreamData([]byte(message)); err != nil {
		c.Plugin.Fault("writing a block message", err)
	}
	c.deadline = 0 // the next tick closes: now it would be before the message is on its way
	return envoyhost.Continue
}

// observeAnswer reports, once, that the upstream speaks.
func (c *connection) observeAnswer(size int) {
	if c.upstreamSpoke || size == 0 || !c.Entry.InFlight() {
		return
	}
	c.upstreamSpoke = true
	if c.Entry.AwaitsAnswer() {
		c.Entry.Answers(envoyhost.Now())
	}
}

// close closes the client's connection, after what is on its way.
func (c *connection) close() {
	delete(c.handler.closing, c.Context())
	if err := envoyhost.CloseDownstream(); err != nil {
		c.Plugin.Fault("closing a connection", err)
	}
}

// failed is whether the connection that is ending failed: by default where the upstream could not be reached or reset it.
// An end from either side is no failure.
func (c *connection) failed() bool {
	flags, failures := envoyhost.ResponseFlags(), &c.Plugin.Config().Failures
	return failures.Connect && flags.Unreached() || failures.Resets && flags.BrokeOff()
}

// OnEnd implements vm.Stream: the connection leaves its resource.
func (c *connection) OnEnd() {
	delete(c.handler.closing, c.Context())
	if c.Entry.InFlight() {
		c.Entry.Exit(envoyhost.Now(), c.failed())
	}
}
