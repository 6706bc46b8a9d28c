package config

import (
	"strconv"

	"github.com/buger/jsonparser"

	"sentinel-envoy/shared/outcome"
)

// maxAbandonedMs is the largest abandoned_after_ms: a day.
const maxAbandonedMs = 24 * 3600 * 1000

func (p *parser) failures(at *place, v value, f *outcome.Failures) {
	f.Configured = true
	p.object(at, v, []field{
		{"status", p.only(KindHTTP, func(at *place, v value) { p.statuses(at, v, &f.Status) })},
		{"grpc", p.only(KindHTTP, func(at *place, v value) { p.grpcStatuses(at, v, &f.GRPC) })},
		{"resets", p.boolean(&f.Resets)},
		{"abandoned_after_ms", integer(p, &f.AbandonedAfterMs, 0, maxAbandonedMs)},
		{"connect", p.only(KindTCP, p.boolean(&f.Connect))},
	})
}

// statuses reads a list of HTTP statuses and of classes of them, as "5xx". An empty one is no status.
func (p *parser) statuses(at *place, v value, set *outcome.StatusSet) {
	*set = outcome.StatusSet{}
	p.list(at, v, func(at *place, v value) bool {
		if v.typ == jsonparser.String {
			if len(v.raw) == 3 && v.raw[0] >= '1' && v.raw[0] <= '5' && string(v.raw[1:]) == "xx" {
				set.AddClass(int(v.raw[0] - '0'))
				return true
			}
			p.add(at, "must be a status, or a class of them such as \"5xx\", got ", v.describe())
			return true
		}
		status, before := outcome.MinStatus, p.count()
		if integer(p, &status, outcome.MinStatus, outcome.MaxStatus)(at, v); p.count() == before {
			set.Add(status)
		}
		return true
	})
}

// grpcStatuses reads a list of gRPC statuses, by their numbers or their names. An empty one is no status.
func (p *parser) grpcStatuses(at *place, v value, set *outcome.GRPCSet) {
	*set = 0
	p.list(at, v, func(at *place, v value) bool {
		if v.typ == jsonparser.String {
			for i, name := range grpcNames {
				if i > 0 && string(v.raw) == name {
					*set |= 1 << i
					return true
				}
			}
			p.add(at, "must be a gRPC status from 1 to ", strconv.Itoa(len(grpcNames)-1), ", or its name such as \"UNAVAILABLE\", got ", v.describe())
			return true
		}
		status, before := 0, p.count()
		if integer(p, &status, 1, int64(len(grpcNames)-1))(at, v); p.count() == before {
			*set |= 1 << status
		}
		return true
	})
}

var grpcNames = [...]string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL",
	"UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}
