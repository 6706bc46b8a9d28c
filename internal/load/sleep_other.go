//go:build !linux

package load

import "time"

// nap sleeps for a time below coarse, as exactly as the runtime's timers do.
func nap(d time.Duration) { time.Sleep(d) }
