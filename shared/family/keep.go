package family

import "sentinel-envoy/shared/persist"

// Part is a part of what a kind keeps: it adds to a snapshot what the records say at the time now, in nanoseconds. An error is
// the host's.
type Part interface {
	Keep(s *persist.Snapshot, now int64) error
}

// Keeper is a kind some of whose counts outlive the process. What it keeps is in records, whose ids say it all: so it takes
// over what other workers' rules count, or rules that come later.
type Keeper interface {
	Kind
	// Parts calls f with each part of what is kept.
	Parts(f func(Part))
	// Sound is whether an entry is one of this kind's, and whether that makes sense.
	Sound(e persist.Entry) (mine, sound bool)
	// Restore adds what a sound entry of this kind's says, whose times are at's process's, at the time now in nanoseconds. An
	// error is the host's, or the record's.
	Restore(e persist.Entry, at *persist.Shift, now int64) error
	// Refresh takes over what must be the same in all workers, while a document is being restored.
	Refresh(now int64) error
}
