//go:build !tinygo

package vm

import "runtime/debug"

// garbagePercent is how much garbage there may be, in percent of what is in use, before it is collected. The memory of a Wasm
// VM never shrinks, so that the most that there ever was is what counts; and a request makes none.
const garbagePercent = 50

func collectEarly() { debug.SetGCPercent(garbagePercent) }
