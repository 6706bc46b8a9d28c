package config

import (
	"strconv"

	"github.com/buger/jsonparser"
)

// Failures is what counts as a failed request or connection.
type Failures struct {
	Status  StatusSet // status: of an HTTP response; default every 5xx
	GRPC    uint32    // grpc: bit n is set for the status n; default those that stand for an HTTP status of 500 or more
	Resets  bool      // resets: a response or connection that broke off, or a response that never came; default true
	Connect bool      // connect: an upstream that a TCP connection could not reach; default true
	// Configured is whether the configuration has failures at all: requests to every resource are then asked how they
	// ended, and not only where a circuit breaker counts it.
	Configured bool
}

// defaultGRPC are UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS.
const defaultGRPC = 1<<2 | 1<<4 | 1<<12 | 1<<13 | 1<<14 | 1<<15

// defaultFailures are those where the configuration has none.
func defaultFailures() Failures {
	f := Failures{GRPC: defaultGRPC, Resets: true, Connect: true}
	f.Status.addClass(5)
	return f
}

const minStatus, maxStatus = 100, 599

// StatusSet is a set of HTTP statuses: bit i of all its bits stands for the status 100 + i.
type StatusSet [(maxStatus - minStatus + 64) / 64]uint64

// Has is whether the set has a status. It has none outside 100 to 599.
func (s *StatusSet) Has(status int64) bool {
	i := uint64(status - minStatus)
	return i <= maxStatus-minStatus && s[i/64]>>(i%64)&1 == 1
}

// Empty is whether the set has no status.
func (s *StatusSet) Empty() bool { return *s == StatusSet{} }

func (s *StatusSet) add(status int) {
	i := status - minStatus
	s[i/64] |= 1 << (i % 64)
}

func (s *StatusSet) addClass(hundreds int) {
	for status := 100 * hundreds; status < 100*hundreds+100; status++ {
		s.add(status)
	}
}

// HasGRPC is whether a gRPC status is a failure.
func (f *Failures) HasGRPC(status uint64) bool { return status < 32 && f.GRPC>>status&1 == 1 }

func (p *parser) failures(at *place, v value, f *Failures) {
	f.Configured = true
	p.object(at, v, []field{
		{"status", p.only(KindHTTP, func(at *place, v value) { p.statuses(at, v, &f.Status) })},
		{"grpc", p.only(KindHTTP, func(at *place, v value) { p.grpcStatuses(at, v, &f.GRPC) })},
		{"resets", p.boolean(&f.Resets)},
		{"connect", p.only(KindTCP, p.boolean(&f.Connect))},
	})
}

// statuses reads a list of HTTP statuses and of classes of them, as "5xx". An empty one is no status.
func (p *parser) statuses(at *place, v value, set *StatusSet) {
	*set = StatusSet{}
	p.list(at, v, func(at *place, v value) bool {
		if v.typ == jsonparser.String {
			if len(v.raw) == 3 && v.raw[0] >= '1' && v.raw[0] <= '5' && string(v.raw[1:]) == "xx" {
				set.addClass(int(v.raw[0] - '0'))
				return true
			}
			p.add(at, "must be a status, or a class of them such as \"5xx\", got ", v.describe())
			return true
		}
		status, before := minStatus, p.count()
		if integer(p, &status, minStatus, maxStatus)(at, v); p.count() == before {
			set.add(status)
		}
		return true
	})
}

// grpcStatuses reads a list of gRPC statuses, by their numbers or their names. An empty one is no status.
func (p *parser) grpcStatuses(at *place, v value, set *uint32) {
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
