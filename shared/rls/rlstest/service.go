// Package rlstest is a rate limit service in memory, for tests that must control its clock.
package rlstest

import (
	"strings"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Limit is what a descriptor may have: hits per unit.
type Limit struct {
	Hits uint32
	Unit ratelimit.RateLimitResponse_RateLimit_Unit
	// Shadow is whether it only watches, Unlimited whether it does not count.
	Shadow, Unlimited bool
}

// Service counts as envoyproxy/ratelimit does: in fixed windows by a clock of whole seconds, hits that it refuses too.
type Service struct {
	// Limits are by the descriptors, as "rule=orders;value=7"; Any is that of all others, if it has hits.
	Limits map[string]Limit
	Any    Limit
	counts map[key]uint64
	// Calls counts what was asked.
	Calls int
}

type key struct {
	descriptor string
	window     int64
}

// New returns a service with limits.
func New(limits map[string]Limit) *Service {
	return &Service{Limits: limits, counts: map[key]uint64{}}
}

var seconds = map[ratelimit.RateLimitResponse_RateLimit_Unit]int64{
	ratelimit.RateLimitResponse_RateLimit_SECOND: 1,
	ratelimit.RateLimitResponse_RateLimit_MINUTE: 60,
	ratelimit.RateLimitResponse_RateLimit_HOUR:   3600,
}

// Seconds is how long the unit is.
func (l Limit) Seconds() int64 { return seconds[l.Unit] }

// Counted is how many hits a descriptor has in the window of a time in the service's seconds.
func (s *Service) Counted(descriptor string, at int64) uint64 {
	return s.counts[key{descriptor, at / max(s.Limits[descriptor].Seconds(), 1)}]
}

// ShouldRateLimit answers a request. The service reads its clock twice: counts and tells are the seconds that it read.
func (s *Service) ShouldRateLimit(message []byte, counts, tells int64) ([]byte, error) {
	var request ratelimit.RateLimitRequest
	if err := proto.Unmarshal(message, &request); err != nil {
		return nil, err
	}
	s.Calls++
	answer := &ratelimit.RateLimitResponse{OverallCode: ratelimit.RateLimitResponse_OK}
	for _, d := range request.GetDescriptors() {
		hits := max(uint64(request.GetHitsAddend()), 1)
		if own := d.GetHitsAddend(); own != nil {
			hits = own.GetValue()
		}
		var name []string
		for _, e := range d.GetEntries() {
			name = append(name, e.GetKey()+"="+e.GetValue())
		}
		status := s.count(strings.Join(name, ";"), hits, counts, tells)
		if status.GetCode() == ratelimit.RateLimitResponse_OVER_LIMIT {
			answer.OverallCode = status.GetCode()
		}
		answer.Statuses = append(answer.Statuses, status)
	}
	return proto.Marshal(answer)
}

func (s *Service) count(descriptor string, hits uint64, counts, tells int64) *ratelimit.RateLimitResponse_DescriptorStatus {
	status := &ratelimit.RateLimitResponse_DescriptorStatus{Code: ratelimit.RateLimitResponse_OK}
	limit, known := s.Limits[descriptor]
	if !known {
		limit = s.Any
	}
	switch {
	case limit.Unlimited:
		status.LimitRemaining = 1<<32 - 1
		return status
	case limit.Unit == 0:
		return status
	}
	unit := limit.Seconds()
	at := key{descriptor, counts / unit}
	s.counts[at] += hits
	status.CurrentLimit = &ratelimit.RateLimitResponse_RateLimit{RequestsPerUnit: limit.Hits, Unit: limit.Unit}
	status.DurationUntilReset = durationpb.New(0)
	status.DurationUntilReset.Seconds = unit - tells%unit
	if counted := s.counts[at]; counted <= uint64(limit.Hits) {
		status.LimitRemaining = limit.Hits - uint32(counted)
	} else if !limit.Shadow {
		status.Code = ratelimit.RateLimitResponse_OVER_LIMIT
	}
	return status
}
