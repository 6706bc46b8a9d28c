package answer

import "strconv"

// problems are the types of RFC 9457 that the IETF's draft of the rate limit headers has for its families of rules; an
// authority rule limits no rate, and its problem is the status itself.
var problems = map[string][2]string{
	"flow":           {"quota-exceeded", "Request cannot be satisfied as assigned quota has been exceeded"},
	"hotspot":        {"quota-exceeded", "Request cannot be satisfied as assigned quota has been exceeded"},
	"isolation":      {"temporary-reduced-capacity", "Request cannot be satisfied due to temporary server capacity constraints"},
	"circuitBreaker": {"temporary-reduced-capacity", "Request cannot be satisfied due to temporary server capacity constraints"},
	"system":         {"temporary-reduced-capacity", "Request cannot be satisfied due to temporary server capacity constraints"},
}

// ProblemType is the content type of a problem.
const ProblemType = "application/problem+json"

// AppendProblem appends the document of RFC 9457 to dst that says that a rule of a family has refused, and in detail why.
func AppendProblem(dst []byte, status int, kind, rule string, detail []byte) []byte {
	p, known := problems[kind]
	if known {
		dst = append(append(dst, `{"type":"https://iana.org/assignments/http-problem-types#`...), p[0]...)
		dst = append(append(dst, `","title":"`...), p[1]...)
	} else {
		dst = append(dst, `{"type":"about:blank","title":"Request refused`...)
	}
	dst = strconv.AppendInt(append(dst, `","status":`...), int64(status), 10)
	dst = append(dst, `,"detail":"`...)
	for _, r := range string(detail) {
		dst = appendRune(dst, r)
	}
	if known {
		dst = AppendJSON(append(dst, `","violated-policies":["`...), rule)
		return append(dst, "\"]}\n"...)
	}
	return append(dst, "\"}\n"...)
}
