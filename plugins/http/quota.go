package http

import (
	"strconv"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/percent"
)

// quotas are the headers by which a client is told what is left, in memory that is kept.
type quotas struct {
	all   []family.Quota
	lines [3]line
	// headers are those of a refusal, with these.
	headers envoyhost.HeaderMap
}

// line is a header.
type line struct {
	name  string
	value []byte
}

// write makes the headers for the budgets of a request, at the time now in nanoseconds; none where it was asked of none.
func (q *quotas) write(s *stream, now int64) []line {
	if q.all = s.Entry.Quotas(q.all[:0], now); len(q.all) == 0 {
		return nil
	}
	for i := range q.lines {
		q.lines[i].value = q.lines[i].value[:0]
	}
	if s.Plugin.Config().RateLimitHeaders == config.Draft11 {
		return q.draft11()
	}
	return q.draft03()
}

// draft03 is as Envoy's own filters write it: the budget that ends first, and then all of them.
func (q *quotas) draft03() []line {
	limit, remaining, reset := &q.lines[0], &q.lines[1], &q.lines[2]
	limit.name, remaining.name, reset.name = "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"
	first := &q.all[0]
	limit.value = strconv.AppendInt(limit.value, first.Limit, 10)
	for i := range q.all {
		b := strconv.AppendInt(append(limit.value, ", "...), q.all[i].Limit, 10)
		b = strconv.AppendInt(append(b, ";w="...), seconds(q.all[i].WindowMs), 10)
		limit.value = appendQuoted(append(b, ";name="...), q.all[i].Rule)
	}
	remaining.value = strconv.AppendInt(remaining.value, first.Left, 10)
	reset.value = strconv.AppendInt(reset.value, seconds(first.ResetMs), 10)
	return q.lines[:3]
}

// draft11 is as the IETF's draft has it.
func (q *quotas) draft11() []line {
	policy, limit := &q.lines[0], &q.lines[1]
	policy.name, limit.name = "ratelimit-policy", "ratelimit"
	for i := range q.all {
		if i > 0 {
			policy.value, limit.value = append(policy.value, ", "...), append(limit.value, ", "...)
		}
		b := appendQuoted(policy.value, q.all[i].Rule)
		b = strconv.AppendInt(append(b, ";q="...), q.all[i].Limit, 10)
		policy.value = strconv.AppendInt(append(b, ";w="...), seconds(q.all[i].WindowMs), 10)
		b = appendQuoted(limit.value, q.all[i].Rule)
		b = strconv.AppendInt(append(b, ";r="...), q.all[i].Left, 10)
		limit.value = strconv.AppendInt(append(b, ";t="...), seconds(q.all[i].ResetMs), 10)
	}
	return q.lines[:2]
}

// seconds are whole ones, and not too few.
func seconds(ms int64) int64 { return (ms + 999) / 1000 }

// appendQuoted appends a name as a string of structured fields, RFC 9651, which has ASCII only.
func appendQuoted(dst []byte, name string) []byte {
	dst = append(dst, '"')
	for i := range len(name) {
		switch c := name[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		default:
			dst = percent.Append(dst, name[i:i+1], &percent.Printable)
		}
	}
	return append(dst, '"')
}

// quote adds to a refusal what is left of the budgets that the request was asked of. What the operator's headers say, stays.
func (s *stream) quote(a *answers, r reply, now int64) reply {
	q := &s.handler.quotas
	q.headers.Reset()
	q.headers.AddAll(r.headers)
	for _, l := range q.write(s, now) {
		if !a.block.Has(l.name) {
			q.headers.AddBytes(l.name, l.value)
		}
	}
	r.headers = &q.headers
	return r
}
