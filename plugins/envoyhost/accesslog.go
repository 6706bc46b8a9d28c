package envoyhost

import "sentinel-envoy/shared/engine"

// What refused a stream, as filter state: the kind and id of the rule, as "flow:some-rule", and the figure that it saw with
// its threshold, as "50/50". An access log prints them with %FILTER_STATE(wasm.sentinel_blocked_by:PLAIN)% and
// %FILTER_STATE(wasm.sentinel_blocked_figure:PLAIN)%.
const (
	BlockedBy     = "sentinel_blocked_by"
	BlockedFigure = "sentinel_blocked_figure"
)

// NameBlock leaves in the stream's filter state what refused it. An error is not worth more than a missing log field.
func NameBlock(b *engine.Block) {
	_ = setProperty(BlockedBy, string(b.Reason)+":"+b.Rule)
	_ = setProperty(BlockedFigure, b.Figure())
}
