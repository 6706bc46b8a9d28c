package answer

import (
	"encoding/json"
	"encoding/xml"
	"html"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// hostile is what a client may write into x-request-id, and more.
const hostile = "\"}]<script>alert('x')</script>&\\\r\n\x00\x7f\xff\u2028{rule}%&=+ ü"

// What stands for a placeholder is one value in every content type, whatever it is.
func TestPlaceholdersAreEscaped(t *testing.T) {
	v := &Values{Rule: "r", Kind: "flow", Resource: "/a", RequestID: hostile, RetryAfter: 7}
	fill := func(body, kind string) string { return string(NewText(body, kind).Append(nil, v)) }

	for _, kind := range []string{"application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json", "text/javascript"} {
		var got struct {
			Rule, ID string
			Retry    int
		}
		text := fill(`{"rule": "{rule}", "id": "{request_id}", "retry": {retry_after}}`, kind)
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.Rule != "r" || got.Retry != 7 || got.ID != strings.ToValidUTF8(hostile, "\ufffd") {
			t.Errorf("%s: %v: %q is %+v", kind, err, text, got)
		}
		if strings.ContainsAny(text, "<>'\u2028\r\n") {
			t.Errorf("%s: %q ends a script", kind, text)
		}
	}
	for _, kind := range []string{"text/html", "application/xhtml+xml", "text/xml"} {
		text := fill(`<p title="{request_id}" class='{request_id}'>{request_id}</p>`, kind)
		var got struct {
			Title string `xml:"title,attr"`
			Text  string `xml:",chardata"`
		}
		if err := xml.Unmarshal([]byte(text), &got); err != nil || got.Title != got.Text || strings.Contains(text, "<script") ||
			!strings.Contains(html.UnescapeString(text), "alert('x')") {
			t.Errorf("%s: %v: %q", kind, err, text)
		}
	}
	text := fill("a={request_id}&b={retry_after}", "application/x-www-form-urlencoded")
	if q, err := url.ParseQuery(text); err != nil || q.Get("a") != hostile || q.Get("b") != "7" {
		t.Errorf("%q: %v: %q", text, err, q)
	}
	for _, kind := range []string{"", "text/plain", "text/csv"} {
		text := fill("{request_id}", kind)
		if !utf8.ValidString(text) || strings.ContainsAny(text, "\r\n\x00\x7f") {
			t.Errorf("%s: %q", kind, text)
		}
	}
}

// Only the placeholders are ones: JSON and CSS have braces, too.
func TestOtherBracesStay(t *testing.T) {
	v := &Values{Rule: "r", Kind: "k", Resource: "s", RequestID: "i", RetryAfter: -1}
	for body, want := range map[string]string{
		"": "", "{": "{", "{}": "{}", "{rule": "{rule", "{{rule}}": "{r}", "{Rule}{ rule}": "{Rule}{ rule}", "{ruler}{rule}": "{ruler}r",
		"p {color: red} {rule}:{kind}:{resource}:{request_id}": "p {color: red} r:k:s:i", "in {retry_after} s": "in  s",
	} {
		if got := string(NewText(body, "text/plain").Append(nil, v)); got != want {
			t.Errorf("%q is %q, want %q", body, got, want)
		}
	}
	if got := string(NewText("[{retry_after}]", "application/json").Append(nil, v)); got != "[null]" {
		t.Errorf("an unknown number is %s", got)
	}
	if NewText("{rule}", "").AsksRequest || !NewText("{request_id}", "").AsksRequest || NewText("{x}", "").Asks {
		t.Error("what a body asks for is not what is in it")
	}
}

func TestProblemsAreDocuments(t *testing.T) {
	for kind, want := range map[string]string{
		"flow": "quota-exceeded", "hotspot": "quota-exceeded", "isolation": "temporary-reduced-capacity",
		"circuitBreaker": "temporary-reduced-capacity", "system": "temporary-reduced-capacity", "authority": "",
	} {
		var got struct {
			Type, Title, Detail string
			Status              int
			Policies            []string `json:"violated-policies"`
		}
		text := AppendProblem(nil, 429, kind, `a "rule"`, []byte("why\n\xff"))
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%s: %v: %q", kind, err, text)
		}
		typ, policies := "about:blank", []string(nil)
		if want != "" {
			typ, policies = "https://iana.org/assignments/http-problem-types#"+want, []string{`a "rule"`}
		}
		if got.Type != typ || got.Title == "" || got.Detail != "why\n\ufffd" || got.Status != 429 || !reflect.DeepEqual(got.Policies, policies) {
			t.Errorf("%s: %q", kind, text)
		}
	}
}

// A rule's word goes before its resource's, and that before the filter's, each key by itself; body and problem are one, and
// so are a status and those of kinds.
func TestMerge(t *testing.T) {
	filter := Block{Status: 429, StatusOf: []OfKind{{"system", 503}}, GRPCStatus: 8, Body: "f", Problem: No, Headers: [][2]string{{"a", "f"}}, Limited: Yes}
	for _, c := range []struct {
		name           string
		resource, rule *Block
		want           Block
		system         int
	}{
		{"nothing", nil, &Block{}, filter, 503},
		{"a rule's status hides those of kinds", nil, &Block{Status: 418},
			Block{Status: 418, GRPCStatus: 8, Body: "f", Problem: No, Headers: filter.Headers, Limited: Yes}, 418},
		{"the resource's", &Block{Body: "r", Limited: No, Headers: [][2]string{}}, nil,
			Block{Status: 429, StatusOf: filter.StatusOf, GRPCStatus: 8, Body: "r", Headers: [][2]string{}, Limited: No}, 503},
		{"the rule's before it", &Block{Body: "r", Status: 500}, &Block{Problem: Yes, StatusOf: []OfKind{{"system", 504}}},
			Block{Status: 500, StatusOf: []OfKind{{"system", 504}}, GRPCStatus: 8, Problem: Yes, Headers: filter.Headers, Limited: Yes}, 504},
		{"no problem, and so our own text", &Block{Problem: Yes}, &Block{Problem: No},
			Block{Status: 429, StatusOf: filter.StatusOf, GRPCStatus: 8, Problem: No, Headers: filter.Headers, Limited: Yes}, 503},
	} {
		got := Merge(filter, c.resource, c.rule)
		if !reflect.DeepEqual(got, c.want) || got.StatusFor("system") != c.system {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	if filter.Status != 429 || len(filter.StatusOf) != 1 {
		t.Errorf("the filter's is now %+v", filter)
	}
}
