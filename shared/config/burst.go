package config

import (
	"strconv"
	"strings"

	"github.com/buger/jsonparser"

	"sentinel-envoy/shared/rule"
)

// maxFillDays bounds how long a token bucket takes to fill, so that times in nanoseconds stay exact.
const maxFillDays = 100

// tokenBucket reads a bucket as Envoy writes it: threshold, statIntervalInMs and burst in other words.
func (r *rules) tokenBucket(at *place, v value, f *rule.Flow) {
	tokens := int64(1)
	fields := []field{
		{"max_tokens", integer(r.parser, &f.Burst, 1, maxExact)},
		{"tokens_per_fill", integer(r.parser, &tokens, 1, maxExact)},
		{"fill_interval", func(at *place, v value) { r.duration(at, v, &f.StatIntervalInMs) }},
	}
	seen := r.object(at, v, fields)
	f.Threshold = float64(tokens)
	for _, key := range []string{"max_tokens", "fill_interval"} {
		if !has(seen, fields, key) {
			r.add(at.at(key), "missing")
		}
	}
}

// duration reads a time as protobuf writes it in JSON, such as "1s" or "0.5s", in whole milliseconds.
func (r *rules) duration(at *place, v value, ms *uint64) {
	text, isDuration := strings.CutSuffix(string(v.raw), "s")
	seconds, err := strconv.ParseFloat(text, 64)
	if v.typ != jsonparser.String || !isDuration || err != nil || strings.Trim(text, "0123456789.") != "" {
		r.add(at, `must be a number of seconds with an s behind it, as "1s" or "0.5s", got `, v.describe())
		return
	}
	n := seconds * 1000
	if whole := float64(int64(n + 0.5)); n < 0.5 || n > maxWindow || n-whole > 1e-6 || whole-n > 1e-6 {
		r.add(at, "must be whole milliseconds from 0.001s to 31622400s, got ", v.describe())
		return
	}
	*ms = uint64(n + 0.5)
}

// checkBurst finds what does not go with a token bucket.
func (r *rules) checkBurst(s *saying, f *rule.Flow) {
	at := s.at.at("burst")
	if s.has("token_bucket") {
		at = s.at.at("token_bucket")
		for _, key := range []string{"burst", "threshold", "statIntervalInMs"} {
			if s.has(key) {
				r.add(s.at.at(key), "must be left out with token_bucket, which says it")
			}
		}
	}
	switch {
	case f.Burst == 0:
	case f.CountOnly != nil:
		r.add(at, "does not go with countOnly, which only counts; leave it out")
	case f.Cluster != nil:
		r.add(at, "does not go with clusterMode: the service counts in windows; leave it out")
	case f.ControlBehavior == rule.Throttling:
		r.add(at, "does not go with controlBehavior Throttling, which lets nothing in at once; leave it out, or write Reject")
	case f.TokenCalculateStrategy != rule.Direct:
		r.add(at, "goes with tokenCalculateStrategy Direct: a bucket fills evenly; leave it out")
	case f.RelationStrategy == rule.AssociatedResource:
		r.add(at, "does not go with relationStrategy AssociatedResource, which takes nothing of its own resource; leave it out")
	case f.Unit != rule.NoUnit:
		r.add(at, "does not go with unit: a bucket fills evenly; leave one of them out")
	case f.Window != rule.SlidingWindow:
		r.add(at, "does not go with window: a bucket has none; leave one of them out")
	case f.Threshold == 0:
		r.add(s.at.at("threshold"), "must be > 0 with burst: nothing would ever come back")
	case float64(f.Burst)/f.Threshold*float64(f.StatIntervalInMs) > maxFillDays*24*3600*1000:
		r.add(at, "takes more than ", strconv.Itoa(maxFillDays), " days to fill; write less, or a larger threshold")
	}
}
