package envoyhost

import (
	"strconv"

	"sentinel-envoy/shared/host"
)

// status is what the host answers a call with, in Proxy-Wasm's numbers.
type status uint32

const (
	ok          status = 0
	notFound    status = 1
	empty       status = 7
	casMismatch status = 8
)

// err is the error that the core knows a status by, nil for ok.
func (s status) err() error {
	switch s {
	case ok:
		return nil
	case notFound:
		return host.ErrNotFound
	case empty:
		return host.ErrEmpty
	case casMismatch:
		return host.ErrCASMismatch
	}
	return statusError(s)
}

// statusError is a status that has no name in the core.
type statusError status

func (e statusError) Error() string { return "the host answered with status " + strconv.Itoa(int(e)) }
