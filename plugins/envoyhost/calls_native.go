//go:build !wasip1

package envoyhost

import (
	"time"

	"sentinel-envoy/shared/host"
)

// Outside Wasm the SDK's calls are mocks; these stand in for the two that it lacks.

var start = time.Now()

func monotonic() int64 { return int64(time.Since(start)) + 1 }

func logLevel() host.Level { return host.Info }
