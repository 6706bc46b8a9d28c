// Package sentinellog listens to sentinel-golang's log in tests: its windows say in errors, and in nothing else, that they
// were fed what they drop.
package sentinellog

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/alibaba/sentinel-golang/logging"
)

// logger counts errors and prints the first.
type logger struct{ errors atomic.Int64 }

func (*logger) Debug(string, ...any) {}
func (*logger) DebugEnabled() bool   { return false }
func (*logger) Info(string, ...any)  {}
func (*logger) InfoEnabled() bool    { return false }
func (*logger) Warn(string, ...any)  {}
func (*logger) WarnEnabled() bool    { return false }
func (*logger) ErrorEnabled() bool   { return true }
func (l *logger) Error(err error, message string, _ ...any) {
	if l.errors.Add(1) == 1 {
		fmt.Println("sentinel-golang:", message, err)
	}
}

// Logger is the logger, for those who initialize sentinel-golang: to do so sets it anew.
var Logger logging.Logger = listener

var listener = new(logger)

// Run runs a package's tests, for its TestMain, and returns the exit code: 1 also where sentinel-golang logged an error.
func Run(m *testing.M) (code int) {
	if err := logging.ResetGlobalLogger(listener); err != nil {
		fmt.Println(err)
		return 1
	}
	code = m.Run()
	if n := listener.errors.Load(); n > 0 {
		fmt.Println("FAIL: sentinel-golang logged errors:", n)
		return 1
	}
	return code
}
