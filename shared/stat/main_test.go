package stat

import (
	"os"
	"testing"

	"sentinel-envoy/internal/sentinellog"
)

func TestMain(m *testing.M) { os.Exit(sentinellog.Run(m)) }
