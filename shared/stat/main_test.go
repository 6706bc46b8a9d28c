package stat

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/alibaba/sentinel-golang/logging"
)

// complaint is sentinel-golang's logger in these tests: its windows say in errors, and in nothing else, that they were
// fed what they drop.
type complaint struct{ n atomic.Int64 }

var complaints = new(complaint)

func (*complaint) Debug(string, ...any) {}
func (*complaint) DebugEnabled() bool   { return false }
func (*complaint) Info(string, ...any)  {}
func (*complaint) InfoEnabled() bool    { return false }
func (*complaint) Warn(string, ...any)  {}
func (*complaint) WarnEnabled() bool    { return false }
func (*complaint) ErrorEnabled() bool   { return true }
func (c *complaint) Error(err error, message string, _ ...any) {
	if c.n.Add(1) == 1 {
		fmt.Println("sentinel-golang:", message, err)
	}
}

func TestMain(m *testing.M) {
	if err := logging.ResetGlobalLogger(complaints); err != nil {
		panic(err)
	}
	code := m.Run()
	if n := complaints.n.Load(); n > 0 {
		fmt.Println("FAIL: sentinel-golang logged errors:", n)
		code = 1
	}
	os.Exit(code)
}
