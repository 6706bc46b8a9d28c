// Package logging is what the plugin has in place of sentinel-golang's package of that name: what its statistics, and the
// plugin, use of it. The original writes JSON to a console or to files, with encoding/json, reflect and log, none of
// which is of use in Envoy. Until ResetGlobalLogger is called it says nothing.
package logging

import "errors"

// Logger takes messages with a list of keys and values. (It is compiled as Go 1.13, like the module it goes into: no any.)
type Logger interface {
	Debug(msg string, keysAndValues ...interface{})
	DebugEnabled() bool
	Info(msg string, keysAndValues ...interface{})
	InfoEnabled() bool
	Warn(msg string, keysAndValues ...interface{})
	WarnEnabled() bool
	Error(err error, msg string, keysAndValues ...interface{})
	ErrorEnabled() bool
}

var global Logger

// ResetGlobalLogger sets where messages go. It returns an error for nil.
func ResetGlobalLogger(l Logger) error {
	if l == nil {
		return errors.New("nil logger")
	}
	global = l
	return nil
}

// Error gives a message to the global logger.
func Error(err error, msg string, keysAndValues ...interface{}) {
	if global != nil {
		global.Error(err, msg, keysAndValues...)
	}
}
