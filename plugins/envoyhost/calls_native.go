//go:build !wasip1

package envoyhost

import (
	"time"

	"sentinel-envoy/shared/host"
)

// Outside Wasm there is no host; these let the packages be compiled for their tests and for vet.

const noHost status = 12 // the ABI's UNIMPLEMENTED

var start = time.Now()

func monotonic() int64 { return int64(time.Since(start)) + 1 }

func logLevel() host.Level { return host.Info }

// Begin is called at the beginning of each callback about a stream.
func Begin() {}

func header(headers, string) ([]byte, status) { return nil, noHost }

func property([]byte) ([]byte, status) { return nil, noHost }

func sharedData(string) ([]byte, uint32, status) { return nil, 0, noHost }

func setSharedData(string, []byte, uint32) status { return noHost }
