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
	// Exceeded are the ids of the rules that have let it in with a word about it.
	Exceeded = "sentinel_exceeded"
)

// NameBlock leaves in the stream's filter state what refused it. An error is not worth more than a missing log field.
func NameBlock(b *engine.Block) { name(b, BlockedBy, BlockedFigure) }

// NameShadowBlock leaves there what would have refused it.
func NameShadowBlock(b *engine.Block) { name(b, ShadowBlockedBy, ShadowBlockedFigure) }

// NameExceeded leaves there which rules have let it in with a word about it.
func NameExceeded(rules []byte) { _ = setProperty(Exceeded, rules) }

func name(b *engine.Block, by, figure string) {
	named.are(b)
	_ = setProperty(by, named.by)
	_ = setProperty(figure, named.figure)
}

// named are the names of the last refusal: most are like the one before.
var named names

// names are what an access log prints of a refusal, and what Envoy gives as the details of its answer.
type names struct {
	of                  engine.Block
	by, figure, details []byte
}

// are makes the names those of a refusal.
func (n *names) are(b *engine.Block) {
	if n.of.Same(b) {
		return
	}
	n.of = *b
	n.by, n.figure = b.AppendBy(n.by[:0]), b.AppendFigure(n.figure[:0])
	n.details = append(append(append(n.details[:0], "sentinel{"...), n.by...), '}')
}
