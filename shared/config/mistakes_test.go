package config

import (
	"reflect"
	"strings"
	"testing"
)

var mistakeCases = []struct {
	name string
	kind Kind
	doc  string
	want []string
}{
	// The document.
	{"cut short", KindVM, `{"flowRules": [`, []string{`malformed JSON at line 1, byte 16: expected a value, got the end`}},
	{"second line", KindVM, "{\n\"mode\" 1}", []string{`malformed JSON at line 2, byte 8: expected ':' after a key, got '1'`}},
	{"trailing comma", KindVM, `{"flowRules": [],}`, []string{`malformed JSON at line 1, byte 18: expected a key, got '}'`}},
	{"two documents", KindVM, `{} {}`, []string{`malformed JSON at line 1, byte 4: expected the end, got '{'`}},
	{"bare NaN", KindVM, `{"flowRules": NaN}`, []string{`malformed JSON at line 1, byte 15: expected a value, got 'N'`}},
	{"leading zero", KindVM, `{"flowRules": 01}`, []string{`malformed JSON at line 1, byte 16: expected ',' or '}', got '1'`}},
	{"escape", KindVM, `{"a": "\x"}`, []string{`malformed JSON at line 1, byte 9: expected a valid escape, got 'x'`}},
	{"half a character", KindVM, `{"a": "\ud800"}`, []string{`malformed JSON at line 1, byte 13: expected a valid escape, got '0'`}},
	{"not UTF-8", KindVM, "{\"a\": \"\xff\"}", []string{`malformed JSON: not UTF-8`}},
	{"control character", KindVM, "{\"a\": \"\n\"}", []string{`malformed JSON at line 1, byte 8: expected the closing '"' of a string, got '\n'`}},
	{"deep", KindVM, strings.Repeat("[", 100_000), []string{`malformed JSON at line 1, byte 18: expected at most 16 levels of nesting, got '['`}},
	{"a list", KindVM, `[]`, []string{`must be an object, got a list; a list of Sentinel's rules goes under its family's key, as flowRules`}},
	{"a number", KindVM, `7`, []string{`must be an object`}},

	// Keys.
	{"unknown key", KindVM, `{"flowRule": []}`, []string{`flowRule: unknown key; did you mean flowRules?`}},
	{"nothing near", KindVM, `{"rate limits": []}`, []string{`"rate limits": unknown key`}},
	{"hostile key", KindVM, `{"a\u0000\n` + strings.Repeat("k", 100) + `": 1}`,
		[]string{`"a\x00\n` + strings.Repeat("k", 54) + `…": unknown key`}},
	{"unknown key of a rule", KindVM, `{"flowRules": [{"resource": "r", "treshold": 1}]}`,
		[]string{`flowRules[0].treshold: unknown key; did you mean threshold?`, `flowRules[0].threshold: missing`}},
	{"key twice", KindVM, `{"flowRules": [{"resource": "r", "threshold": 1, "thresh\u006fld": 2}]}`,
		[]string{`flowRules[0].threshold: given twice`}},
	{"filter's keys in the VM's", KindVM, `{"mode": "shadow", "resources": []}`, []string{
		`mode: belongs in a filter's configuration; the VM's has rules only`,
		`resources: belongs in a filter's configuration; the VM's has rules only`}},

	// Types and numbers.
	{"types", KindHTTP, `{"flowRules": {}, "resource_name": 1, "resources": null, "block": "x", "mode": "on", "failure_mode": true}`,
		[]string{`flowRules: must be a list, got an object`, `resource_name: must be a string, got 1`,
			`resources: must be a list, got null`, `block: must be an object, got the string "x"`,
			`mode: must be enforce or shadow, got the string "on"`, `failure_mode: must be open or closed, got true`}},
	{"a rule of another type", KindVM, `{"flowRules": [1]}`, []string{`flowRules[0]: must be an object, got 1`}},
	{"all mistakes of a rule", KindVM,
		`{"flowRules": [{}, {"id": 7, "resource": "", "regex": 1, "threshold": -1, "statIntervalInMs": 1.5, "maxQueueingTimeMs": -2,
		"warmUpPeriodSec": 4294967296, "refResource": [], "controlBehavior": 2, "tokenCalculateStrategy": "Warm", "relationStrategy": true}]}`,
		[]string{`flowRules[0].resource: missing`, `flowRules[0].threshold: missing`,
			`flowRules[1].id: must be a string, got 7`, `flowRules[1].resource: must not be empty`,
			`flowRules[1].regex: must be true or false, got 1`, `flowRules[1].threshold: must be ≥ 0, got -1`,
			`flowRules[1].statIntervalInMs: must be a whole number, got 1.5`,
			`flowRules[1].maxQueueingTimeMs: must be ≥ 0, got -2`,
			`flowRules[1].warmUpPeriodSec: must be ≤ 4294967295, got 4294967296`,
			`flowRules[1].refResource: must be a string, got a list`,
			`flowRules[1].controlBehavior: must be 0 (Reject) or 1 (Throttling), got 2`,
			`flowRules[1].tokenCalculateStrategy: must be 0 (Direct) or 1 (WarmUp) or 2 (MemoryAdaptive), got the string "Warm"`,
			`flowRules[1].relationStrategy: must be 0 (CurrentResource) or 1 (AssociatedResource), got true`}},
	{"not finite", KindVM, `{"flowRules": [{"resource": "r", "threshold": "NaN"}, {"resource": "r", "threshold": "Infinity"},
		{"resource": "r", "threshold": 1e999}, {"resource": "r", "threshold": "10"}]}`,
		[]string{`flowRules[0].threshold: must be a finite number, got NaN`,
			`flowRules[1].threshold: must be a finite number, got Infinity`,
			`flowRules[2].threshold: must be a finite number, got 1e999`,
			`flowRules[3].threshold: must be a number, got the string "10"`}},
	{"too large", KindVM, `{"flowRules": [{"resource": "r", "threshold": 1e16, "statIntervalInMs": 3600001}]}`,
		[]string{`flowRules[0].threshold: must be ≤ 9007199254740991, got 1e16`,
			`flowRules[0].statIntervalInMs: must be ≤ 3600000, got 3600001`}},

	// Ids and resources.
	{"id twice", KindVM, `{"flowRules": [{"id": "a", "resource": "r", "threshold": 1}],
		"isolationRules": [{"id": "b", "resource": "r", "threshold": 1}, {"id": "a", "resource": "r", "threshold": 1}]}`,
		[]string{`isolationRules[1].id: "a" is the id of flowRules[0] already`}},
	{"rule twice", KindVM, `{"flowRules": [{"resource": "r", "threshold": 1}, {"resource": "r", "threshold": 1.0, "statIntervalInMs": 0}]}`,
		[]string{`flowRules[1]: is the same as flowRules[0]; leave one out or give each an id`}},
	{"bad ids", KindVM, `{"flowRules": [{"id": "", "resource": "r", "threshold": 1}, {"id": "a\u0007", "resource": "r", "threshold": 2},
		{"id": "` + strings.Repeat("i", 129) + `", "resource": "r", "threshold": 3}]}`,
		[]string{`flowRules[0].id: must not be empty`, `flowRules[1].id: must have printable characters only, got "a\a"`,
			`flowRules[2].id: must have at most 128 bytes, got 129`}},
	{"impossible resource of HTTP", KindHTTP, `{"resource_name": "a", "flowRules": [{"resource": "a", "threshold": 1},
		{"resource": "/p", "threshold": 1}, {"resource": "b", "threshold": 1}, {"resource": "/p?x=1", "threshold": 1}]}`,
		[]string{`flowRules[2].resource: nothing here is the resource "b": name it in resource_name or in an entry of resources, or use a path ("/…")`,
			`flowRules[3].resource: nothing here is the resource "/p?x=1": paths are taken without query and fragment`}},
	{"impossible resource of TCP", KindTCP, `{"flowRules": [{"resource": "b", "threshold": 1}, {"resource": "/p", "threshold": 1}]}`,
		[]string{`flowRules[0].resource: nothing here is the resource "b": name it in resource_name or in an entry of resources`,
			`flowRules[1].resource: nothing here is the resource "/p": a connection has no path; name it in resource_name or in an entry of resources`}},
	{"regex of a rule", KindVM, `{"flowRules": [{"resource": "a(", "regex": true, "threshold": 1}]}`,
		[]string{"flowRules[0].resource: not a regular expression (RE2): missing closing ): `a(`"}},
	{"regex that is too large", KindVM, `{"flowRules": [{"resource": "(?:abc){683}", "regex": true, "threshold": 1},
			{"resource": "(?:a|b|xyz){600}", "regex": true, "threshold": 1}, {"resource": "a{1000}", "regex": true, "threshold": 1}]}`,
		[]string{"flowRules[0].resource: too large a regular expression: each byte of a text would cost thousands of steps; repeat less",
			"flowRules[1].resource: too large a regular expression: each byte of a text would cost thousands of steps; repeat less"}},

	// Families.
	{"flow with a relation", KindVM, `{"flowRules": [{"resource": "r", "threshold": 1, "relationStrategy": 1}]}`,
		[]string{`flowRules[0].refResource: must not be empty with AssociatedResource`}},
	{"warm-up", KindVM, `{"flowRules": [{"resource": "r", "threshold": 0, "tokenCalculateStrategy": 1, "warmUpColdFactor": 1}]}`,
		[]string{`flowRules[0].warmUpPeriodSec: must be > 0 with WarmUp`,
			`flowRules[0].warmUpColdFactor: must be > 1, or 0 for the default of 3`, `flowRules[0].threshold: must be > 0 with WarmUp`}},
	{"memory", KindVM, `{"flowRules": [{"resource": "r", "tokenCalculateStrategy": 2, "lowMemUsageThreshold": 1,
		"highMemUsageThreshold": 1, "memLowWaterMarkBytes": 2}]}`,
		[]string{`flowRules[0].memHighWaterMarkBytes: must be > 0 with MemoryAdaptive`,
			`flowRules[0].highMemUsageThreshold: must be < lowMemUsageThreshold`}},
	{"breaker", KindVM, `{"circuitBreakerRules": [{"resource": "r", "threshold": 1.5, "strategy": 1, "statIntervalMs": 1000,
		"statSlidingWindowBucketCount": 3}, {"resource": "r", "threshold": 1, "retryTimeoutMs": 0, "statIntervalMs": 0,
		"statSlidingWindowBucketCount": 21}]}`,
		[]string{`circuitBreakerRules[0].retryTimeoutMs: missing`, `circuitBreakerRules[0].threshold: must be from 0 to 1 with ErrorRatio`,
			`circuitBreakerRules[0].statSlidingWindowBucketCount: must divide statIntervalMs`,
			`circuitBreakerRules[1].retryTimeoutMs: must be ≥ 1, got 0`, `circuitBreakerRules[1].statIntervalMs: must be ≥ 1, got 0`,
			`circuitBreakerRules[1].statSlidingWindowBucketCount: must be ≤ 20, got 21`}},
	{"breaker of no strategy", KindVM, `{"circuitBreakerRules": [{"resource": "r", "threshold": 50, "strategy": 9,
		"retryTimeoutMs": 1, "statIntervalMs": 1}]}`,
		[]string{`circuitBreakerRules[0].strategy: must be 0 (SlowRequestRatio) or 1 (ErrorRatio) or 2 (ErrorCount), got 9`}},
	{"isolation", KindVM, `{"isolationRules": [{"resource": "r", "threshold": 0, "metricType": 1}]}`,
		[]string{`isolationRules[0].threshold: must be ≥ 1, got 0`, `isolationRules[0].metricType: must be 0 (Concurrency), got 1`}},
	{"hotspot", KindVM, `{"hotspotRules": [{"resource": "r", "metricType": "QPS", "threshold": 1, "paramIndex": 1, "paramKey": "k",
		"paramSource": "Query"}, {"resource": "r", "threshold": 1, "paramSource": "Host", "burstCount": -1, "specificItems": [{"valKind": 0, "valStr": "x", "threshold": 1},
		{"valKind": 4}, {"valKind": 1, "valStr": "y", "threshold": 1}, {"valKind": 1, "valStr": "y", "threshold": 2}]}]}`,
		[]string{`hotspotRules[0].durationInSec: must be > 0 with QPS`, `hotspotRules[0].paramKey: must be empty when paramIndex is given`,
			`hotspotRules[1].burstCount: must be ≥ 0, got -1`,
			`hotspotRules[1].specificItems[0].valStr: must be a KindInt, got "x"`,
			`hotspotRules[1].specificItems[1].valKind: must be 0 (KindInt) or 1 (KindString) or 2 (KindBool) or 3 (KindFloat64), got 4`,
			`hotspotRules[1].specificItems[1].valStr: missing`, `hotspotRules[1].specificItems[1].threshold: missing`,
			`hotspotRules[1].specificItems[3].valStr: "y" is given twice`}},
	{"system without a source", KindVM, `{"systemRules": [{"id": "a", "metricType": "AvgRT", "triggerCount": 1},
		{"id": "b", "metricType": "CpuUsage", "triggerCount": 1}]}`, []string{
		`systemRules[1].metricType: cpuUsage is not visible from inside Envoy: it needs a system_source in the same configuration`}},
	{"memory without a source", KindVM, `{"flowRules": [{"resource": "r", "tokenCalculateStrategy": 2, "lowMemUsageThreshold": 2,
		"highMemUsageThreshold": 1, "memLowWaterMarkBytes": 1, "memHighWaterMarkBytes": 2}]}`, []string{
		`flowRules[0].tokenCalculateStrategy: MemoryAdaptive: the memory in use is not visible from inside Envoy: it needs a system_source in the same configuration`}},
	{"source", KindHTTP, `{"system_source": {"path": "metrics", "interval_ms": 10, "host": "x"}}`, []string{
		`system_source.interval_ms: must be ≥ 100, got 10`, `system_source.host: unknown key`,
		`system_source.path: must begin with /, got "metrics"`}},
	{"source without a cluster", KindTCP, `{"system_source": {}}`, []string{`system_source.cluster: missing`}},
	{"hotspot's parameter", KindVM, `{"hotspotRules": [{"resource": "r", "threshold": 1},
		{"resource": "r", "threshold": 2, "paramSource": "Header"}, {"resource": "r", "threshold": 3, "paramSource": "Query"},
		{"resource": "r", "threshold": 4, "paramSource": "Host", "paramKey": "k", "trustedHops": 1},
		{"resource": "r", "threshold": 5, "paramSource": "Cookie", "paramKey": "k", "paramIndex": 1},
		{"resource": "r", "threshold": 6, "paramSource": 9}, {"resource": "r", "threshold": 7, "paramSource": "Header", "paramKey": "a b"}]}`,
		[]string{`hotspotRules[0].paramSource: missing; say where the parameter comes from: Header, Query, Cookie, PathSegment, Host, SourceAddress, SNI or Property`,
			`hotspotRules[1].paramKey: missing: which Header?`,
			`hotspotRules[2].paramKey: missing: which query parameter? paramIndex would say it by its place`,
			`hotspotRules[3].paramKey: must be empty with Host`, `hotspotRules[3].trustedHops: must be left out with Host`,
			`hotspotRules[4].paramKey: must be empty when paramIndex is given`, `hotspotRules[4].paramIndex: must be left out with Cookie`,
			`hotspotRules[5].paramSource: must be 1 (Header) or 2 (Query) or 3 (Cookie) or 4 (PathSegment) or 5 (Host) or 6 (SourceAddress) or 7 (SNI) or 8 (Property), got 9`,
			`hotspotRules[6].paramKey: must be a header's name, got "a b"`}},
	{"hotspot's parameter of a connection", KindTCP, `{"resource_name": "r", "hotspotRules": [
		{"resource": "r", "threshold": 1, "paramSource": "Host"}, {"resource": "r", "threshold": 1, "paramSource": "SourceAddress", "trustedHops": 1}]}`,
		[]string{`hotspotRules[0].paramSource: must be SourceAddress, SNI or Property: a connection has no Host`,
			`hotspotRules[1].trustedHops: is for the HTTP filter only: a connection has no x-forwarded-for`}},
	{"system", KindVM, `{"systemRules": [{"metricType": "CpuUsage", "triggerCount": 1.1}, {"metricType": 5, "strategy": 2}]}`,
		[]string{`systemRules[0].triggerCount: must be from 0 to 1 with cpuUsage`,
			`systemRules[1].metricType: must be 0 (load) or 1 (avgRT) or 2 (concurrency) or 3 (inboundQPS) or 4 (cpuUsage), got 5`,
			`systemRules[1].strategy: must be -1 (none) or 1 (bbr) or 0 (none), got 2`, `systemRules[1].triggerCount: missing`}},

	// Matchers.
	{"entries", KindHTTP, `{"resources": [{}, {"name": "a", "match": {}}, 7, {"name": "b", "match": {"sni": "x", "source_ip": "1.2.3.4", "destination_port": 1}}]}`,
		[]string{`resources[0].name: missing`, `resources[0].match: missing; the resource of everything else is resource_name`,
			`resources[1].match: needs a condition; the resource of everything else is resource_name`,
			`resources[2]: must be an object, got 7`, `resources[3].match.sni: is for the TCP filter only`,
			`resources[3].match.source_ip: is for the TCP filter only`, `resources[3].match.destination_port: is for the TCP filter only`}},
	{"HTTP conditions", KindHTTP, `{"resources": [{"name": "a", "match": {"method": ["get", 1], "host": "a:80",
		"path": {"regex": "(", "exact": "/a"}, "headers": []}},
		{"name": "b", "match": {"method": "GET", "host": "", "path": {"prefix": "a?"}, "headers": [{"name": "x"}, {"exact": ""},
		{"name": "host", "exact": "a"}, {"name": "a b", "present": false}]}},
		{"name": "c", "match": {"path": {"regex": "a)|(b"}}}, {"name": "d", "match": {"path": "/x"}}, {"name": "e", "match": {"path": {}}}]}`,
		[]string{`resources[0].match.method[0]: must be a method in upper case, got "get"`, `resources[0].match.method[1]: must be a string, got 1`,
			`resources[0].match.host: must be a host name without a port, or "*." and one, got "a:80"`,
			"resources[0].match.path.regex: not a regular expression (RE2): missing closing ): `(`",
			`resources[0].match.headers: must not be empty; leave it out to match all`,
			`resources[1].match.method: must be a list, got the string "GET"`,
			`resources[1].match.host: must be a host name without a port, or "*." and one, got ""`,
			`resources[1].match.path.prefix: must begin with "/", got "a?"`,
			`resources[1].match.headers[0]: needs exactly one of exact, prefix, regex, present`,
			`resources[1].match.headers[1].name: missing`, `resources[1].match.headers[2].name: use match.host`,
			`resources[1].match.headers[3].present: must be true, got false`,
			"resources[2].match.path.regex: not a regular expression (RE2): unexpected ): `a)|(b`",
			`resources[3].match.path: must be an object, got the string "/x"`,
			`resources[4].match.path: needs exactly one of exact, prefix, regex, template`}},
	{"both path and exact", KindHTTP, `{"resources": [{"name": "a", "match": {"path": {"exact": "/a", "prefix": "/b"}}}]}`,
		[]string{`resources[0].match.path: needs exactly one of exact, prefix, regex, template`}},
	{"TCP conditions", KindTCP, `{"resources": [{"name": "a", "match": {"path": {"exact": "/"}, "sni": "*", "source_ip": ["10.0.0.0/33", "x", "fe80::1%eth0", "::ffff:0:0/90"], "destination_port": 65536}}]}`,
		[]string{`resources[0].match.path: is for the HTTP filter only`,
			`resources[0].match.sni: must be a host name without a port, or "*." and one, got "*"`,
			`resources[0].match.source_ip[0]: must be a CIDR such as 10.0.0.0/8, or an address, got "10.0.0.0/33"`,
			`resources[0].match.source_ip[1]: must be a CIDR such as 10.0.0.0/8, or an address, got "x"`,
			`resources[0].match.source_ip[2]: must be a CIDR such as 10.0.0.0/8, or an address, got "fe80::1%eth0"`,
			`resources[0].match.source_ip[3]: must be a CIDR such as 10.0.0.0/8, or an address, got "::ffff:0:0/90"`,
			`resources[0].match.destination_port: must be ≤ 65535, got 65536`}},

	// The answer.
	{"block of HTTP", KindHTTP, `{"block": {"status": 99, "grpc_status": 0, "tcp_message": true, "headers": {"a b": "x", "X": "1", "x": "2", "y": "\n", "z": 1}}}`,
		[]string{`block.status: must be ≥ 200, got 99`, `block.grpc_status: must be ≥ 1, got 0`,
			`block.tcp_message: is for the TCP filter only`,
			`block.headers."a b": must be a header's name, given once, of at most 64`,
			`block.headers.x: must be a header's name, given once, of at most 64`,
			`block.headers.y: must have no control characters, got "\n"`, `block.headers.z: must be a string, got 1`}},
	{"block of TCP", KindTCP, `{"block": {"status": 429, "headers": {}, "grpc_status": 8}}`,
		[]string{`block.status: is for the HTTP filter only`, `block.headers: is for the HTTP filter only`,
			`block.grpc_status: is for the HTTP filter only`}},

	// Failures.
	{"failures of HTTP", KindHTTP, `{"failures": {"status": ["6xx", 99, 600, "500", true], "grpc": [0, 17, "OK", 1.5], "resets": 1, "connect": true, "abandoned_after_ms": -1}}`,
		[]string{`failures.status[0]: must be a status, or a class of them such as "5xx", got the string "6xx"`,
			`failures.status[1]: must be ≥ 100, got 99`, `failures.status[2]: must be ≤ 599, got 600`,
			`failures.status[3]: must be a status, or a class of them such as "5xx", got the string "500"`,
			`failures.status[4]: must be a number, got true`, `failures.grpc[0]: must be ≥ 1, got 0`,
			`failures.grpc[1]: must be ≤ 16, got 17`,
			`failures.grpc[2]: must be a gRPC status from 1 to 16, or its name such as "UNAVAILABLE", got the string "OK"`,
			`failures.grpc[3]: must be a whole number, got 1.5`, `failures.resets: must be true or false, got 1`,
			`failures.connect: is for the TCP filter only`, `failures.abandoned_after_ms: must be ≥ 0, got -1`}},
	{"failures of TCP", KindTCP, `{"failures": {"status": [], "grpc": [], "connect": "no", "reset": true}}`,
		[]string{`failures.status: is for the HTTP filter only`, `failures.grpc: is for the HTTP filter only`,
			`failures.connect: must be true or false, got the string "no"`, `failures.reset: unknown key; did you mean resets?`}},
	{"failures of the VM", KindVM, `{"failures": {}}`,
		[]string{`failures: belongs in a filter's configuration; the VM's has rules only`}},
}

func TestMistakes(t *testing.T) {
	for _, c := range mistakeCases {
		t.Run(c.name, func(t *testing.T) {
			if got := mistakesOf(t, c.kind, c.doc); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s\ngot:\n%s\nwant:\n%s", c.doc[:min(len(c.doc), 500)], strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}
