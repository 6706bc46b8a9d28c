package config

import "strings"

// renamed is a key of another Sentinel's documents, and what to write for it here.
type renamed struct {
	list string // whose elements have it; "" is the document itself, anyRule every family
	key  string
	hint string
}

const (
	anyRule   = "*Rules"
	dashboard = "leave it out: it is the dashboard's own"
	cluster   = "leave it out: a limit over several Envoys is for Envoy's rate limit service"
	ofItsOwn  = " as a rule of its own, or nothing if it is negative"
)

// renames are the names of Sentinel for Java, of its gateway adapters and of its dashboard, and one of sentinel-golang's past.
var renames = []renamed{
	{"", "degradeRules", "write circuitBreakerRules"},
	{"", "paramFlowRules", "write hotspotRules"},
	{"", "rules", "write its content in its place"},
	{"", "gatewayFlowRules", "write flowRules, or hotspotRules for those with a paramItem"},
	{"", "apiDefinitions", "write resources: of each, apiName becomes name, and predicateItems match"},
	{"", "authorityRules", "not supported: who may call is for Envoy's RBAC filter"},

	{anyRule, "limitApp", "leave it out: to limit one caller, give its traffic a resource of its own"},
	{anyRule, "clusterMode", cluster},
	{anyRule, "clusterConfig", cluster},
	{anyRule, "app", dashboard},
	{anyRule, "ip", dashboard},
	{anyRule, "port", dashboard},
	{anyRule, "gmtCreate", dashboard},
	{anyRule, "gmtModified", dashboard},
	{anyRule, "rule", "write its content in its place"},

	{"flowRules", "count", "write threshold"},
	{"flowRules", "grade", "leave it out if it is 1 (QPS); if it is 0 (threads), write resource and threshold in isolationRules"},
	{"flowRules", "strategy", "write relationStrategy, 0 or 1; 2 (chain) is not supported: a request here has no call chain"},
	{"flowRules", "resourceMode", "leave it out: resource is a path, or the name of an entry of resources"},
	{"flowRules", "intervalSec", "write statIntervalInMs, in milliseconds: 1000 times as much"},
	{"flowRules", "interval", "write statIntervalInMs, in milliseconds"},
	{"flowRules", "intervalUnit", "leave it out: statIntervalInMs is in milliseconds"},
	{"flowRules", "burst", "leave it out if it is 0; only hotspotRules have a burstCount"},
	{"flowRules", "maxQueueingTimeoutMs", "write maxQueueingTimeMs"},
	{"flowRules", "paramItem", "write the rule in hotspotRules: its parseStrategy becomes paramSource, fieldName paramKey, intervalSec durationInSec"},
	{"resources", "apiName", "write name"},
	{"resources", "predicateItems", `write match, an entry for each item: {"path": {"exact": …}}, or prefix or regex for its matchStrategy 1 or 2`},
	{"isolationRules", "count", "write threshold"},
	{"isolationRules", "grade", "leave it out"},

	{"circuitBreakerRules", "grade", "write strategy, with the same value"},
	{"circuitBreakerRules", "count", "write threshold; if grade is 0 (slow calls), write maxAllowedRtMs"},
	{"circuitBreakerRules", "slowRatioThreshold", "write threshold if grade is 0 (slow calls); otherwise leave it out"},
	{"circuitBreakerRules", "timeWindow", "write retryTimeoutMs, in milliseconds: 1000 times as much"},

	{"hotspotRules", "grade", "write metricType, with the same value"},
	{"hotspotRules", "count", "write threshold"},
	{"hotspotRules", "paramIdx", "write paramIndex"},
	{"hotspotRules", "paramFlowItemList", "write specificItems; of each item, classType becomes valKind, object valStr and count threshold"},
	{"specificItems", "object", "write valStr"},
	{"specificItems", "count", "write threshold"},
	{"specificItems", "classType", "write valKind: 0 for int, long and byte, 1 for String and char, 2 for boolean, 3 for double and float"},

	{"systemRules", "highestSystemLoad", `write {"metricType": 0, "triggerCount": …, "strategy": 1}` + ofItsOwn},
	{"systemRules", "avgRt", `write {"metricType": 1, "triggerCount": …}` + ofItsOwn},
	{"systemRules", "maxThread", `write {"metricType": 2, "triggerCount": …}` + ofItsOwn},
	{"systemRules", "qps", `write {"metricType": 3, "triggerCount": …}` + ofItsOwn},
	{"systemRules", "highestCpuUsage", `write {"metricType": 4, "triggerCount": …}` + ofItsOwn},
	{"systemRules", "adaptiveStrategy", "write strategy"},
}

// renameOf is what to write for the key at a place; "" when it is nobody's.
func renameOf(at *place) string {
	list := ""
	switch {
	case at.parent.index >= 0:
		list = at.parent.parent.key
	case at.parent.parent != nil:
		return "" // of an object in no list
	}
	for _, r := range renames {
		if r.key == at.key && (r.list == list || r.list == anyRule && strings.HasSuffix(list, "Rules")) {
			return r.hint
		}
	}
	return ""
}

// elsewhere is the bit of what object has seen that stands for a key of renames: the rule was written for another
// Sentinel, and what it leaves out or numbers differently would load and mean something else here.
const elsewhere = 1 << 63

// javaDefaults asks such a rule for the keys that it leaves out and whose default differs: pairs of key and Java's default.
func (r *rules) javaDefaults(at *place, seen uint64, fields []field, pairs ...string) {
	for i := 0; seen&elsewhere != 0 && i < len(pairs); i += 2 {
		if !has(seen, fields, pairs[i]) {
			r.add(at.at(pairs[i]), "missing; Java Sentinel's default is ", pairs[i+1])
		}
	}
}

// unknown says what the key should be, as far as it can be told. The result is elsewhere or 0.
func (p *parser) unknown(at *place, key string, fields []field) uint64 {
	if len(p.mistakes.list) >= maxErrors {
		p.more++ // the searches below cost, and nobody would read their results
		return 0
	}
	if hint := renameOf(at); hint != "" {
		p.add(at, "unknown key; ", hint)
		return elsewhere
	}
	best, nearest := 3, ""
	for _, f := range fields {
		if d := distance(bare(key), bare(f.key)); d < best {
			best, nearest = d, f.key
		}
	}
	if nearest != "" {
		p.add(at, "unknown key; did you mean ", nearest, "?")
		return 0
	}
	p.add(at, "unknown key")
	return 0
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
