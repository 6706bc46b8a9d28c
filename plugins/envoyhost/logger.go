package envoyhost

import (
	"github.com/alibaba/sentinel-golang/logging"

	"sentinel-envoy/shared/host"
)

// SentinelLogger makes what sentinel-golang logs a message of Envoy's; by itself it would write to standard output.
type SentinelLogger struct{}

var _ logging.Logger = SentinelLogger{}

// Debug implements logging.Logger.
func (SentinelLogger) Debug(msg string, pairs ...any) { logAt(host.Debug, line(nil, msg, pairs)) }

// DebugEnabled implements logging.Logger.
func (SentinelLogger) DebugEnabled() bool { return false }

// Info implements logging.Logger.
func (SentinelLogger) Info(msg string, pairs ...any) { logAt(host.Info, line(nil, msg, pairs)) }

// InfoEnabled implements logging.Logger.
func (SentinelLogger) InfoEnabled() bool { return false }

// Warn implements logging.Logger.
func (SentinelLogger) Warn(msg string, pairs ...any) { logAt(host.Warn, line(nil, msg, pairs)) }

// WarnEnabled implements logging.Logger.
func (SentinelLogger) WarnEnabled() bool { return true }

// Error implements logging.Logger.
func (SentinelLogger) Error(err error, msg string, pairs ...any) {
	logAt(host.Error, line(err, msg, pairs))
}

// ErrorEnabled implements logging.Logger.
func (SentinelLogger) ErrorEnabled() bool { return true }

func line(err error, msg string, pairs []any) string {
	text := "sentinel-golang: " + msg
	if err != nil {
		text += ": " + err.Error()
	}
	for _, p := range pairs {
		text += " " + host.Text(p)
	}
	return text
}
