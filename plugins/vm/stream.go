package vm

import (
	"errors"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/resource"
)

// Stream is a request or a connection, in those of Envoy's callbacks that the filters need. It embeds Base.
type Stream interface {
	// OnRequestHeaders is called with the headers of a request, and OnRequestData with what follows them. last is whether
	// nothing follows.
	OnRequestHeaders(last bool) envoyhost.Action
	OnRequestData(last bool) envoyhost.Action
	// OnResponseHeaders is called with the headers of a response, the upstream's or Envoy's, OnResponseTrailers with its
	// trailers.
	OnResponseHeaders()
	OnResponseTrailers()
	// OnNewConnection is called when a client has connected, OnDownstreamData and OnUpstreamData with what the client and
	// the upstream have sent, so many bytes of it; last is whether nothing follows.
	OnNewConnection() envoyhost.Action
	OnDownstreamData(size int) envoyhost.Action
	OnUpstreamData(size int, last bool) envoyhost.Action
	// OnEnd is called once, with what the access log knows of the stream. The stream is not used after it.
	OnEnd()

	// Refuse answers or closes a stream that may not enter its resource at the time now in nanoseconds, 0 where it is not
	// known. The stream goes on as it returns.
	Refuse(b *engine.Block, now int64) envoyhost.Action
	// Annotate tells the upstream which rules a stream has exceeded that goes on now.
	Annotate(rules []string)
	// Resume lets the stream go on after a pause.
	Resume() error
}

// Base is what all streams have: an entry into a resource and, while it is held back, a place among the plugin's streams
// that wait. By itself it lets everything pass.
type Base struct {
	Plugin *Plugin
	Entry  engine.Entry

	stream  Stream
	context uint32
	refused bool
	// until is when a stream that waits may go on, in nanoseconds, and place its index among them plus one, 0 if it does not.
	until int64
	place int
}

// errNotAwake means that a filter could not be woken.
var errNotAwake = errors.New("the filter is parked")

// Init makes the base that of a new stream, which may have been another's before. context is the id of its context.
func (b *Base) Init(p *Plugin, s Stream, context uint32) {
	b.Plugin, b.stream, b.context, b.refused = p, s, context, false
}

// Context is the id of the stream's context.
func (b *Base) Context() uint32 { return b.context }

// Waits is whether the stream is held back until its turn.
func (b *Base) Waits() bool { return b.place > 0 }

// Refused is whether the stream may not enter its resource.
func (b *Base) Refused() bool { return b.refused }

// Enter asks whether the stream may enter its resource, and refuses it, lets it go on or holds it back. What is in none, or
// unlimited, goes on.
func (b *Base) Enter(in *resource.Taken) envoyhost.Action {
	if in.Exempt {
		b.Plugin.Exempt(in.Name)
		return envoyhost.Continue
	}
	if b.Plugin.Awaiting() {
		return b.refuse(b.Plugin.Await(in.Name), 0)
	}
	if in.Name == "" {
		b.Plugin.Unguarded()
		return envoyhost.Continue
	}
	if b.Plugin.Parked() && !b.Plugin.wake() { // parked after the stream was made, which others have held back
		action := envoyhost.Continue
		b.fail(errNotAwake, &action)
		return action
	}
	now := envoyhost.Now()
	if len(in.Before) > 0 {
		return b.proceed(b.Plugin.EnterAll(in.Before, in.Name, now, &b.Entry), now)
	}
	return b.proceed(b.Plugin.Enter(in.Name, now, &b.Entry), now)
}

// proceed does what the entry says. While a request is held back Envoy buffers what there is of its body, up to the
// connection's buffer limit, and then stops reading.
func (b *Base) proceed(block *engine.Block, now int64) envoyhost.Action {
	if block != nil {
		return b.refuse(block, now)
	}
	if spared := b.Entry.Spared(); spared != nil {
		envoyhost.NameShadowBlock(spared)
	}
	until, waits := b.Entry.Waiting()
	if !waits {
		if exceeded := b.Entry.Exceeded(); len(exceeded) > 0 {
			b.stream.Annotate(exceeded)
		}
		return envoyhost.Continue
	}
	if err := b.Plugin.waiting.add(b, until); err != nil {
		b.Plugin.Fault("waiting", err) // the next ordinary tick lets it go on
	}
	return envoyhost.Pause
}

func (b *Base) refuse(block *engine.Block, now int64) envoyhost.Action {
	b.refused = true
	return b.stream.Refuse(block, now)
}

// turn lets the stream proceed, which has waited.
func (b *Base) turn(now int64) {
	if b.resume(now) != envoyhost.Continue {
		return
	}
	if err := b.stream.Resume(); err != nil {
		b.Plugin.Fault("resuming a stream", err)
	}
}

func (b *Base) resume(now int64) (action envoyhost.Action) {
	if host.Recovers {
		defer recoverPanic(func(err error) { b.fail(err, &action) })
	}
	return b.proceed(b.Entry.Resume(now), now)
}

// fail does with a stream that could not be decided what the failure mode says.
func (b *Base) fail(err error, action *envoyhost.Action) {
	*action = envoyhost.Pause // where refusing it fails too, it is at least held back
	b.Plugin.waiting.remove(b)
	if block := b.Plugin.Unavailable(err); block != nil {
		*action = b.refuse(block, 0)
		return
	}
	*action = envoyhost.Continue
}

// failData keeps the data of a stream from going where it must not, after a panic.
func (b *Base) failData(err error, action *envoyhost.Action) {
	if *action = envoyhost.Continue; b.refused || b.Waits() {
		*action = envoyhost.Pause
	}
	b.Plugin.Fault("passing data", err)
}

// end takes the stream out of the queue, where it must not be when it is used for another, and ends it. It leaves its
// resource whatever happens.
func (b *Base) end() {
	done := false
	if host.Recovers {
		defer func() {
			if !done {
				recovered(recover(), b.failEnd)
			}
		}()
	}
	b.Plugin.waiting.remove(b)
	b.stream.OnEnd()
	done = true
}

func (b *Base) failEnd(err error) {
	b.Plugin.Fault("ending a stream", err)
	b.Entry.Exit(envoyhost.Now(), outcome.End{ResponseMs: outcome.NoTime})
}

// Annotate implements Stream.
func (*Base) Annotate([]string) {}

// OnRequestHeaders implements Stream.
func (*Base) OnRequestHeaders(bool) envoyhost.Action { return envoyhost.Continue }

// OnRequestData implements Stream.
func (*Base) OnRequestData(bool) envoyhost.Action { return envoyhost.Continue }

// OnResponseHeaders implements Stream.
func (*Base) OnResponseHeaders() {}

// OnResponseTrailers implements Stream.
func (*Base) OnResponseTrailers() {}

// OnNewConnection implements Stream.
func (*Base) OnNewConnection() envoyhost.Action { return envoyhost.Continue }

// OnDownstreamData implements Stream.
func (*Base) OnDownstreamData(int) envoyhost.Action { return envoyhost.Continue }

// OnUpstreamData implements Stream.
func (*Base) OnUpstreamData(int, bool) envoyhost.Action { return envoyhost.Continue }
