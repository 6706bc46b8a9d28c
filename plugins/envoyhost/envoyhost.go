// Package envoyhost is Envoy as a plugin sees it: all that is called of Envoy, through the Proxy-Wasm SDK or past it, and
// the callbacks of the SDK that are about plugins. No other package knows the SDK. Outside Wasm a Recorder takes Envoy's
// place.
package envoyhost

// Action is what Envoy does with a stream after a callback, in Proxy-Wasm's numbers.
type Action uint32

// The actions.
const (
	// Continue lets what the callback was about go on.
	Continue Action = 0
	// Pause holds it back, until the stream is resumed, answered or closed.
	Pause Action = 1
)

// VM is what Register makes known to Envoy.
type VM interface {
	// OnStart is called with the size of the VM's configuration in bytes, once for each plugin. False keeps that from
	// starting.
	OnStart(configSize int) bool
	// NewPlugin returns the plugin of a new context.
	NewPlugin(context uint32) Plugin
}

// Plugin is one filter with one configuration.
type Plugin interface {
	// OnStart is called with the size of the plugin's configuration in bytes. False keeps it from starting.
	OnStart(configSize int) bool
	// OnTick is called in the period that SetTickPeriod has set.
	OnTick()
	// OnDone is called when the plugin has been replaced or removed.
	OnDone()
}

// Register makes vm the one that Envoy starts. It must be called in an init.
func Register(vm VM) { register(vm) }
