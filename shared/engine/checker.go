package engine

// checker is one rule as one filter applies it. Rules are asked in Sentinel's order: system, flow, isolation, hotspot,
// circuit breaker, and within a family in the order of the configuration.
type checker interface {
	// enter asks the rule about one entry at the time now, in nanoseconds. An error is a fault, and decides nothing.
	enter(now int64) (decision, error)
	// undo gives back what enter took, because a later rule refused or the entry left while it waited.
	undo(t token, now int64) error
	// exit tells how an entry ended whose decision asked for it: after rt milliseconds, and whether it failed.
	exit(t token, now int64, rt uint32, failed bool) error
	// id is the rule's.
	id() string
	// explain fills in what the rule knows of a block: its reason, id, threshold and measure.
	explain(b *Block)
	// counters are the rule's metrics.
	counters() *ruleCounters
	// release gives up what the rule holds of the VM.
	release()
}

// decision is a rule's answer.
type decision struct {
	ok bool
	// token is what undo and exit need of an entry that may pass, exit whether the rule wants to hear of its end.
	token token
	exit  bool
	// wakeAt is until when an entry that may pass has to wait, in nanoseconds, 0 if it need not.
	wakeAt int64
	// seen is the figure that the rule refused for, freeAt when asking again makes sense in nanoseconds, 0 if unknown.
	seen   float64
	freeAt int64
}

// token is what a rule must know of an entry later. Its meaning is the rule's.
type token struct {
	at int64
	id uint64
}

// ruleCounters are the metrics of one rule in one filter.
type ruleCounters struct {
	blocked, shadow counter
}

func newRuleCounters(resource, id string, kind Reason) ruleCounters {
	labels := ";resource=" + escape(resource) + ";rule=" + escape(id) + ";kind=" + string(kind)
	return ruleCounters{
		blocked: counter{name: "sentinel_blocked" + labels},
		shadow:  counter{name: "sentinel_shadow_blocked" + labels},
	}
}
