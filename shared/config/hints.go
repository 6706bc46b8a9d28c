package config

import (
	"strings"

	"github.com/buger/jsonparser"
)

// renamed is a key of another Sentinel's documents, and what to write for it here.
type renamed struct {
	list string // whose elements have it; "" is the document itself
	key  string
	hint string
}

// renames are names of Java Sentinel's documents, of its gateway adapters and of its dashboard that are not read as they
// are, and one of sentinel-golang's past.
var renames = []renamed{
	{"", "degradeRules", "write circuitBreakerRules; the rules in it may stay as they are"},
	{"", "paramFlowRules", "write hotspotRules; the rules in it may stay as they are"},
	{"", "rules", "write its content in its place"},
	{"", "gatewayFlowRules", gateway},
	{"", "apiDefinitions", gateway},

	{"flowRules", "resourceMode", gateway},
	{"flowRules", "intervalSec", gateway},
	{"flowRules", "interval", gateway},
	{"flowRules", "intervalUnit", gateway},
	{"flowRules", "maxQueueingTimeoutMs", gateway},
	{"flowRules", "paramItem", gateway},
	{"resources", "apiName", "write name"},
	{"resources", "predicateItems", `write match, an entry for each item: {"path": {"exact": …}}, or prefix or regex for its matchStrategy 1 or 2`},

	{"specificItems", "object", "write valStr"},
	{"specificItems", "count", "write threshold"},
	{"specificItems", "classType", "write valKind: 0 for int, long and byte, 1 for String and char, 2 for boolean, 3 for double and float"},

	{"systemRules", "adaptiveStrategy", "write strategy"},
}

const gateway = "a gateway's rule becomes one of ours by sentinel convert --from gateway"

// listOfRule is the key of the list that a place in a rule belongs to, "" where it is in none.
func listOfRule(at *place) string {
	for at = at.parent; at != nil; at = at.parent {
		if at.index >= 0 {
			return at.parent.key
		}
	}
	return ""
}

// renameOf is what to write for the key at a place; "" when it is nobody's.
func renameOf(at *place) string {
	list := listOfRule(at)
	if list == "" && at.parent.parent != nil {
		return "" // of an object in no list
	}
	for _, r := range renames {
		if r.key == at.key && r.list == list {
			return r.hint
		}
	}
	return ""
}

// isDashboards is whether a key is the dashboard's own, in a rule, or Java Sentinel's of before 1.8.
func isDashboards(at *place) bool {
	switch at.key {
	case "app", "ip", "port", "gmtCreate", "gmtModified", "key", "cut", "passCount", "rtSlowRequestAmount":
		return strings.HasSuffix(listOfRule(at), "Rules") && (at.parent.index >= 0 || at.parent.key == "rule")
	}
	return false
}

// unknown reads a key that is not the fields': what the dashboard writes beside a rule is nothing to us, and what it wraps
// in `rule` counts as if it stood there. Of others it says what they should be, as far as that can be told. It returns like
// object.
func (p *parser) unknown(at *place, v value, fields []field) uint64 {
	switch {
	case isDashboards(at):
		return 0
	case at.key == "rule" && v.typ == jsonparser.Object && at.parent.index >= 0 && strings.HasSuffix(listOfRule(at), "Rules"):
		return p.object(at, v, fields)
	case len(p.mistakes.list) >= maxErrors:
		p.more++ // the searches below cost, and nobody would read their results
	default:
		p.add(at, "unknown key", hintFor(at, fields))
	}
	return 0
}

// hintFor is what a key should be, to put behind the word that it is unknown.
func hintFor(at *place, fields []field) string {
	if hint := renameOf(at); hint != "" {
		return "; " + hint
	}
	best, nearest := 3, ""
	for _, f := range fields {
		if d := distance(bare(at.key), bare(f.key)); d < best {
			best, nearest = d, f.key
		}
	}
	if nearest == "" {
		return ""
	}
	return "; did you mean " + nearest + "?"
}

// bare is a key without what people write differently: capitals and underscores.
func bare(key string) string { return strings.ToLower(strings.ReplaceAll(key, "_", "")) }

// distance is how many bytes have to be put in, taken out or changed to make b of a; 3 or more is as good as 3.
func distance(a, b string) int {
	if len(a)-len(b) > 2 || len(b)-len(a) > 2 {
		return 3
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
