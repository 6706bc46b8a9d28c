package envoyhost

import "sentinel-envoy/shared/engine"

// What refused a stream, as filter state: the kind and id of the rule, as "flow:some-rule", and the figure that it saw with
// its threshold, as "50/50"; and what would have refused it in a filter that enforces. An access log prints them with
// %FILTER_STATE(wasm.sentinel_blocked_by:PLAIN)% and so on.
const (
	BlockedBy           = "sentinel_blocked_by"
	BlockedFigure       = "sentinel_blocked_figure"
	ShadowBlockedBy     = "sentinel_shadow_blocked_by"
	ShadowBlockedFigure = "sentinel_shadow_blocked_figure"
)

// NameBlock leaves in the stream's filter state what refused it. An error is not worth more than a missing log field.
func NameBlock(b *engine.Block) { name(b, BlockedBy, BlockedFigure) }

// NameShadowBlock leaves there what would have refused it.
func NameShadowBlock(b *engine.Block) { name(b, ShadowBlockedBy, ShadowBlockedFigure) }

// named is what a property is set to, void with the next one.
var named []byte

func name(b *engine.Block, by, figure string) {
	named = b.AppendBy(named[:0])
	_ = setProperty(by, named)
	named = b.AppendFigure(named[:0])
	_ = setProperty(figure, named)
}
