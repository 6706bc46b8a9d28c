package outcome

import "strconv"

// Failures is what counts as a failed request or connection.
type Failures struct {
	Status  StatusSet // status: of an HTTP response; default every 5xx
	GRPC    GRPCSet   // grpc: default those that stand for an HTTP status of 500 or more
	Resets  bool      // resets: a response or connection that broke off, or a response that never came; default true
	Connect bool      // connect: an upstream that a TCP connection could not reach; default true
	// AbandonedAfterMs is abandoned_after_ms: how long a client must have waited in vain, in milliseconds, for its leaving
	// to be a failure; 0, the default, is never.
	AbandonedAfterMs uint32
	// Configured is whether the configuration has failures at all: requests to every resource are then asked how they ended,
	// and not only where a circuit breaker counts it.
	Configured bool
}

// defaultGRPC are UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS.
const defaultGRPC = 1<<2 | 1<<4 | 1<<12 | 1<<13 | 1<<14 | 1<<15

// DefaultFailures are those where the configuration has none.
func DefaultFailures() Failures {
	f := Failures{GRPC: defaultGRPC, Resets: true, Connect: true}
	f.Status.AddClass(5)
	return f
}

// GRPCSet is a set of gRPC statuses: bit n is set for the status n.
type GRPCSet uint32

// Has is whether the set has a status.
func (s GRPCSet) Has(status uint64) bool { return status < 32 && s>>status&1 == 1 }

// String is the set as a list of numbers with commas between.
func (s GRPCSet) String() string {
	var b []byte
	for status := range uint64(32) {
		if s.Has(status) {
			b = append(strconv.AppendUint(b, status, 10), ',')
		}
	}
	return string(b[:max(len(b)-1, 0)])
}

// MinStatus and MaxStatus bound what a StatusSet can have.
const MinStatus, MaxStatus = 100, 599

// Answer is what is known so far of the answer to a request.
type Answer struct {
	// Status is its HTTP status, 0 where it was told before.
	Status int64
	// GRPC is its gRPC status, where HasGRPC.
	GRPC    uint64
	HasGRPC bool
}

// StatusSet is a set of HTTP statuses: bit i of all its bits stands for the status 100 + i.
type StatusSet [(MaxStatus - MinStatus + 64) / 64]uint64

// Has is whether the set has a status. It has none outside 100 to 599.
func (s *StatusSet) Has(status int64) bool {
	i := uint64(status - MinStatus)
	return i <= MaxStatus-MinStatus && s[i/64]>>(i%64)&1 == 1
}

// Empty is whether the set has no status.
func (s *StatusSet) Empty() bool { return *s == StatusSet{} }

// String is the set as a list of statuses with commas between; a class that it has all of is written as "5xx".
func (s *StatusSet) String() string {
	var b []byte
	for class := int64(1); class <= 5; class++ {
		n, start := 0, len(b)
		for status := 100 * class; status < 100*class+100; status++ {
			if s.Has(status) {
				n, b = n+1, append(strconv.AppendInt(b, status, 10), ',')
			}
		}
		if n == 100 {
			b = append(strconv.AppendInt(b[:start], class, 10), "xx,"...)
		}
	}
	return string(b[:max(len(b)-1, 0)])
}

// Add adds a status from MinStatus to MaxStatus.
func (s *StatusSet) Add(status int) {
	i := status - MinStatus
	s[i/64] |= 1 << (i % 64)
}

// AddClass adds a class of statuses, by its first digit.
func (s *StatusSet) AddClass(hundreds int) {
	for status := 100 * hundreds; status < 100*hundreds+100; status++ {
		s.Add(status)
	}
}
