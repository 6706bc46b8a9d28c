package load

import (
	"syscall"
	"time"
)

// nap sleeps for a time below coarse, to some 50 µs. The runtime's own timers wait for whole milliseconds while a program
// is idle, and that would be the better part of every latency measured here.
func nap(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil) // waking early is allowed
}
