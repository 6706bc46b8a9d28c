package config

import (
	"slices"
	"strings"
	"testing"

	"sentinel-envoy/shared/rule"
)

const fromHeader = `"origin": {"from": "Header", "name": "X-App"}`

func TestAuthorityRules(t *testing.T) {
	cfg, err := Parse([]byte(`{"resource_name": "r", "authorityRules": [
		{"id": 3, "app": "shop", "rule": {"resource": "r", "limitApp": "a,,b", "strategy": 0}},
		{"resource": "r", "limitApp": "c", "strategy": "Deny", "emptyOrigin": "block"}], `+fromHeader+`}`), KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	allow, deny := cfg.Rules[0].(*rule.Authority), cfg.Rules[1].(*rule.Authority)
	if !slices.Equal(allow.Refused.Names, []string{"a", "b"}) || !allow.Refused.Others || allow.EmptyOrigin != rule.PassEmpty ||
		allow.ID != "authority-allow-r" || allow.Refused.From != (rule.Origin{Source: rule.Header, Name: "X-App"}) {
		t.Errorf("%+v %+v", allow, allow.Refused)
	}
	if deny.Refused.Others || deny.EmptyOrigin != rule.BlockEmpty || deny.ID != "authority-deny-r" {
		t.Errorf("%+v %+v", deny, deny.Refused)
	}
}

// The others are those that no flow rule of the resource names, in whatever order they stand.
func TestLimitApp(t *testing.T) {
	cfg, err := Parse([]byte(`{"resource_name": "r", "flowRules": [{"resource": "r", "limitApp": "other", "count": 1},
		{"resource": "r", "limitApp": "a", "count": 2}, {"resource": "r", "limitApp": "default", "count": 3},
		{"resource": "r", "limitApp": "b", "grade": 0, "count": 2}, {"resource": "r", "limitApp": "b", "threshold": 2},
		{"resource": "/x", "limitApp": "c", "count": 2}], `+fromHeader+`}`), KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range cfg.Rules {
		of := r.For()
		if of.Only != nil {
			got = append(got, of.ID+" "+strings.Join(of.Only.Names, "+"))
		} else {
			got = append(got, of.ID)
		}
	}
	want := []string{"flow-1000ms-limitApp(other)-r a+b+b", "flow-1000ms-limitApp(a)-r a", "flow-1000ms-r",
		"isolation-Concurrency-limitApp(b)-r b", "flow-1000ms-limitApp(b)-r b", "flow-1000ms-limitApp(c)-/x c"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestOriginMistakes(t *testing.T) {
	for _, c := range []struct {
		kind      Kind
		doc, want string
	}{
		{KindHTTP, `{"origin": {}}`, `origin.from: missing`},
		{KindHTTP, `{"origin": {"from": "Header"}}`, `origin.name: missing: which Header?`},
		{KindHTTP, `{"origin": {"from": "Header", "name": "a b"}}`, `origin.name: must be a header's name, got "a b"`},
		{KindHTTP, `{"origin": {"from": "Host", "name": "a"}}`, `origin.name: must be left out with Host`},
		{KindHTTP, `{"origin": {"from": "Property", "name": "nothing.of.it"}}`, `origin.name: "nothing.of.it": `},
		{KindHTTP, `{"origin": {"from": "Host", "trusted_hops": 1}}`, `origin.trusted_hops: is for SourceAddress in the HTTP filter only`},
		{KindTCP, `{"origin": {"from": "Header", "name": "a"}}`, `origin.from: must be SourceAddress, SNI or Property: a connection has no Header`},
		{KindVM, `{"origin": {"from": "Host"}}`, `origin: belongs in a filter's configuration; the VM's has rules only`},
		{KindHTTP, `{"flowRules": [{"resource": "/a", "limitApp": "a", "threshold": 1}]}`, `origin: missing: flowRules[0].limitApp needs to know ` +
			`where a request names it, as {"from": "Header", "name": "x-app"}`},
		{KindVM, `{"flowRules": [{"resource": "/a", "limitApp": "a", "threshold": 1}]}`, `flowRules[0].limitApp: needs to know where a request names its origin: write the rule in a filter's configuration`},
		{KindHTTP, `{"flowRules": [{"resource": "/a", "limitApp": "a,b", "threshold": 1}], ` + fromHeader + `}`,
			`flowRules[0].limitApp: must be one name, default or other; write a rule for each`},
		{KindHTTP, `{"authorityRules": [{"resource": "/a", "strategy": 0}], ` + fromHeader + `}`, `authorityRules[0].limitApp: missing`},
		{KindHTTP, `{"authorityRules": [{"resource": "/a", "limitApp": ","}], ` + fromHeader + `}`, `authorityRules[0].limitApp: must name an origin`},
		{KindHTTP, `{"authorityRules": [{"resource": "/a", "limitApp": "a", "strategy": 2}], ` + fromHeader + `}`,
			`authorityRules[0].strategy: must be 0 (allow) or 1 (deny), got 2`},
	} {
		if got := strings.Join(mistakesOf(t, c.kind, c.doc), "\n"); !strings.HasPrefix(got, c.want) || strings.Contains(got, "\n") {
			t.Errorf("%s\ngot  %s\nwant %s", c.doc, got, c.want)
		}
	}
}

// Documents count like a configuration: a changed rule of theirs changes the hash, and others are whom neither names.
func TestDocumentsAreSealed(t *testing.T) {
	own, err := Parse([]byte(`{"resource_name": "r", "flowRules": [{"resource": "r", "limitApp": "mine", "count": 1}], `+fromHeader+`}`), KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	read := func(text string) *Config {
		cfg, err := ParseRules([]Document{{Key: "flowRules", Text: []byte(text)}}, KindHTTP, own)
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	one := read(`[{"resource": "r", "limitApp": "other", "count": 1}, {"resource": "r", "limitApp": "a", "count": 1}]`)
	other := read(`[{"resource": "r", "limitApp": "other", "count": 1}, {"resource": "r", "limitApp": "a", "count": 2}]`)
	none := read(`[]`)
	if one.RuleHash == other.RuleHash || none.RuleHash != own.RuleHash {
		t.Errorf("hashes %x and %x, %x without and %x of its own", one.RuleHash, other.RuleHash, none.RuleHash, own.RuleHash)
	}
	if got := one.Rules[0].For().Only.Names; !slices.Equal(got, []string{"a", "mine"}) {
		t.Errorf("the others are not %q", got)
	}
	if _, err := ParseRules([]Document{{Text: []byte(`{"origin": {"from": "Host"}}`)}}, KindHTTP, own); err == nil ||
		err.Error() != "origin: belongs in the filter's configuration; a document has rules only" {
		t.Error(err)
	}
}
