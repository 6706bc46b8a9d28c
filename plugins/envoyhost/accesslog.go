package envoyhost

import (
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

	"sentinel-envoy/shared/engine"
)

// BlockedBy is the filter state that names what refused a stream, as "flow:some-rule". An access log prints it with
// %FILTER_STATE(wasm.sentinel_blocked_by:PLAIN)%.
const BlockedBy = "sentinel_blocked_by"

// NameBlock leaves in the stream's filter state what refused it. An error is not worth more than a missing log field.
func NameBlock(b *engine.Block) {
	_ = proxywasm.SetProperty([]string{BlockedBy}, []byte(string(b.Reason)+":"+b.Rule))
}
