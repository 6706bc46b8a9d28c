// Package machine knows the load, the CPU usage and the memory in use of the machine, from a source that answers in
// node_exporter's text format. One worker asks it for all that have it.
package machine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strconv"
)

// Unknown is a figure that is not known.
const Unknown = -1

// Figures are those of the machine. Each is Unknown where the source did not say.
type Figures struct {
	// At is when the source was read, in nanoseconds, and Interval how often it is.
	At, Interval int64
	// Load is the load average over one minute, CPU the part of all CPUs' time that was in use between the last two
	// readings, 0 to 1, and Memory the bytes in use.
	Load, CPU, Memory float64
	// idle and total are the seconds that all CPUs were idle, and in all, since the machine started.
	idle, total float64
}

// Stale is whether the figures are older at the time now than a source may be silent: three intervals. Those of a time to
// come, but for a little that our reading of the clock may be behind, were written by nobody of us.
func (f Figures) Stale(now int64) bool {
	age := now - f.At
	return f.At == 0 || age > 3*f.Interval || age < -3*f.Interval
}

// ErrNoFigures means that a source's answer had nothing that we look for.
var ErrNoFigures = errors.New("machine: neither load, CPU time nor memory in node_exporter's text format")

// Read takes the figures out of an answer of node_exporter's, at the time now in nanoseconds. The CPU's use is that since
// before, which may be the zero Figures. A figure that is missing or makes no sense is Unknown.
func Read(answer []byte, before Figures, now, interval int64) (Figures, error) {
	f := Figures{At: now, Interval: interval, Load: Unknown, CPU: Unknown, Memory: Unknown}
	memory, available := float64(Unknown), float64(Unknown)
	for len(answer) > 0 {
		var line []byte
		line, answer, _ = bytes.Cut(answer, []byte("\n"))
		name, labels, value, ok := sample(line)
		if !ok {
			continue
		}
		switch string(name) {
		case "node_load1":
			f.Load = value
		case "node_cpu_seconds_total":
			f.total += value
			if bytes.Contains(labels, []byte(`mode="idle"`)) || bytes.Contains(labels, []byte(`mode="iowait"`)) {
				f.idle += value
			}
		case "node_memory_MemTotal_bytes":
			memory = value
		case "node_memory_MemAvailable_bytes":
			available = value
		}
	}
	if memory >= 0 && available >= 0 && available <= memory {
		f.Memory = memory - available
	}
	if elapsed := f.total - before.total; before.total > 0 && elapsed > 0 && elapsed < math.Inf(1) && f.idle >= before.idle {
		f.CPU = max(0, 1-(f.idle-before.idle)/elapsed)
	}
	if f.Load == Unknown && f.total == 0 && f.Memory == Unknown {
		return Figures{}, ErrNoFigures
	}
	return f, nil
}

// sample splits a line of the text format. ok is false for comments, other lines, and values that cannot be.
func sample(line []byte) (name, labels []byte, value float64, ok bool) {
	if !bytes.HasPrefix(line, []byte("node_")) {
		return nil, nil, 0, false
	}
	end := bytes.IndexAny(line, "{ \t")
	if end < 0 {
		return nil, nil, 0, false
	}
	name, rest := line[:end], line[end:]
	if rest[0] == '{' {
		closing := bytes.IndexByte(rest, '}')
		if closing < 0 {
			return nil, nil, 0, false
		}
		labels, rest = rest[:closing], rest[closing+1:]
	}
	fields := bytes.Fields(rest) // the value, and perhaps a time
	if len(fields) == 0 {
		return nil, nil, 0, false
	}
	value, err := strconv.ParseFloat(string(fields[0]), 64)
	return name, labels, value, err == nil && value >= 0 && !math.IsInf(value, 0)
}

// maxInterval is longer than any source's, in nanoseconds, and so short that it can be taken three times.
const maxInterval = 1 << 60

// figuresSize is the length of a record's figures: seven numbers.
const figuresSize = 7 * 8

// Encode appends the figures to dst.
func (f Figures) Encode(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(f.At))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(f.Interval))
	for _, v := range [...]float64{f.Load, f.CPU, f.Memory, f.idle, f.total} {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	return dst
}

// Decode reads figures, the zero ones included, and reports false where they are none.
func Decode(record []byte) (f Figures, ok bool) {
	if len(record) != figuresSize {
		return Figures{}, false
	}
	at := func(i int) uint64 { return binary.LittleEndian.Uint64(record[8*i:]) }
	f.At, f.Interval = int64(at(0)), int64(at(1))
	ok = f.At >= 0 && f.Interval >= 0 && f.Interval <= maxInterval
	for i, v := range [...]*float64{&f.Load, &f.CPU, &f.Memory, &f.idle, &f.total} {
		*v = math.Float64frombits(at(2 + i))
		ok = ok && (*v >= 0 || *v == Unknown)
	}
	if !ok {
		return Figures{}, false
	}
	return f, true
}
