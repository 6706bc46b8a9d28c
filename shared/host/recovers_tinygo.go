//go:build tinygo

package host

// Recovers is described beside its other value.
const Recovers = false
