// Package rls is the protocol of Envoy's rate limit service (envoy.service.ratelimit.v3), as far as a limiter needs it:
// the request with one descriptor, and of the answer what was decided and for how long.
//
// It is encoded by hand: the generated messages and what they stand on would add more to the Wasm binary than all rules.
package rls

import (
	"encoding/binary"
	"errors"
	"math"
)

// Service and Method are what is called, by gRPC.
const (
	Service = "envoy.service.ratelimit.v3.RateLimitService"
	Method  = "ShouldRateLimit"
)

// Entry is one of a descriptor's: the service's configuration is a tree of keys and values.
type Entry struct{ Key, Value string }

// Code is a decision of the service's.
type Code uint8

// The codes, by the protocol's numbers. The service never answers with the first.
const (
	Unknown Code = iota
	OK
	OverLimit
)

// Unit is what a limit is for, by the protocol's numbers.
type Unit uint8

// Seconds is how long the unit is, as the service computes its windows, 0 of one that is not known here.
func (u Unit) Seconds() int64 {
	const day = 24 * 3600
	seconds := [...]int64{1: 1, 2: 60, 3: 3600, 4: day, 5: 30 * day, 6: 365 * day, 7: 7 * day}
	if int(u) >= len(seconds) {
		return 0
	}
	return seconds[u]
}

// Answer is what the service has said about a request of one descriptor.
type Answer struct {
	// Code is that of the whole, which is OK also where the service only watches.
	Code Code
	// Limited is whether the service has a limit for the descriptor: Limit hits in a Unit. Remaining is how many of them are
	// left, math.MaxUint32 also where it says of a descriptor that it has no limit.
	Limited   bool
	Limit     uint32
	Unit      Unit
	Remaining uint32
	// ResetSeconds is in how many of the service's full seconds its window ends, 0 where it does not say.
	ResetSeconds int64
}

// Unlimited is whether the service knows the descriptor and does not limit it.
func (a *Answer) Unlimited() bool { return !a.Limited && a.Remaining == math.MaxUint32 }

// ErrMalformed is the error of an answer that is none.
var ErrMalformed = errors.New("malformed answer of the rate limit service")

// The wire types of protobuf.
const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

// AppendRequest appends a RateLimitRequest to dst that counts hits on one descriptor of a domain. No hits at all only ask;
// a service from before 2025 counts one then.
func AppendRequest(dst []byte, domain string, entries []Entry, hits uint32) []byte {
	dst = appendString(dst, 1, domain)
	size := 0
	for _, e := range entries {
		size += sizeOfField(sizeOfEntry(e))
	}
	if hits == 0 {
		size += 2
	}
	dst = appendTag(dst, 2, size)
	for _, e := range entries {
		dst = appendString(appendString(appendTag(dst, 1, sizeOfEntry(e)), 1, e.Key), 2, e.Value)
	}
	if hits == 0 { // the descriptor's own hits_addend, a message, tells 0 from nothing
		return appendTag(dst, 3, 0)
	}
	return binary.AppendUvarint(append(dst, 3<<3|wireVarint), uint64(hits))
}

// AppendCluster appends a GrpcService to dst that names a cluster of Envoy's.
func AppendCluster(dst []byte, cluster string) []byte {
	return appendString(appendTag(dst, 1, sizeOfField(len(cluster))), 1, cluster)
}

// Inlined, these would take ten times as much of the binary; they are called once in many requests.
//
//go:noinline
func appendTag(dst []byte, number, size int) []byte {
	return binary.AppendUvarint(append(dst, byte(number<<3|wireBytes)), uint64(size))
}

//go:noinline
func appendString(dst []byte, number int, s string) []byte {
	return append(appendTag(dst, number, len(s)), s...)
}

func sizeOfEntry(e Entry) int { return sizeOfField(len(e.Key)) + sizeOfField(len(e.Value)) }

// sizeOfField is how many bytes a field takes that has size bytes, with its tag and its size.
func sizeOfField(size int) int {
	n := 2 + size
	for rest := size; rest >= 0x80; rest >>= 7 {
		n++
	}
	return n
}

// Decode reads a RateLimitResponse. Fields that are not needed are passed over; of several descriptors the first counts.
func Decode(message []byte) (a Answer, err error) {
	statuses := 0
	err = fields(message, func(tag, v uint64, content []byte) error {
		switch tag {
		case 1<<3 | wireVarint:
			a.Code = Unknown
			if v == uint64(OK) || v == uint64(OverLimit) {
				a.Code = Code(v)
			}
		case 2<<3 | wireBytes:
			if statuses++; statuses == 1 {
				return a.status(content)
			}
		}
		return nil
	})
	if err == nil && a.Code == Unknown {
		err = ErrMalformed
	}
	return a, err
}

// status reads a DescriptorStatus, but for its code.
func (a *Answer) status(message []byte) error {
	return fields(message, func(tag, v uint64, content []byte) error {
		switch tag {
		case 2<<3 | wireBytes:
			a.Limited = true
			return a.limit(content)
		case 3<<3 | wireVarint:
			a.Remaining = uint32(v)
		case 4<<3 | wireBytes:
			return a.reset(content)
		}
		return nil
	})
}

// limit reads a RateLimit.
func (a *Answer) limit(message []byte) error {
	return fields(message, func(tag, v uint64, _ []byte) error {
		switch tag {
		case 1<<3 | wireVarint:
			a.Limit = uint32(v)
		case 2<<3 | wireVarint:
			a.Unit = Unit(min(v, math.MaxUint8))
		}
		return nil
	})
}

// reset reads a Duration.
func (a *Answer) reset(message []byte) error {
	return fields(message, func(tag, v uint64, _ []byte) error {
		if tag == 1<<3|wireVarint {
			a.ResetSeconds = min(max(int64(v), 0), maxReset)
		}
		return nil
	})
}

// maxReset is the longest time that a window can have left, in seconds: a year's.
const maxReset = 366 * 24 * 3600

// fields calls f with each field of a message: its tag, and its value or its content.
func fields(message []byte, f func(tag, v uint64, content []byte) error) error {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 || tag>>3 == 0 {
			return ErrMalformed
		}
		v, content, size := field(byte(tag&7), message[n:])
		if size == 0 {
			return ErrMalformed
		}
		if err := f(tag, v, content); err != nil {
			return err
		}
		message = message[n+size:]
	}
	return nil
}

// field reads what follows a tag, which is size bytes, 0 where it is none.
func field(wire byte, b []byte) (v uint64, content []byte, size int) {
	switch wire {
	case wireVarint:
		v, n := binary.Uvarint(b)
		return v, nil, max(n, 0)
	case wireBytes:
		length, n := binary.Uvarint(b)
		if n <= 0 || length > uint64(len(b)-n) {
			return 0, nil, 0
		}
		end := n + int(length)
		return 0, b[n:end], end
	case wire64:
		size = 8
	case wire32:
		size = 4
	}
	if len(b) < size {
		return 0, nil, 0
	}
	return 0, nil, size
}
