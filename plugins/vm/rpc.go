package vm

import (
	"slices"

	"sentinel-envoy/plugins/envoyhost"
)

// OnGrpcReceive is called with the answer to a call, which has size bytes.
func (d *Dispatcher) OnGrpcReceive(token uint32, size int) {
	d.answer(func() { envoyhost.AnswerRPC(token, size) })
}

// OnGrpcClose is called when a call has ended without an answer, with a status of gRPC's.
func (d *Dispatcher) OnGrpcClose(token, status uint32) {
	d.answer(func() { envoyhost.EndRPC(token, status) })
}

// answer takes the end of a call, and then asks anew for the streams that have waited for it.
func (d *Dispatcher) answer(take func()) {
	envoyhost.Begin()
	defer recoverPanic(func(err error) { d.engine.Fault("taking an answer", err) })
	take()
	now := envoyhost.Now()
	for _, p := range slices.Clone(d.awake) {
		p.try(now, p.resumeAnswered)
	}
}

func (p *Plugin) resumeAnswered(now int64) { p.waiting.answered(p.Filter, now) }
