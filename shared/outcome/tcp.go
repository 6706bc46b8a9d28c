package outcome

// Flags say what went wrong with a stream: the bits of Envoy's StreamInfo::CoreResponseFlag, its response.flags.
type Flags int64

const (
	noHealthyUpstream     Flags = 1 << 1  // UH
	localReset            Flags = 1 << 3  // LR
	upstreamReset         Flags = 1 << 4  // UR
	upstreamRefused       Flags = 1 << 5  // UF
	upstreamTermination   Flags = 1 << 6  // UC
	upstreamOverflow      Flags = 1 << 7  // UO
	durationTimeout       Flags = 1 << 22 // DT
	upstreamProtocolError Flags = 1 << 23 // UPE

	unreached = noHealthyUpstream | upstreamRefused
	brokeOff  = localReset | upstreamReset | upstreamTermination | upstreamProtocolError
)

// TCPEnd is what is known of a connection at its end.
type TCPEnd struct {
	Flags Flags
	// Asked is whether the client had sent something, Answered whether the upstream had, or had ended its side.
	Asked, Answered bool
	// WaitMs is the time in milliseconds from the last that the client had sent before the upstream's first, or from the
	// connection's beginning where it had sent nothing, to the upstream's first, or to the end where there was none.
	WaitMs int64
}

// TCP says how a connection ended, by what counts as a failure. That Envoy gave up an idle connection leaves no flag.
func (f *Failures) TCP(e TCPEnd) End {
	end := f.tcp(e)
	end.Connection = true
	return end
}

func (f *Failures) tcp(e TCPEnd) End {
	switch {
	case e.Flags&unreached != 0:
		return End{Outcome: either(f.Connect, Badly, Silent), ResponseMs: e.WaitMs}
	case e.Flags&brokeOff != 0:
		kept := either(e.Answered, Well, Silent)
		return End{Outcome: either(f.Resets, Badly, kept), ResponseMs: e.WaitMs}
	case e.Flags&upstreamOverflow != 0:
		return End{ResponseMs: NoTime}
	case e.Answered:
		return End{Outcome: either(e.Flags&durationTimeout != 0, Silent, Well), ResponseMs: e.WaitMs}
	case e.Asked:
		return f.inVain(e.WaitMs)
	}
	return End{ResponseMs: NoTime}
}

func either(cond bool, yes, no Outcome) Outcome {
	if cond {
		return yes
	}
	return no
}
