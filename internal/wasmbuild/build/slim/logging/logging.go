// Package logging is what the plugin has in place of sentinel-golang's package of that name: what its statistics, and the
// plugin, use of it. The original writes JSON to a console or to files, with encoding/json, reflect and log, none of
// which is of use in Envoy. Until ResetGlobalLogger is called it says nothing. It also takes the place of fmt, and of the
// errors made with it, in files of which the plugin uses no other function.
package logging

import (
	"errors"
	"reflect"
	"strconv"
	"strings"
)

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

// New is an error with this text.
func New(text string) error { return errors.New(text) }

// Errorf is New with the text of Sprintf.
func Errorf(format string, values ...interface{}) error {
	return errors.New(Sprintf(format, values...))
}

// Sprintf is fmt's for whole numbers and texts: each verb takes the next value.
func Sprintf(format string, values ...interface{}) string {
	for _, v := range values {
		if i := strings.IndexByte(format, '%'); i >= 0 && i+1 < len(format) {
			format = format[:i] + text(reflect.ValueOf(v)) + format[i+2:]
		}
	}
	return format
}

func text(v reflect.Value) string {
	switch {
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10)
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10)
	}
	return v.String()
}
