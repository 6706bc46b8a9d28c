package tcp

import (
	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/shared/answer"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/outcome"
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
	// asked is whether the client has sent something, hasty whether it had while it waited.
	asked, hasty bool
	// message is what the client of a refused connection is to get, before the deadline in nanoseconds.
	message  string
	deadline int64
}

// OnNewConnection implements vm.Stream: the connection enters its resource, or is closed.
func (c *connection) OnNewConnection() envoyhost.Action {
	c.Plugin.Current()
	c.Plugin.Stream.Begin()
	in := c.handler.resolver.Resolve()
	c.Plugin.Unnamed.N = c.handler.resolver.Unnamed
	return c.Enter(in)
}

// Resume implements vm.Stream.
func (*connection) Resume() error { return envoyhost.ResumeConnection() }

// Refuse implements vm.Stream: the connection is closed, at once or after its message.
func (c *connection) Refuse(b *engine.Block, now int64) envoyhost.Action {
	cfg := &c.Plugin.Config().Block
	if cfg.FilterState {
		envoyhost.NameBlock(b)
	}
	if !cfg.TCPMessage || b.Reason == engine.Unavailable || c.hasty || len(c.handler.closing) >= maxClosing {
		c.close()
		return envoyhost.Pause
	}
	// Only bytes that come from the upstream can be changed on their way to the client: it must be let connect.
	c.message = c.text(b, now)
	c.deadline = now + messageWaitMs*1e6
	c.handler.closing[c.Context()] = c
	return envoyhost.Continue
}

// text is what the client is told.
func (c *connection) text(b *engine.Block, now int64) string {
	body := answer.Merge(c.Plugin.Config().Block.Block, b.OfResource, b.ByRule).Body
	if body == "" {
		return string(c.Plugin.Explain(b, now).AppendText(nil))
	}
	v := answer.Values{Rule: b.Rule, Kind: b.Reason, Resource: b.Resource, RetryAfter: b.RetryAfter()}
	return string(answer.NewText(body, "").Append(nil, &v))
}

// OnDownstreamData implements vm.Stream: nothing of a refused client's is forwarded. A client that speaks first
// waits for an answer that will not come.
func (c *connection) OnDownstreamData(int) envoyhost.Action {
	if c.Waits() {
		c.hasty = true
		return envoyhost.Pause
	}
	if !c.Refused() {
		c.observeClient()
		return envoyhost.Continue
	}
	if c.message != "" {
		c.close()
	}
	return envoyhost.Pause
}

// OnUpstreamData implements vm.Stream: a refused client gets the message in place of the first data.
func (c *connection) OnUpstreamData(size int, last bool) envoyhost.Action {
	if !c.Refused() {
		c.observeUpstream(size > 0 || last)
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

// observeClient reports what the client sends, until there is an answer.
func (c *connection) observeClient() {
	c.asked = true
	if c.Entry.InFlight() && !c.Entry.HasAnswer() {
		c.Entry.Sent(envoyhost.Now())
	}
}

// observeUpstream reports, once, that the upstream speaks, or ends its side without a word.
func (c *connection) observeUpstream(speaks bool) {
	if !speaks || c.Entry.HasAnswer() || !c.Entry.InFlight() {
		return
	}
	now := envoyhost.Now()
	c.Entry.Answered(now)
	if c.Entry.AwaitsAnswer() {
		c.Entry.Answers(outcome.Well, now)
	}
}

// close closes the client's connection, after what is on its way.
func (c *connection) close() {
	delete(c.handler.closing, c.Context())
	if err := envoyhost.CloseDownstream(); err != nil {
		c.Plugin.Fault("closing a connection", err)
	}
}

// OnEnd implements vm.Stream: the connection leaves its resource.
func (c *connection) OnEnd() {
	delete(c.handler.closing, c.Context())
	c.handler.spares.Put(c)
	if !c.Entry.InFlight() {
		return
	}
	now := envoyhost.Now()
	c.Entry.Exit(now, c.Plugin.Config().Failures.TCP(outcome.TCPEnd{
		Flags: envoyhost.ResponseFlags(), Asked: c.asked, Answered: c.Entry.HasAnswer(), WaitMs: c.Entry.WaitMs(now),
	}))
}
