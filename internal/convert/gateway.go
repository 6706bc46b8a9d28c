package convert

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sentinel-envoy/internal/configfile"
)

// gateway converts the rules of Spring Cloud Gateway and Zuul: lists of ApiDefinition and of GatewayFlowRule, or an object
// with both under apiDefinitions and gatewayFlowRules.
func (r *Result) gateway(docs []configfile.Document) {
	for _, d := range docs {
		if d.IsList() {
			r.gatewayList(d)
			continue
		}
		d.Members(func(key string, list configfile.Document) {
			if key != "apiDefinitions" && key != "gatewayFlowRules" {
				r.wrong(list, "%s: must be apiDefinitions or gatewayFlowRules", key)
				return
			}
			r.gatewayList(list)
		})
	}
}

func (r *Result) gatewayList(d configfile.Document) {
	for _, item := range d.Items() {
		if _, isAPI := item.Get("apiName"); isAPI {
			r.known(item, apiKeys)
			r.api(item, item)
			continue
		}
		r.known(item, ruleKeys)
		r.gatewayRule(item)
	}
}

// Keys of the gateway's documents. Of some nothing is made: they say nothing, or are the dashboard's.
const (
	ruleKeys = "resource resourceMode grade count intervalSec interval intervalUnit controlBehavior burst maxQueueingTimeoutMs paramItem " +
		"id app ip port gmtCreate gmtModified limitApp strategy clusterMode clusterConfig regex warmUpPeriodSec refResource"
	paramKeys = "parseStrategy fieldName pattern matchStrategy index"
	apiKeys   = "apiName predicateItems id app ip port gmtCreate gmtModified"
)

// known finds keys that are none of those, which Java would read past.
func (r *Result) known(d configfile.Document, keys string) {
	d.Members(func(key string, value configfile.Document) {
		if !slices.Contains(strings.Fields(keys), key) {
			r.wrong(value, "%s: unknown key", key)
		}
	})
}

// api makes an entry of resources of each predicate of an API.
func (r *Result) api(of, group configfile.Document) {
	list, ok := group.Get("predicateItems")
	if !ok {
		if list, ok = group.Get("items"); !ok {
			r.wrong(group, "needs predicateItems")
		}
	}
	for _, item := range list.Items() {
		if _, isGroup := item.Get("items"); isGroup {
			r.api(of, item)
			continue
		}
		pattern, how := text(item, "pattern"), text(item, "matchStrategy")
		op := map[string]string{"": "exact", "0": "exact", "1": "template", "2": "regex"}[how]
		if pattern == "" || op == "" {
			r.wrong(item, "needs a pattern and the matchStrategy 0 (exact), 1 (prefix) or 2 (regex)")
			continue
		}
		// A prefix is an Ant path there, such as /orders/**, which is a template here.
		name := quoted(text(of, "apiName"))
		r.add("resources", item, fmt.Sprintf("{name: %s, match: {path: {%s: %s}}}", name, op, quoted(pattern)))
	}
}

// sources are the parse strategies by number, and whether they have a field's name.
var sources = []struct {
	name  string
	named bool
}{{"SourceAddress", false}, {"Host", false}, {"Header", true}, {"Query", true}, {"Cookie", true}}

// gatewayRule makes a flow rule, or of one with a paramItem a hotspot rule.
func (r *Result) gatewayRule(d configfile.Document) {
	resource, count := text(d, "resource"), r.number(d, "count", "")
	if resource == "" {
		r.wrong(d, "needs a resource")
		return
	}
	if text(d, "clusterMode") == "true" {
		r.wrong(d, "clusterMode: a limit over several Envoys is for Envoy's rate limit service")
	}
	if text(d, "grade") == "0" {
		r.wrong(d, "grade 0 (threads) is not a gateway's: write it in isolationRules")
		return
	}
	if text(d, "resourceMode") != "1" {
		r.need("# resource " + quoted(resource) + " is a route of the gateway's: name what it takes in an entry of resources, or Envoy's route like it and write resource_from: route_name")
	}
	seconds := r.seconds(d)
	behavior := ""
	if text(d, "controlBehavior") == "2" {
		behavior = ", controlBehavior: Throttling, maxQueueingTimeMs: " + r.number(d, "maxQueueingTimeoutMs", "500")
	}
	if item, has := d.Get("paramItem"); has && item.Text() == "" && len(item.JSON()) > len("null") {
		r.gatewayParam(d, item, resource, count, seconds, behavior)
		return
	}
	if burst := r.number(d, "burst", "0"); burst != "0" {
		r.need(fmt.Sprintf("# burst %s of %s is left out: a window has none", burst, quoted(resource)))
	}
	r.add("flowRules", d, fmt.Sprintf("{resource: %s, threshold: %s, statIntervalInMs: %d%s}",
		quoted(resource), count, 1000*seconds, behavior))
}

// seconds is the interval of a rule: intervalSec, or what the dashboard writes.
func (r *Result) seconds(d configfile.Document) int {
	if s := text(d, "intervalSec"); s != "" {
		n, _ := strconv.Atoi(s)
		return max(n, 1)
	}
	n, err := strconv.Atoi(text(d, "interval"))
	if err != nil {
		return 1
	}
	unit := map[string]int{"": 1, "0": 1, "1": 60, "2": 3600, "3": 86400}[text(d, "intervalUnit")]
	if unit == 0 || n*unit > 3600 {
		r.wrong(d, "an interval of %d is longer than an hour, which is the longest here", n*unit)
	}
	return max(n*unit, 1)
}

// gatewayParam makes a hotspot rule of a rule with a paramItem.
func (r *Result) gatewayParam(d, item configfile.Document, resource, count string, seconds int, behavior string) {
	r.known(item, paramKeys)
	strategy, err := strconv.Atoi(text(item, "parseStrategy"))
	if err != nil || strategy < 0 || strategy >= len(sources) {
		r.wrong(item, "parseStrategy: must be 0 (client IP), 1 (host), 2 (header), 3 (URL parameter) or 4 (cookie)")
		return
	}
	from := sources[strategy]
	key := ""
	if from.named {
		if text(item, "fieldName") == "" {
			r.wrong(item, "fieldName: missing: which %s?", from.name)
			return
		}
		key = ", paramKey: " + quoted(text(item, "fieldName"))
	}
	burst := ""
	if b := r.number(d, "burst", "0"); b != "0" {
		burst = ", burstCount: " + b
	}
	threshold, items := count, ""
	if pattern := text(item, "pattern"); pattern != "" {
		value := valueOf(text(item, "matchStrategy"), pattern)
		if value == "" {
			r.wrong(item, "matchStrategy: must be 0 (exact), 1 (prefix), 2 (regex) or 3 (contains)")
			return
		}
		// Only such values are limited there; here all others get more than anybody sends.
		threshold = "1000000000"
		items = fmt.Sprintf(", specificItems: [{%s, threshold: %s}]", value, count)
	}
	r.add("hotspotRules", d, fmt.Sprintf("{resource: %s, metricType: QPS, threshold: %s, durationInSec: %d, %s%s%s%s%s}",
		quoted(resource), threshold, seconds, "paramSource: "+from.name, key, burst, behavior, items))
}

// valueOf are the keys of an item for the values that match a pattern by a strategy, "" where there is no such strategy.
func valueOf(strategy, pattern string) string {
	switch strategy {
	case "", "0":
		return "valKind: KindString, valStr: " + quoted(pattern)
	case "1":
		return "valPattern: {prefix: " + quoted(pattern) + "}"
	case "2":
		return "valPattern: {regex: " + quoted(pattern) + "}"
	case "3":
		return "valPattern: {regex: " + quoted("(?s:.*"+regexp.QuoteMeta(pattern)+".*)") + "}"
	}
	return ""
}

// text is the scalar under a key, "" where there is none.
func text(d configfile.Document, path ...string) string {
	v, ok := d.Get(path...)
	if !ok {
		return ""
	}
	return v.Text()
}

// number is the number under a key, otherwise where there is none; without that it is a mistake.
func (r *Result) number(d configfile.Document, key, otherwise string) string {
	s := text(d, key)
	if s == "" {
		s = otherwise
	}
	if n, err := strconv.ParseFloat(s, 64); err != nil || n < 0 {
		r.wrong(d, "%s: must be a number of at least 0, got %s", key, quoted(text(d, key)))
		return "0"
	}
	return s
}

// quoted is a text as YAML and JSON quote it.
func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always is JSON
	}
	return string(b)
}
