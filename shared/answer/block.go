// Package answer is what a client is told whose request is refused: what a filter, a resource or a rule says of it, and how
// that becomes a text.
package answer

import (
	"encoding/binary"
	"slices"
)

// Is is what somebody says of something: yes, no, or nothing.
type Is int8

// What is said. Unsaid is left to whoever says something.
const (
	Unsaid Is = iota
	No
	Yes
)

// Of is a boolean that was said.
func Of(yes bool) Is {
	if yes {
		return Yes
	}
	return No
}

// Block is an answer, or a part of one: the zero value of a field says nothing.
type Block struct {
	Status     int         // HTTP status, 200 to 599
	StatusOf   []OfKind    // for rules of some families in place of Status
	GRPCStatus int         // 1 to 16
	GRPCOf     []OfKind    // for rules of some families in place of GRPCStatus
	Body       string      // with placeholders; at most 64 KiB
	Problem    Is          // a document of RFC 9457 in place of Body
	Headers    [][2]string // names in lower case with their values, sorted by name
	Limited    Is          // whether the answer has x-envoy-ratelimited
}

// OfKind is a status for the rules of one family, by its name.
type OfKind struct {
	Kind   string
	Status int
}

// Over is what b says, and what it does not say as other does.
func (b Block) Over(other *Block) Block {
	b.Status, b.StatusOf = over(b.Status, b.StatusOf, other.Status, other.StatusOf)
	b.GRPCStatus, b.GRPCOf = over(b.GRPCStatus, b.GRPCOf, other.GRPCStatus, other.GRPCOf)
	if b.Body == "" && b.Problem == Unsaid {
		b.Body, b.Problem = other.Body, other.Problem
	}
	if b.Headers == nil {
		b.Headers = other.Headers
	}
	if b.Limited == Unsaid {
		b.Limited = other.Limited
	}
	return b
}

// Merge is what holds where a filter's, a resource's and a rule's answers are given; the last two may be nil.
func Merge(filter Block, resource, rule *Block) Block {
	for _, over := range []*Block{resource, rule} {
		if over != nil {
			filter = over.Over(&filter)
		}
	}
	return filter
}

// over is the status that holds: one for all families hides those below it.
func over(status int, some []OfKind, below int, someBelow []OfKind) (int, []OfKind) {
	if status != 0 {
		return status, some
	}
	return below, append(slices.Clip(some), someBelow...)
}

// StatusFor is the HTTP status of the answer for a family, GRPCStatusFor that of gRPC.
func (b *Block) StatusFor(kind string) int { return statusFor(b.Status, b.StatusOf, kind) }

// GRPCStatusFor is described with StatusFor.
func (b *Block) GRPCStatusFor(kind string) int { return statusFor(b.GRPCStatus, b.GRPCOf, kind) }

func statusFor(status int, some []OfKind, kind string) int {
	for _, s := range some {
		if s.Kind == kind {
			return s.Status
		}
	}
	return status
}

// Has is whether the answer has a header of the operator's, by its lower-case name.
func (b *Block) Has(name string) bool {
	return slices.ContainsFunc(b.Headers, func(h [2]string) bool { return h[0] == name })
}

// ContentType is that of the headers, "" where they have none.
func (b *Block) ContentType() string {
	for _, h := range b.Headers {
		if h[0] == "content-type" {
			return h[1]
		}
	}
	return ""
}

// Append appends all that the block says, in one fixed form, to dst; of nil nothing.
func (b *Block) Append(dst []byte) []byte {
	if b == nil {
		return dst
	}
	dst = append(dst, byte(b.Problem), byte(b.Limited))
	dst = appendStatus(dst, b.Status, b.StatusOf)
	dst = appendStatus(dst, b.GRPCStatus, b.GRPCOf)
	dst = appendText(dst, b.Body)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(b.Headers)))
	for _, h := range b.Headers {
		dst = appendText(appendText(dst, h[0]), h[1])
	}
	return dst
}

func appendStatus(dst []byte, status int, some []OfKind) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(status))
	dst = append(dst, byte(len(some)))
	for _, s := range some {
		dst = binary.LittleEndian.AppendUint16(appendText(dst, s.Kind), uint16(s.Status))
	}
	return dst
}

func appendText(dst []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(s))), s...)
}
